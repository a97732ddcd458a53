"""Similarities of all pairs of a family's units, kept up to date while its neighbours move.

Where a neighbour renumbers few of its indices, the product of these alone is added; where a family
is renumbered itself, the columns of its own matrix change places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.backend import Array, Backend
from rebasin_hub.align.family import Family, View, operand
from rebasin_hub.align.problem import Problem
from rebasin_hub.assign import solve_assignment
from rebasin_hub.assign.small import SMALL, solve_small
from rebasin_hub.errors import NotFiniteError
from rebasin_hub.permute import Index

__all__ = ["Totals"]

LEAST_ROOM = 1 << 30
"""Bytes of matrices that are kept in any case."""


WIDER = 1.0
"""Numbers of each unit that differences may be made of, over those of the product they add to.

Beyond it the product is made anew: rounding stays that of a product twice as wide, and no more
work is lost on differences than that of the product.
"""


@dataclass(eq=False)
class _Total:
    """One family's matrix (units of A, units of B), and prices of its columns from earlier.

    `width` counts the numbers of each unit that the matrix was made of as a whole, `added` those of
    the differences since then.
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
        blocks = sum(_bytes(problem.backend, term.a) for term in problem.terms)
        self._room = max(LEAST_ROOM, blocks)

    @staticmethod
    def fit(family: Family) -> bool:
        """Tell whether one matrix says all there is to know about a family."""
        return family.linear and len(family.group.factors) == 1

    def clear(self) -> None:
        """Forget everything: the state is somewhere else."""
        self._known.clear()

    def matched(self, family: Family, b: Sequence[Array]) -> Index:
        """Return the best numbering of a family, going on from the prices of its last one."""
        backend, total = self._problem.backend, self._known.setdefault(family.root, _Total(family))
        matrix = total.matrix
        if matrix is None:
            matrix, total.width = self._product(family, b)
            total.added = 0
            if self._has_room(matrix):
                total.matrix = matrix
        total.prices, columns = _solved(backend.numpy(matrix), total.prices)
        return columns

    def renumber(self, family: Family, index: Index) -> None:
        """Follow a family that is renumbered itself."""
        total = self._known.get(family.root)
        if total is None:
            return
        if total.prices is not None:
            total.prices = total.prices[index]
        if total.matrix is not None:
            backend = self._problem.backend
            total.matrix = backend.xp.take(total.matrix, backend.asarray(index), axis=1)

    def watched(self, number: int, mover: Family) -> list[tuple[_Total, View]]:
        """Return the matrices in which a term takes part, but for that of its mover."""
        return [
            (total, view)
            for total in self._known.values()
            if total.matrix is not None and total.family is not mover
            for view in total.family.views
            if view.term == number
        ]

    def add(self, total: _Total, view: View, a: Array, difference: Array) -> None:
        """Follow a neighbour: the same slices of a term's A, and how those of B have changed."""
        backend = self._problem.backend
        total.added += math.prod(a.shape) // a.shape[view.active[0]]
        if total.added > WIDER * total.width:
            total.matrix = None
            return
        left, right = operand(backend, a, view), operand(backend, difference, view)
        total.matrix += left @ backend.xp.matrix_transpose(right)

    def _product(self, family: Family, b: Sequence[Array]) -> tuple[Array, int]:
        """Return a family's matrix, and of how many numbers of each unit it is made."""
        backend, total, width = self._problem.backend, None, 0
        for view in family.views:
            left, right = self._units(view), operand(backend, b[view.term], view)
            product = left @ backend.xp.matrix_transpose(right)
            # Types may differ between terms.
            total = product if total is None else total + product
            width += left.shape[-1]
        return total, width

    def _units(self, view: View) -> Array:
        """Return A's units as rows, which are laid out once if there is room."""
        if view in self._rows:
            return self._rows[view]
        rows = operand(self._problem.backend, self._problem.terms[view.term].a, view)
        if self._has_room(rows):
            self._rows[view] = rows
        return rows

    def _has_room(self, matrix: Array) -> bool:
        backend = self._problem.backend
        held = [total.matrix for total in self._known.values() if total.matrix is not None]
        # The rows of matrices are theirs; those of kernels are copies.
        held += [self._rows[view] for view in self._rows if self._is_copied(view)]
        return sum(_bytes(backend, x) for x in (*held, matrix)) <= self._room

    def _is_copied(self, view: View) -> bool:
        return len(self._problem.terms[view.term].block.atoms) > 2 and view.active != (0,)  # noqa: PLR2004


def _solved(
    matrix: NDArray[Any], prices: NDArray[np.float64] | None
) -> tuple[NDArray[np.float64], Index]:
    """Return new prices and the best assignment, which does not depend on the earlier prices."""
    if len(matrix) >= SMALL:
        solved = solve_assignment(matrix, start=prices)
        return solved.column_prices, solved.columns
    prices = np.zeros(len(matrix)) if prices is None else prices
    remainder = matrix - prices
    if not np.isfinite(remainder).all():
        raise NotFiniteError(
            "the products of two models' weights overflow float32; scale the weights down, or "
            "store them as float64"
        )
    columns, raised, _ = solve_small(remainder[None], certify=False)
    # Not every solver leaves prices, and any will do to start from.
    return prices + np.nan_to_num(raised[0]), columns[0]


def _bytes(backend: Backend, array: Array) -> int:
    width: int = backend.xp.finfo(array.dtype).bits // 8
    return int(math.prod(array.shape)) * width
