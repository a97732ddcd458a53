"""Small matrices, alone or many at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.compiled import compiled_code
from rebasin_hub.permute import Index

__all__ = [
    "SMALL",
    "prices_of",
    "scipy_solver",
    "solve_paths",
    "solve_scipy",
    "solve_small",
    "worth_loading",
]

SMALL = 1024
"""Rows below which a solver that reads the full matrix is best."""

WORTH_LOADING = 1 << 24
"""Sum of n³ over the matrices (one of 256) from which on compiled code is worth its loading."""

SAMPLED = 8
"""Matrices of a batch that are looked at first."""

Floats = NDArray[np.float64]


def worth_loading(count: int, size: int) -> bool:
    """Tell whether so many matrices of one size are work for compiled code, if it is there."""
    return count * size**3 >= WORTH_LOADING and compiled_code() is not None


def solve_small(scores: Floats, *, certify: bool = True) -> tuple[Index, Floats, str]:
    """Return columns and column prices of a batch (batch, n, n), and what solved it.

    The prices of what SciPy solves are NaN unless `certify`.
    """
    if worth_loading(*scores.shape[:2]):
        columns, prices, _, solver = solve_paths(scores)
        return columns, prices, solver
    columns = solve_scipy(scores)
    if not certify:
        return columns, np.full(columns.shape, np.nan), "scipy"
    proven = [prices_of(*pair) for pair in zip(scores, columns, strict=True)]
    return columns, np.array(proven).reshape(columns.shape), "scipy"


def solve_paths(scores: NDArray[np.floating]) -> tuple[Index, Floats, Floats, str]:
    """Solve a batch of float32 or float64 by compiled shortest augmenting paths.

    Returns columns, column prices, row prices, and what solved it: where the rows' largest entries
    lie in distinct columns in every matrix, prices are 0 and nothing is compiled or loaded.
    """
    if _crossed(scores[:SAMPLED]) or _crossed(scores):
        from rebasin_hub.assign.batch_kernel import solve_batch

        columns = np.empty(scores.shape[:2], dtype=np.int64)
        prices, row_prices = np.empty(columns.shape), np.empty(columns.shape)
        solve_batch(np.ascontiguousarray(scores), columns, prices, row_prices)
        return columns, prices, row_prices, "paths"
    columns = scores.argmax(axis=-1).astype(np.int64)
    return columns, np.zeros(columns.shape), scores.max(axis=-1).astype(np.float64), "permutation"


def _crossed(scores: NDArray[np.floating]) -> bool:
    """Tell whether the largest entries of two rows of a matrix lie in one column."""
    best = scores.argmax(axis=-1)
    taken = np.zeros(best.shape, dtype=np.bool_)
    np.put_along_axis(taken, best, values=True, axis=-1)
    return not taken.all()


@functools.cache
def scipy_solver() -> Callable[..., tuple[Index, Index]]:
    """Return SciPy's solver (Crouse), loaded when it is first needed."""
    from scipy.optimize import linear_sum_assignment

    return cast("Callable[..., tuple[Index, Index]]", linear_sum_assignment)


def solve_scipy(scores: NDArray[np.floating]) -> Index:
    """Solve a batch by SciPy's solver."""
    solve = scipy_solver()
    columns = np.empty(scores.shape[:2], dtype=np.int64)
    for number, one in enumerate(scores):
        columns[number] = solve(one, maximize=True)[1]
    return columns


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
