"""Matrices that are the product of two vectors, plus constants of rows and columns: sorting."""

from __future__ import annotations

import numpy as np

from rebasin_hub.assign.edges import Edges
from rebasin_hub.assign.passes import compiled_code
from rebasin_hub.assign.problem import Floats, Problem, Solution
from rebasin_hub.assign.sparse import missed, refine, unrivalled
from rebasin_hub.permute import Index

__all__ = ["solve_ordered"]

SAMPLED = 96
"""Rows and columns of the sample whose rank is looked at."""

FEW = 16
"""Rows and columns of a first sample, which nearly all matrices fail."""

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
    if not _one_term(_sample(problem, FEW)):
        return None
    sampled = _spread(n, SAMPLED)
    some_rows = dense.lines(0, sampled).astype(np.float64)
    some_columns = dense.lines(1, sampled).astype(np.float64)
    sample = some_rows[:, sampled]
    if not _one_term(sample):
        return None
    u, _, v = np.linalg.svd(_centered(sample))
    by_row = np.argsort(v[0] @ some_columns, kind="stable")
    by_column = np.argsort(u[:, 0] @ some_rows, kind="stable")
    columns = np.empty(n, dtype=np.int64)
    columns[by_row] = by_column
    near = np.arange(n)[:, None] + np.arange(-BAND, BAND + 1)
    inside = (near >= 0) & (near < n)
    rows = np.broadcast_to(by_row[:, None], near.shape)[inside]
    prices = np.empty(n)
    prices[by_column] = _monge_prices(problem, by_row, by_column)
    edges = Edges.of(dense, rows, by_column[near[inside]])
    if compiled_code() is None and unrivalled(edges, missed(edges, prices)) is None:
        return None  # on a band SciPy's sparse solver takes longer than its dense one
    return refine(problem, edges, prices)


def _spread(n: int, count: int) -> Index:
    return np.unique(np.linspace(0, n - 1, min(count, n)).astype(np.int64))


def _sample(problem: Problem, count: int) -> Floats:
    """Return the entries of some rows and columns that are spread over the matrix."""
    sampled = _spread(problem.dense.shape[0], count)
    rows, columns = np.repeat(sampled, len(sampled)), np.tile(sampled, len(sampled))
    return problem.dense.entries(rows, columns).reshape(len(sampled), -1)


def _centered(sample: Floats) -> Floats:
    """Take constants of rows and columns away."""
    return np.asarray(sample - sample.mean(0) - sample.mean(1)[:, None] + sample.mean())


def _one_term(sample: Floats) -> bool:
    """Tell whether a sample is a product of two vectors, but for constants and rounding."""
    s = np.linalg.svd(_centered(sample), compute_uv=False)
    second = float(s[1]) if len(s) > 1 else 0.0
    return second <= NEGLIGIBLE * float(s[0]) + NOISE * float(np.abs(sample).max())


def _monge_prices(problem: Problem, rows: np.ndarray, columns: np.ndarray) -> Floats:
    """Return prices, in the sorted order, half-way between what two neighbours would pay."""
    entries = problem.dense.entries
    own = entries(rows, columns)
    least = entries(rows[:-1], columns[1:]) - own[:-1]
    most = own[1:] - entries(rows[1:], columns[:-1])
    return np.concatenate([[0.0], np.cumsum((least + most) / 2)])
