"""Similarities of all pairs of a family's units, kept up to date while its neighbours move.

Where a neighbour renumbers some of its indices, the product of these alone is added; where a family
is renumbered itself, the columns of its own matrix change places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.backend import Array
from rebasin_hub.align.family import Family, View, families, operand
from rebasin_hub.align.later import Later, made
from rebasin_hub.align.nearest import nearest
from rebasin_hub.align.problem import Problem
from rebasin_hub.assign import solve_assignment
from rebasin_hub.assign.small import SMALL, is_finite, solve_small
from rebasin_hub.errors import NotFiniteError
from rebasin_hub.permute import Index

__all__ = ["Matrices", "Totals"]

LEAST_ROOM = 1 << 30
"""Bytes of matrices that are kept in any case."""


WIDER = 4.0
"""Numbers of each unit that differences may be made of, over those of the product they add to.

Beyond it the product is made anew: rounding stays that of a product five times as wide. Every
difference is less work than the product, so that it never pays to make this smaller.
"""


class Matrices:
    """Where matrices of families are between updates: in memory."""

    def __init__(self) -> None:
        self._held: dict[str, Array] = {}

    def get(self, root: str) -> Array:
        """Return a family's matrix; who changes it puts it back."""
        return self._held[root]

    def put(self, root: str, matrix: Array) -> None:
        """Keep a family's matrix."""
        self._held[root] = matrix

    def room(self, root: str) -> Array | None:
        """Return a matrix that may be overwritten, if there is one."""
        return self._held.get(root)


@dataclass(eq=False)
class _Total:
    """What is known of one family's matrix (units of A, units of B), and prices of its columns.

    `kept` says that there is room for it. `width` counts the numbers of each unit that it was made
    of as a whole, `added` those of the differences since then; without `width` it is out of date.
    """

    family: Family
    prices: NDArray[np.float64] | None = None
    kept: bool = False
    width: int = 0
    added: int = 0


