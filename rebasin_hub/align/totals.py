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
from rebasin_hub.align.family import Family, View, operand
from rebasin_hub.align.nearest import nearest
from rebasin_hub.align.problem import Problem
from rebasin_hub.align.room import Room
from rebasin_hub.assign import solve_assignment
from rebasin_hub.assign.small import SMALL, solve_small
from rebasin_hub.errors import NotFiniteError
from rebasin_hub.permute import Index

__all__ = ["Totals"]

LEAST_ROOM = 1 << 30
"""Bytes of matrices that are kept in any case."""


WIDER = 4.0
"""Numbers of each unit that differences may be made of, over those of the product they add to.

Beyond it the product is made anew: rounding stays that of a product five times as wide. Every
difference is less work than the product, so that it never pays to make this smaller.
"""


@dataclass(eq=False)
class _Total:
    """One family's matrix (units of A, units of B), and prices of its columns from earlier.

    `width` counts the numbers of each unit that the matrix was made of as a whole, `added` those of
    the differences since then; without `width` the matrix is out of date.
    """

    family: Family
    prices: NDArray[np.float64] | None = None
    matrix: Array | None = None
    width: int = 0
    added: int = 0


class Totals:
    """The matrices of linear families without dependents, for one state of a descent.

    What is kept takes no more memory than one of the two models, or a gibibyte; families for
    which there is no room left have their matrix made anew each time.
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._known: dict[str, _Total] = {}
        self._rows: dict[View, Array] = {}
        self._room = Room()
        self._left = max(LEAST_ROOM, sum(_bytes(term.a) for term in problem.terms))

    @staticmethod
    def fit(family: Family) -> bool:
        """Tell whether one matrix says all there is to know about a family."""
        return family.linear and len(family.group.factors) == 1

    def clear(self) -> None:
        """Forget everything but where to put it: the state is somewhere else."""
        for total in self._known.values():
            total.width, total.prices = 0, None

    def matched(self, family: Family, b: Sequence[Array]) -> Index:
        """Return the best numbering of a family, going on from the prices of its last one."""
        backend, total = self._problem.backend, self._known.setdefault(family.root, _Total(family))
        matrix = total.matrix
        if not total.width:
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
            backend.renumber_fastest(total.matrix, backend.asarray(index))

    def watched(self, number: int, mover: Family) -> list[tuple[_Total, View]]:
        """Return the matrices in which a term takes part, but for that of its mover."""
        return [
            (total, view)
            for total in self._known.values()
            if total.width and total.family is not mover
            for view in total.family.views
            if view.term == number
        ]

    def add(self, total: _Total, view: View, a: Array, difference: Array) -> None:
        """Follow a neighbour: the same slices of a term's A, and how those of B have changed."""
        backend = self._problem.backend
        total.added += math.prod(a.shape) // a.shape[view.active[0]]
        if total.added > WIDER * total.width:
            total.width = 0
            return
        left, right = operand(backend, a, view), operand(backend, difference, view)
        backend.add_product(total.matrix, left, right)

    def _made(self, total: _Total, pairs: Sequence[tuple[Array, Array]]) -> Array:
        """Make a family's matrix anew, and keep it if there is room."""
        backend, xp, width = self._problem.backend, self._problem.backend.xp, 0
        matrix = total.matrix
        if matrix is None:
            # Types may differ between terms.
            kind = xp.result_type(*(rows for pair in pairs for rows in pair))
            size, device = pairs[0][0].shape[0], pairs[0][0].device
            matrix = xp.empty((size, size), dtype=kind, device=device)
        matrix[:] = 0
        for left, right in pairs:
            backend.add_product(matrix, left, right)
            width += left.shape[-1]
        if total.matrix is not None or self._keep(matrix):
            total.matrix, total.width, total.added = matrix, width, 0
        return matrix

    def _solved(
        self, matrix: NDArray[Any], prices: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64], Index]:
        """Return new prices and the best assignment, which does not depend on the earlier ones."""
        if len(matrix) >= SMALL:
            solved = solve_assignment(matrix, start=prices)
            return solved.column_prices, solved.columns
        prices = np.zeros(len(matrix)) if prices is None else prices
        self._room.clear()
        remainder = self._room.array((1, *matrix.shape), np.float64)
        np.subtract(matrix, prices, out=remainder[0])
        # In float64 no sum of float32 numbers overflows.
        if not np.isfinite(remainder.sum()):
            raise NotFiniteError(
                "the products of two models' weights overflow float32; scale the weights down, or "
                "store them as float64"
            )
        columns, raised, _ = solve_small(remainder, certify=False)
        # Not every solver leaves prices, and any will do to start from.
        return prices + np.nan_to_num(raised[0]), columns[0]

    def _units(self, view: View) -> Array:
        """Return A's units as rows, which are laid out once if there is room."""
        if view in self._rows:
            return self._rows[view]
        a = self._problem.terms[view.term].a
        rows = operand(self._problem.backend, a, view)
        if self._problem.backend.shares(a, rows) or self._keep(rows):
            self._rows[view] = rows
        return rows

    def _keep(self, array: Array) -> bool:
        """Tell whether there is room for an array, which then is taken."""
        if _bytes(array) > self._left:
            return False
        self._left -= _bytes(array)
        return True


def _bytes(array: Array) -> int:
    return int(math.prod(array.shape)) * int(array.itemsize)
