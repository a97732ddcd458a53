"""Large matrices: prices from quantiles, kept entries, and a proof on the full matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.problem import KEPT, Floats, Problem, Solution
from rebasin_hub.assign.sparse import refine
from rebasin_hub.permute import Index

__all__ = ["solve_aligned", "solve_candidates", "solve_from_start", "solve_permutation"]

KEPT_AGAIN = 12
"""Entries that are kept of each row where prices are known already."""

ALIGNED = 0.98
"""Share of distinct row maxima above which only the rows and columns that collide need entries."""

BALANCED = 0.5
"""Share of distinct row maxima above which better prices cost more than they save."""

SCATTERED = 0.1
"""Share of distinct row maxima below which so many rows compete that the paths grow long."""

GROWTH = 0.03
"""Growth of that share for which another round of quantiles is worth its two passes."""

QUANTILE_ROUNDS = 4


def solve_permutation(problem: Problem) -> Solution | None:
    """Take the largest entry of each row, if these lie in distinct columns."""
    best = problem.best
    if not problem.plain or problem.best_share < 1:
        return None
    prices = np.zeros(len(best)) if problem.start is None else problem.start
    return Solution(best, prices)


def solve_from_start(problem: Problem) -> Solution | None:
    """Go on from earlier column prices: an unchanged problem costs one pass."""
    if problem.start is None:
        return None
    top = problem.dense.top_rows(problem.start, min(KEPT_AGAIN, problem.dense.shape[1]))
    if top is None or top.share < SCATTERED:
        return None
    return refine(problem, top.lines, top.others, problem.start)


def solve_aligned(problem: Problem) -> Solution | None:
    """Solve where nearly all row maxima lie in distinct columns: only the others need choices."""
    if not problem.plain or problem.best_share < ALIGNED:
        return None
    dense, best = problem.dense, problem.best
    size, prices = len(best), np.zeros(len(best))
    claims = np.bincount(best, minlength=size)
    rows, columns = [np.arange(size)], [best]
    for axis, lines in ((0, np.flatnonzero(claims[best] > 1)), (1, np.flatnonzero(claims == 0))):
        others = _largest(dense.lines(axis, lines), min(KEPT, size))
        own = np.repeat(lines, others.shape[1])
        rows.append(own if axis == 0 else others.ravel())
        columns.append(others.ravel() if axis == 0 else own)
    return refine(problem, np.concatenate(rows), np.concatenate(columns), prices)


def solve_candidates(problem: Problem) -> Solution | None:
    """Solve by the largest entries of each row and column, at prices that balance the columns.

    Rows and columns in turn take their 32nd largest remainder as their price, which makes up for
    columns that are large for every row.
    """
    dense, k = problem.dense, min(KEPT, *problem.dense.shape)
    prices = np.zeros(dense.shape[1])
    by_row = dense.top_rows(prices, k)
    by_column = None if by_row is None else dense.top_columns(by_row.floor, k)
    if by_row is None or by_column is None:
        return None
    for _ in range(QUANTILE_ROUNDS):
        if by_row.share >= BALANCED:
            break
        balanced = by_column.floor.astype(np.float64)
        again = dense.top_rows(balanced, k)
        if again is None:
            return None
        gained = again.share - by_row.share
        if gained > 0:
            prices, by_row = balanced, again
        if gained < GROWTH or by_row.share >= BALANCED:
            break
        column_side = dense.top_columns(by_row.floor, k)
        if column_side is None:
            return None
        by_column = column_side
    if by_row.share < SCATTERED:
        return None
    more = _for_copies(problem, prices, k)
    rows = np.concatenate([by_row.lines, by_column.others, more[0]])
    columns = np.concatenate([by_row.others, by_column.lines, more[1]])
    return refine(problem, rows, columns, prices)


def _for_copies(problem: Problem, prices: Floats, k: int) -> tuple[Index, Index]:
    """Return more entries of the lines that stand for many: as many as they have copies."""
    rows, columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for axis, copies in enumerate((problem.supply, problem.capacity)):
        for line in np.flatnonzero(copies > 1):
            gain = problem.dense.lines(axis, np.array([line])).astype(np.float64)
            if axis == 0:
                gain -= prices
            others = _largest(gain, min(k + int(copies[line]), gain.shape[1]))[0]
            own = np.full(len(others), line)
            rows.append(own if axis == 0 else others)
            columns.append(others if axis == 0 else own)
    return np.concatenate(rows), np.concatenate(columns)


def _largest(lines: NDArray[Any], k: int) -> Index:
    """Return where the k largest values of each line stand, in no order."""
    return np.argpartition(lines, lines.shape[1] - k, axis=1)[:, lines.shape[1] - k :]