class Totals:
    """The matrices of linear families without dependents, for one state of a descent.

    What is kept takes no more memory than one of the two models, or a gibibyte; families for
    which there is no room left have their matrix made anew each time.

    Args:
        problem: what is solved.
        matrices: where they are kept; in memory by default.

    """

    def __init__(self, problem: Problem, matrices: Matrices | None = None) -> None:
        self._problem = problem
        self._matrices = matrices or Matrices()
        self._known: dict[str, _Total] = {}
        self._rows: dict[View, Array] = {}
        self._most = max(LEAST_ROOM, sum(_bytes(term.a) for term in problem.terms))
        self._left = self._most
        self._left_for_rows: int | None = None

    @staticmethod
    def fit(family: Family) -> bool:
        """Tell whether one matrix says all there is to know about a family."""
        return family.linear and len(family.group.factors) == 1

    def clear(self) -> None:
        """Forget everything but where to put it: the state is somewhere else."""
        for total in self._known.values():
            total.width, total.prices = 0, None

    def matched(self, family: Family, b: Sequence[Array | Later]) -> Index:
        """Return the best numbering of a family, going on from the prices of its last one."""
        backend, total = self._problem.backend, self._known.setdefault(family.root, _Total(family))
        if total.width:
            matrix = self._matrices.get(family.root)
        else:
            pairs = [(self._units(v), operand(backend, b[v.term], v)) for v in family.views]
            found = nearest(backend, pairs)
            if found is not None:
                return found
            matrix = self._made(total, pairs)
        total.prices, columns = self._solved(backend.numpy(matrix), total.prices)
        return columns

    def renumber(self, family: Family, index: Index) -> None:
        """Follow a family that is renumbered itself."""
        total = self._known.get(family.root)
        if total is None:
            return
        if total.prices is not None:
            total.prices = total.prices[index]
        if total.width:
            backend = self._problem.backend
            matrix = self._matrices.get(family.root)
            backend.renumber_fastest(matrix, backend.asarray(index))
            self._matrices.put(family.root, matrix)

    def watched(self, number: int, mover: Family) -> list[tuple[_Total, View]]:
        """Return the matrices in which a term takes part, but for that of its mover."""
        return [
            (total, view)
            for total in self._known.values()
            if total.width and total.family is not mover
            for view in total.family.views
            if view.term == number
        ]

    def add(
        self, total: _Total, view: View, a: Array, changes: Sequence[tuple[Array, int]]
    ) -> None:
        """Follow a neighbour: the same slices of a term's A, and how those of B have changed.

        That is a sum of arrays, each with its sign.
        """
        backend = self._problem.backend
        total.added += math.prod(a.shape) // a.shape[view.active[0]]
        if total.added > WIDER * total.width:
            total.width = 0
            return
        left = operand(backend, a, view)
        matrix = self._matrices.get(total.family.root)
        for change, sign in changes:
            backend.add_product(matrix, left, operand(backend, change, view), sign)
        self._matrices.put(total.family.root, matrix)

    def _made(self, total: _Total, pairs: Sequence[tuple[Array | Later, Array | Later]]) -> Array:
        """Make a family's matrix anew, and keep it if there is room."""
        backend, xp, width = self._problem.backend, self._problem.backend.xp, 0
        matrix = self._matrices.room(total.family.root)
        if matrix is None:
            # Types may differ between terms.
            kind = backend.product_type(*(rows.dtype for pair in pairs for rows in pair))
            size = pairs[0][0].shape[0]
            matrix = xp.empty((size, size), dtype=kind, device=backend.device)
        matrix[:] = 0
        for left, right in pairs:
            backend.add_product(matrix, made(left), made(right))
            width += left.shape[-1]
        total.kept = total.kept or self._keep(matrix)
        if total.kept:
            self._matrices.put(total.family.root, matrix)
            total.width, total.added = width, 0
        return matrix

    def _solved(
        self, matrix: NDArray[Any], prices: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64], Index]:
        """Return new prices and the best assignment, which does not depend on the earlier ones."""
        if len(matrix) >= SMALL:
            solved = solve_assignment(matrix, start=prices)
            return solved.column_prices, solved.columns
        # The products of finite numbers may overflow all the same.
        if not is_finite(matrix):
            raise NotFiniteError(
                "the products of two models' weights overflow float32; scale the weights down, or "
                "store them as float64"
            )
        columns, prices = solve_small(matrix, np.zeros(len(matrix)) if prices is None else prices)
        return prices, columns

    def _units(self, view: View) -> Array | Later:
        """Return A's units as rows, which are laid out once if there is room."""
        if view in self._rows:
            return self._rows[view]
        a = self._problem.terms[view.term].a
        rows = operand(self._problem.backend, a, view)
        if not isinstance(a, Later) and (self._problem.backend.shares(a, rows) or self._fits(rows)):
            self._rows[view] = rows
        return rows

    def _fits(self, rows: Array) -> bool:
        """Tell whether there is room for A's units beside all matrices, which come first.

        So which matrices are kept, and with it every rounding, does not depend on how A is held.
        """
        if self._left_for_rows is None:
            backend, terms = self._problem.backend, self._problem.terms
            matrices = sum(
                family.group.factors[family.root].size ** 2
                * backend.product_type(*(terms[n].a.dtype for n in family.terms)).itemsize
                for family in families(self._problem)
                if self.fit(family)
            )
            self._left_for_rows = max(0, self._most - matrices)
        if _bytes(rows) > self._left_for_rows:
            return False
        self._left_for_rows -= _bytes(rows)
        return True

    def _keep(self, array: Array) -> bool:
        """Tell whether there is room for an array, which then is taken."""
        if _bytes(array) > self._left:
            return False
        self._left -= _bytes(array)
        return True


def _bytes(array: Array | Later) -> int:
    return int(math.prod(array.shape)) * int(array.itemsize)
