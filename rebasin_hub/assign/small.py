"""Small matrices, alone or many at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.dense import compiled_code
from rebasin_hub.permute import Index

__all__ = ["SMALL", "Batch", "prices_of", "solve_paths", "solve_scipy", "solve_small"]

SMALL = 1024
"""Rows below which a solver that reads the full matrix is best."""

WORTH_LOADING = 1 << 24
"""Sum of n³ over the matrices (one of 256) from which on compiled code is worth its loading."""

Floats = NDArray[np.float64]
Batch = tuple[Index, Floats, str]
"""Columns and column prices of a batch, both (batch, n), and what solved it."""


def solve_small(scores: Floats, *, certify: bool = True) -> Batch:
    """Solve each matrix of a batch (batch, n, n) of float64.

    Prices are 0 where the rows' largest entries lie in distinct columns, and elsewhere those of
    the compiled solver, or found for SciPy's result (NaN unless `certify`).
    """
    count, size = scores.shape[:2]
    columns = scores.argmax(axis=-1) if size else np.zeros((count, 0), dtype=np.int64)
    prices = np.zeros((count, size))
    crossed = np.flatnonzero((np.sort(columns, axis=-1) != np.arange(size)).any(axis=-1))
    names = ["permutation"] if len(crossed) < count or not count else []
    if len(crossed):
        rest = scores if len(crossed) == count else scores[crossed]
        if len(crossed) * size**3 >= WORTH_LOADING and compiled_code() is not None:
            columns[crossed], prices[crossed] = solve_paths(rest)
            names.append("paths")
        else:
            columns[crossed], prices[crossed] = solve_scipy(rest, certify=certify)
            names.append("scipy")
    return columns, prices, "+".join(names)


def solve_paths(scores: Floats) -> tuple[Index, Floats]:
    """Solve a batch by compiled shortest augmenting paths, which leave their prices behind."""
    from rebasin_hub.assign.batch_kernel import solve_batch

    columns = np.empty(scores.shape[:2], dtype=np.int64)
    prices = np.empty(scores.shape[:2])
    solve_batch(np.ascontiguousarray(scores), columns, prices)
    return columns, prices


def solve_scipy(scores: Floats, *, certify: bool) -> tuple[Index, Floats]:
    """Solve a batch by SciPy's solver (Crouse), and find prices for its result."""
    from scipy.optimize import linear_sum_assignment

    columns = np.empty(scores.shape[:2], dtype=np.int64)
    prices = np.full(scores.shape[:2], np.nan)
    for number, one in enumerate(scores):
        columns[number] = linear_sum_assignment(one, maximize=True)[1]
        if certify:
            prices[number] = prices_of(one, columns[number])
    return columns, prices


def prices_of(scores: Floats, columns: Index) -> Floats:
    """Return column prices at which each row of an optimal pairing has its best column.

    Bellman and Ford: each price is the longest path to its column, where a step from the column
    of row i to column j is what the row would gain there. Without an optimal pairing there is no
    end; as many rounds as rows are made at most.
    """
    size = len(columns)
    paired = scores[np.arange(size), columns]
    step = np.empty_like(scores)
    np.subtract(scores, paired[:, None], out=step)
    prices = np.zeros(size)
    work = np.empty_like(scores)
    tolerance = 4 * np.finfo(np.float64).eps * float(np.abs(scores).max(initial=0))
    for _ in range(size):
        np.add(step, prices[columns][:, None], out=work)
        raised = np.maximum(prices, work.max(axis=0))
        if (raised - prices).max(initial=0) <= tolerance:
            break
        prices = raised
    return prices
