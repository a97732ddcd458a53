"""Matrices with equal rows or equal columns: dead and duplicated units."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.candidates import solve_candidates
from rebasin_hub.assign.dense import Dense
from rebasin_hub.assign.passes import compiled_code
from rebasin_hub.assign.problem import Floats, Problem, Solution
from rebasin_hub.permute import Index

__all__ = ["solve_merged"]

SAMPLED = 64
"""Lines of the other axis that tell whether two lines could be equal."""


def solve_merged(problem: Problem) -> Solution | None:
    """Solve with one row and one column for each set of equal ones, of which it has the number.

    Equal rows have equal choices and equal columns one price: without this, every copy would be
    told apart from the others by paths of length zero. Needs the compiled matching.
    """
    if not problem.plain or compiled_code() is None:
        return None
    maxima = (problem.extremes.row_maxima, problem.extremes.column_maxima)
    rows, columns = (_classes(problem.dense, axis, maxima[axis]) for axis in (0, 1))
    if rows is None and columns is None:
        return None
    n, m = problem.dense.shape
    rows = np.arange(n) if rows is None else rows
    columns = np.arange(m) if columns is None else columns
    (row_heads, row_of), (column_heads, column_of) = (
        np.unique(x, return_inverse=True) for x in (rows, columns)
    )
    merged = Problem(
        problem.dense.part(row_heads, column_heads),
        np.bincount(row_of),
        np.bincount(column_of),
    )
    found = solve_candidates(merged)
    if found is None or found.prices is None:
        return None
    # The copies of a row stand together in the merged problem, and so do those of a column.
    members = np.argsort(column_of, kind="stable")
    taken = np.empty(m, dtype=np.int64)
    taken[np.argsort(found.columns, kind="stable")] = members
    matched = np.empty(n, dtype=np.int64)
    matched[np.argsort(row_of, kind="stable")] = taken
    own = None if found.row_prices is None else found.row_prices[row_of]
    return Solution(matched, found.prices[column_of], own)


def _classes(dense: Dense, axis: int, maxima: Floats) -> Index | None:
    """Return for each line the first line that is equal to it; None where all are different.

    Equal lines have equal maxima, which few others have: only these are looked at.
    """
    count, length = dense.shape[axis], dense.shape[1 - axis]
    _, group, claims = np.unique(maxima, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(claims[group] > 1)
    if not len(shared):
        return None
    sampled = np.unique(np.linspace(0, length - 1, min(SAMPLED, length)).astype(np.int64))
    places = np.repeat(shared, len(sampled)), np.tile(sampled, len(shared))
    keys = _fingerprints(dense.entries(*places[:: 1 - 2 * axis]).reshape(len(shared), -1))
    _, head, group = np.unique(keys, return_index=True, return_inverse=True)
    alike = np.arange(count)
    alike[shared] = shared[head[group]]
    doubtful = np.flatnonzero(alike != np.arange(count))
    if not len(doubtful):
        return None
    same = dense.equal(axis, doubtful, alike[doubtful])
    alike[doubtful[~same]] = doubtful[~same]
    return None if same.sum() == 0 else alike


def _fingerprints(lines: Floats) -> NDArray[np.uint64]:
    """Return a number for each line, the same for equal lines."""
    values = lines + 0.0  # there is one zero, not two
    odd = np.random.default_rng(0).integers(0, 1 << 63, values.shape[1], dtype=np.uint64) * 2 + 1
    bits = values.view(np.uint64)
    mixed = (bits ^ (bits >> np.uint64(29))) * odd
    return np.asarray(np.bitwise_xor.reduce(mixed, axis=1), dtype=np.uint64)
