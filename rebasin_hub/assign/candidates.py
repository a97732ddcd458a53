"""Large matrices: prices to start from, kept entries, and a proof on the full matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.edges import Edges
from rebasin_hub.assign.passes import compiled_code
from rebasin_hub.assign.problem import KEPT, Floats, Problem, Solution
from rebasin_hub.assign.sparse import refine
from rebasin_hub.permute import Index

__all__ = ["solve_aligned", "solve_candidates", "solve_from_start", "solve_permutation"]

KEPT_AGAIN = 12
"""Entries that are kept of each row where prices are known already."""

USUAL = 3 * KEPT
"""Entries of each row that are kept at most; where there are more, they are ties."""

MUTUAL = 0.4
"""Share of rows that are the best of their best column, above which the others need few steps."""

FREE = 256
"""Others that are looked at to tell how far they have to go."""

TYPICAL = 16
"""Rows that are looked at to tell how many entries there are within reach."""

FARTHER = 1.5
"""How much farther than the farthest row of the sample entries are kept."""

BALANCED = 0.5
"""Share of distinct row maxima above which better prices cost more than they save."""

SCATTERED = 0.1
"""Share of distinct row maxima below which so many rows compete that the paths grow long."""

SCATTERED_ALONE = 0.4
"""The same for SciPy's sparse solver, which starts anew in each round."""

CROWDED = 64
"""One line in so many has copies, or ties like one, above which SciPy's sparse solver is slow."""

GROWTH = 0.03
"""Growth of that share for which another round of quantiles is worth its two passes."""

QUANTILE_ROUNDS = 4


def solve_permutation(problem: Problem) -> Solution | None:
    """Take the largest entry of each row or of each column, if these are a permutation."""
    if not problem.plain:
        return None
    best = problem.best
    if _distinct(best) == 1:
        if problem.start is not None:
            return Solution(best, problem.start)
        return Solution(best, np.zeros(len(best)), problem.extremes.row_maxima)
    if problem.start is None and _distinct(problem.extremes.column_best) == 1:
        columns = np.argsort(problem.extremes.column_best)
        return Solution(columns, problem.extremes.column_maxima, np.zeros(len(best)))
    return None


def solve_from_start(problem: Problem) -> Solution | None:
    """Go on from earlier column prices: an unchanged problem costs a few passes."""
    if problem.start is None:
        return None
    k = min(KEPT_AGAIN, problem.dense.shape[1])
    floors, best = problem.dense.row_floors(problem.start, k)
    if not _usable(floors) or _distinct(best) < SCATTERED:
        return None
    return _refined(problem, floors, problem.start, problem.start)


