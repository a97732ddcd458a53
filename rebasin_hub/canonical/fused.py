"""Sums of squares by compiled code, where numba is there and tensors are worth it."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from rebasin_hub.machinecode import loaded, worth
from rebasin_hub.rearrange import Array

__all__ = ["fused_marginals"]

Axes: TypeAlias = tuple[int, ...]


def fused_marginals(
    values: Array, scale: float, wanted: Collection[Axes]
) -> dict[Axes, NDArray[np.float64]] | None:
    """Return the sums of the rounded squares of scaled weights over all axes but the wanted ones.

    Args:
        values: finite weights, float32 or bfloat16.
        scale: a power of two, so that all sums are below 2**53.
        wanted: the axes that are kept, of each sum; kept as axes of length one are the others.

    Returns None where there is nothing compiled for this: the weights must lie in memory as rows
    and columns, and every sum must be one of rows or of columns.
    """
    split = _split(values.ndim, wanted)
    if split is None or not values.flags.c_contiguous or not values.size or not worth(values.size):
        return None
    kind = values.dtype.type
    if kind not in {np.float32, ml_dtypes.bfloat16}:
        return None
    if (code := loaded("rebasin_hub.canonical.kernels")) is None:
        return None
    sums = code.margins_float32 if kind is np.float32 else code.margins_bfloat16
    shape = values.shape
    flat = values.reshape(math.prod(shape[:split]), math.prod(shape[split:]))
    rows, columns = _sums(sums, flat, scale)
    found = {}
    for axes in wanted:
        front = max(axes) < split
        part = rows.reshape(shape[:split]) if front else columns.reshape(shape[split:])
        first = 0 if front else split
        over = tuple(n for n in range(part.ndim) if n + first not in axes)
        kept = [shape[n] if n in axes else 1 for n in range(values.ndim)]
        found[axes] = part.sum(axis=over).astype(np.float64).reshape(kept)
    return found


def _sums(
    sums: Callable[..., None], values: Array, scale: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows, columns = (np.zeros(size, np.int64) for size in values.shape)
    sums(values if values.dtype == np.float32 else values.view(np.uint16), scale, rows, columns)
    return rows, columns


def _split(rank: int, wanted: Collection[Axes]) -> int | None:
    """Return how many axes make rows, so that each sum is wholly of rows or of columns."""
    return next(
        (
            split
            for split in range(1, rank)
            if all(max(axes) < split or min(axes) >= split for axes in wanted)
        ),
        None,
    )
