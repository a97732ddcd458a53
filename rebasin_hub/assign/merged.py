"""Matrices with equal rows or equal columns: dead and duplicated units."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.candidates import solve_candidates
from rebasin_hub.assign.dense import Dense, compiled_code
from rebasin_hub.assign.problem import Problem, Solution
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
    rows, columns = (_classes(problem.dense, axis) for axis in (0, 1))
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
    if found is None:
        return None
    # The copies of a row stand together in the merged problem, and so do those of a column.
    members = np.argsort(column_of, kind="stable")
    taken = np.empty(m, dtype=np.int64)
    taken[np.argsort(found.columns, kind="stable")] = members
    matched = np.empty(n, dtype=np.int64)
    matched[np.argsort(row_of, kind="stable")] = taken
    own = None if found.row_prices is None else found.row_prices[row_of]
    return Solution(matched, found.prices[column_of], own)


def _classes(dense: Dense, axis: int) -> Index | None:
    """Return for each line the first line that is equal to it; None where all are different."""
    count, length = dense.shape[axis], dense.shape[1 - axis]
    sampled = np.unique(np.linspace(0, length - 1, min(SAMPLED, length)).astype(np.int64))
    keys = _fingerprints(dense.lines(1 - axis, sampled).T)
    _, head, group = np.unique(keys, return_index=True, return_inverse=True)
    alike = head[group]
    doubtful = np.flatnonzero(alike != np.arange(count))
    if not len(doubtful):
        return None
    same = dense.equal(axis, doubtful, alike[doubtful])
    alike[doubtful[~same]] = doubtful[~same]
    return None if same.sum() == 0 else alike


def _fingerprints(lines: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a number for each line, the same for equal lines."""
    values = np.ascontiguousarray(lines, dtype=np.float64) + 0.0  # there is one zero, not two
    odd = np.random.default_rng(0).integers(0, 1 << 63, values.shape[1], dtype=np.uint64) * 2 + 1
    bits = values.view(np.uint64)
    mixed = (bits ^ (bits >> np.uint64(29))) * odd
    return np.asarray(np.bitwise_xor.reduce(mixed, axis=1), dtype=np.uint64)
