"""Matrices that are the product of two vectors, plus constants of rows and columns: sorting."""

from __future__ import annotations

import numpy as np

from rebasin_hub.assign.problem import Floats, Problem, Solution
from rebasin_hub.assign.sparse import refine

__all__ = ["solve_ordered"]

SAMPLED = 96
"""Rows and columns of the sample whose rank is looked at."""

NEGLIGIBLE = 1e-4
"""Second singular value of a centered sample, over the first, that counts as rounding."""

NOISE = 3e-6
"""Singular values below this, over the largest entry, are the rounding of float32."""

BAND = 8
"""Columns on either side of the sorted pairs that are kept, for what rounding has moved."""


def solve_ordered(problem: Problem) -> Solution | None:
    """Solve a matrix a[i] · b[j] + r[i] + c[j] by sorting a and b (rearrangement inequality).

    In that order the matrix is Monge: prices that satisfy neighbours satisfy all. What rounding
    has moved is put right on a band around the sorted pairs.
    """
    dense = problem.dense
    if not problem.plain or dense.shape[0] != dense.shape[1]:
        return None
    n = dense.shape[0]
    sampled = np.unique(np.linspace(0, n - 1, min(SAMPLED, n)).astype(np.int64))
    some_rows = dense.lines(0, sampled).astype(np.float64)
    some_columns = dense.lines(1, sampled).astype(np.float64)
    sample = some_rows[:, sampled]
    centered = sample - sample.mean(0) - sample.mean(1)[:, None] + sample.mean()
    u, s, v = np.linalg.svd(centered)
    first, second = (float(s[0]), float(s[1])) if len(s) > 1 else (float(s[0]), 0.0)
    if second > NEGLIGIBLE * first + NOISE * float(np.abs(sample).max()):
        return None
    by_row = np.argsort(v[0] @ some_columns, kind="stable")
    by_column = np.argsort(u[:, 0] @ some_rows, kind="stable")
    columns = np.empty(n, dtype=np.int64)
    columns[by_row] = by_column
    near = np.arange(n)[:, None] + np.arange(-BAND, BAND + 1)
    inside = (near >= 0) & (near < n)
    rows = np.broadcast_to(by_row[:, None], near.shape)[inside]
    prices = np.empty(n)
    prices[by_column] = _monge_prices(problem, by_row, by_column)
    return refine(problem, rows, by_column[near[inside]], prices)


def _monge_prices(problem: Problem, rows: np.ndarray, columns: np.ndarray) -> Floats:
    """Return prices, in the sorted order, half-way between what two neighbours would pay."""
    entries = problem.dense.entries
    own = entries(rows, columns)
    least = entries(rows[:-1], columns[1:]) - own[:-1]
    most = own[1:] - entries(rows[1:], columns[:-1])
    return np.concatenate([[0.0], np.cumsum((least + most) / 2)])