def solve_aligned(problem: Problem) -> Solution | None:
    """Solve where many rows and columns are each other's best.

    Half of each row's and half of each column's largest entry are prices that no entry exceeds,
    as it exceeds neither of the two; where a row and a column choose each other, the prices
    meet their entry. The others go on from there, over entries that miss their prices by little.
    """
    if not problem.plain or _crowded(problem):
        return None
    dense, extremes = problem.dense, problem.extremes
    mutual = extremes.column_best[extremes.row_best] == np.arange(dense.shape[0])
    if mutual.mean() < MUTUAL:
        return None
    row_prices, prices = extremes.row_maxima / 2, extremes.column_maxima / 2
    if mutual.all():
        return Solution(extremes.row_best, prices, row_prices)
    unpaired = np.setdiff1d(np.arange(dense.shape[1]), extremes.row_best[mutual])

    def missed(rows: Index, columns: Index | slice) -> Floats:
        lines = dense.lines(0, rows)[:, columns]
        return np.asarray(row_prices[rows, None] + prices[columns] - lines)

    free = _some(np.flatnonzero(~mutual), FREE)
    parts = np.array_split(free, -(-len(free) // TYPICAL))
    reach = max(float(missed(part, unpaired).min(axis=1).max()) for part in parts)
    usual = missed(_some(np.arange(len(mutual)), TYPICAL), slice(None))
    bounds = [min(len(usual) * k, usual.size) - 1 for k in (KEPT // 2, 2 * KEPT)]
    least, largest = np.partition(usual, bounds, axis=None)[bounds]
    reach = float(np.clip(FARTHER * reach, least, largest))
    return _refined(problem, row_prices - reach, prices, prices)


def solve_candidates(problem: Problem) -> Solution | None:
    """Solve by the largest entries of each row and column, at prices that balance the columns.

    Rows and columns in turn take about their 32nd largest remainder as their price, which makes up
    for columns that are large for every row.
    """
    if _crowded(problem):
        return None
    dense, k = problem.dense, min(KEPT, *problem.dense.shape)
    prices = np.zeros(dense.shape[1])
    floors, best = dense.row_floors(prices, k)
    columns, share = dense.column_floors(floors, k), _distinct(best)
    for _ in range(QUANTILE_ROUNDS):
        if share >= BALANCED:
            break
        balanced = columns.astype(np.float64)
        again, best = dense.row_floors(balanced, k)
        gained = _distinct(best) - share
        if gained > 0:
            prices, floors, share = balanced, again, share + gained
            columns = dense.column_floors(floors, k)
        if gained < GROWTH:
            break
    least = SCATTERED if compiled_code() is not None else SCATTERED_ALONE
    if share < least or not _usable(floors, columns):
        return None
    return _refined(problem, floors, np.minimum(prices, columns), prices)


def _refined(
    problem: Problem, floors: NDArray[Any], lowest: NDArray[Any], prices: Floats
) -> Solution | None:
    """Go on from prices with the entries that reach `floor + lowest`, none of which is too high."""
    edges = problem.dense.above(floors, lowest, USUAL)
    scale = np.abs(floors).max(initial=0) + np.abs(lowest).max(initial=0)
    # Floors and prices have been rounded to the precision of the matrix.
    known = floors.astype(np.float64) + problem.dense.epsilon * float(scale)
    known[np.diff(edges.first) >= USUAL] = np.inf  # of these rows some may have been left out
    return refine(problem, _for_copies(problem, edges, prices), prices, known)


def _for_copies(problem: Problem, edges: Edges, prices: Floats) -> Edges:
    """Add entries of the lines that stand for many: as many as they have copies."""
    k = min(KEPT, *problem.dense.shape)
    rows, columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for axis, copies in enumerate((problem.supply, problem.capacity)):
        for count in np.unique(copies[copies > 1]):
            lines = np.flatnonzero(copies == count)
            gain = problem.dense.lines(axis, lines).astype(np.float64)
            if axis == 0:
                gain -= prices
            kept = min(k + int(count), gain.shape[1])
            others = np.argpartition(gain, gain.shape[1] - kept)[:, -kept:].ravel()
            own = np.repeat(lines, kept)
            rows.append(own if axis == 0 else others)
            columns.append(others if axis == 0 else own)
    if len(rows) == 1:
        return edges
    return edges.extended(problem.dense, np.concatenate(rows), np.concatenate(columns))


def _crowded(problem: Problem) -> bool:
    """Tell whether so many lines have the same largest entry that it takes compiled code."""
    if compiled_code() is not None:
        return False
    maxima = (problem.extremes.row_maxima, problem.extremes.column_maxima)
    claims = max(int(np.unique(x, return_counts=True)[1].max(initial=0)) for x in maxima)
    return claims > 1 + len(maxima[0]) // CROWDED


def _distinct(best: Index) -> float:
    """Return the share of distinct places among the largest entries: 1 is a permutation."""
    return np.count_nonzero(np.bincount(best)) / max(1, len(best))


def _some(lines: Index, count: int) -> Index:
    """Return lines that are spread over those given."""
    return lines[np.unique(np.linspace(0, len(lines) - 1, count).astype(np.int64))]


def _usable(*floors: NDArray[Any]) -> bool:
    """Tell whether no remainder was too large for the matrix's own precision."""
    return all(bool(np.isfinite(floor).all()) for floor in floors)
