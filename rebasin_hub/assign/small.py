"""Small matrices, alone or many at once."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.passes import compiled_code
from rebasin_hub.assign.result import Assignment
from rebasin_hub.permute import Index

__all__ = [
    "SMALL",
    "is_finite",
    "solve_paths",
    "solve_scipy",
    "solve_small",
    "solve_tiny",
    "summed",
    "worth_loading",
]

SMALL = 1024
"""Rows below which a solver that reads the full matrix is best."""

WORTH_LOADING = 1 << 24
"""Sum of n³ over the matrices (one of 256) from which on compiled code is worth its loading."""

TINY = 256
"""Rows below which one matrix is not worth loading compiled code for."""

SAMPLED = 8
"""Matrices of a batch that are looked at first."""

Floats = NDArray[np.float64]


def worth_loading(count: int, size: int) -> bool:
    """Tell whether so many matrices of one size are work for compiled code, if it is there.

    It does not matter whether it has been loaded before, so that results do not depend on that.
    """
    return count * size**3 >= WORTH_LOADING and compiled_code() is not None


def solve_small(scores: NDArray[np.floating], start: Floats) -> tuple[Index, Floats]:
    """Return columns and column prices of one finite matrix, going on from earlier prices.

    SciPy leaves no prices: those of the start are returned, which may be any.
    """
    if worth_loading(1, len(scores)):
        columns, prices, _, _ = solve_paths(scores[None], start[None])
        return columns[0], prices[0]
    return solve_scipy(scores[None])[0], start


def solve_paths(
    scores: NDArray[np.floating], start: Floats | None = None
) -> tuple[Index, Floats, Floats, str]:
    """Solve a batch of float32 or float64 by compiled shortest augmenting paths.

    `start` are column prices to go on from, (batch, n). Returns columns, column prices, row prices,
    and what solved it: where the rows' best entries lie in distinct columns in every matrix, prices
    stay and nothing is compiled or loaded.
    """
    columns = np.empty(scores.shape[:2], dtype=np.int64)
    prices = np.zeros(columns.shape) if start is None else start.astype(np.float64)
    if "numba" not in sys.modules:
        gain = scores if start is None else scores - prices[:, None]
        if not _crossed(gain[:SAMPLED]) and not _crossed(gain):
            columns[:] = gain.argmax(axis=-1)
            return columns, prices, gain.max(axis=-1).astype(np.float64), "permutation"
    from rebasin_hub.assign.batch_kernel import solve_batch

    row_prices = np.empty(columns.shape)
    crossed = solve_batch(np.ascontiguousarray(scores), columns, prices, row_prices)
    return columns, prices, row_prices, "paths" if crossed else "permutation"


def _crossed(gain: NDArray[np.floating]) -> bool:
    """Tell whether the largest entries of two rows of a matrix lie in one column."""
    best = gain.argmax(axis=-1)
    taken = np.zeros(best.shape, dtype=np.bool_)
    np.put_along_axis(taken, best, values=True, axis=-1)
    return not taken.all()


def solve_tiny(scores: NDArray[Any], *, certify: bool) -> Assignment | None:
    """Solve one matrix as SciPy does; None where it is not one small finite matrix of floats.

    All that stands here counts: SciPy needs a microsecond for eight rows.
    """
    pair, shape = _PAIRINGS.get(scores.dtype), scores.shape
    if pair is None or len(shape) != 2 or shape[0] != shape[1] or shape[0] >= TINY:  # noqa: PLR2004
        return None
    kept = scores.copy()  # what is proven later is the matrix as it is now
    columns = np.empty(shape[0], np.int64)
    value = pair(kept, columns)
    if value != value:  # noqa: PLR0124  (it is NaN: something is not finite)
        return None
    return Assignment(columns, np.asarray(value), "scipy", kept if certify else None)


def solve_scipy(scores: NDArray[np.floating]) -> Index:
    """Solve a batch of finite matrices by SciPy's solver, or by the same compiled."""
    columns = np.empty(scores.shape[:2], dtype=np.int64)
    if scores.shape[-1] < TINY and _compiled(scores.dtype):
        from rebasin_hub.assign import crouse

        if crouse.pair_all(np.ascontiguousarray(scores), columns):
            return columns
    solve = _scipy_solver()
    for number, one in enumerate(scores):
        columns[number] = solve(one, maximize=True)[1]
    return columns


def summed(entries: NDArray[np.floating]) -> Floats:
    """Return sums over the last axis in float64, made one after the other as in compiled code."""
    sums = entries.cumsum(-1, np.float64)
    return np.asarray(sums[..., -1] if sums.shape[-1] else sums.sum(-1))


def is_finite(scores: NDArray[np.floating]) -> bool:
    """Tell whether there is neither NaN nor infinity."""
    # The square of a finite number is finite or overflows; that of NaN or infinity never is.
    return math.isfinite(np.vdot(scores, scores)) or bool(np.isfinite(scores).all())


def _by_scipy(scores: NDArray[Any], columns: Index) -> float:
    """Fill in the columns of one matrix and return their sum; NaN where it is not finite."""
    if _compiled(scores.dtype):
        return _PAIRINGS[scores.dtype](scores, columns)
    if not is_finite(scores):
        return math.nan
    rows, columns[:] = _scipy_solver()(scores, maximize=True)
    return float(summed(scores[rows, columns]))


def _compiled(kind: np.dtype[Any]) -> bool:
    """Tell whether SciPy's solver is there compiled: from when numba is loaded for any work."""
    if _PAIRINGS[kind] is _by_scipy and "numba" in sys.modules and compiled_code() is not None:
        from rebasin_hub.assign import crouse

        _PAIRINGS[kind] = crouse.pairing(kind)
    return _PAIRINGS[kind] is not _by_scipy


Pairing: TypeAlias = Callable[[NDArray[Any], Index], float]
_PAIRINGS: dict[np.dtype[Any], Pairing] = {
    np.dtype(np.float32): _by_scipy,
    np.dtype(np.float64): _by_scipy,
}
"""What pairs one tiny matrix of a type as SciPy does."""


@functools.cache
def _scipy_solver() -> Callable[..., tuple[Index, Index]]:
    """Return SciPy's solver (Crouse), loaded when it is first needed."""
    from scipy.optimize import linear_sum_assignment

    return cast("Callable[..., tuple[Index, Index]]", linear_sum_assignment)
