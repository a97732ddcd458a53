"""Weighted means in one pass, compiled by numba; imported only where numba is there.

Every step is that of `methods.linear` and `rounding.store`, with no more and no fewer roundings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.machinecode import compiled

__all__ = ["mean_bfloat16", "mean_float32"]

HALF = np.uint32(0x8000)
LOWER = np.uint32(0xFFFF)
ONE = np.uint32(1)
UPPER = np.uint32(16)


@compiled
def mean_bfloat16(
    out: NDArray[np.uint16],
    base: NDArray[np.uint16],
    others: tuple[NDArray[np.uint16], ...],
    weights: NDArray[Any],
) -> bool:
    """Fill `out` with the base plus weighted differences to it; False where a result is NaN.

    Shapes: all arrays (n,), the bits of bfloat16 numbers; weights (len(others),), float64.
    """
    whole = True
    for i in range(out.size):
        start = np.float64(np.uint32(np.uint32(base[i]) << UPPER).view(np.float32))
        shift = 0.0
        for k in range(len(others)):
            value = np.float64(np.uint32(np.uint32(others[k][i]) << UPPER).view(np.float32))
            shift += weights[k] * (value - start)
        total = start if shift == 0.0 else start + shift
        whole &= total == total  # noqa: PLR0124 - NaN is not
        nearest = np.float32(total)
        bits = nearest.view(np.uint32)
        lower, upper = bits & LOWER, bits >> UPPER
        # A tie of the nearest float32 is one of the exact value, or lies to one side of it.
        away = abs(total) - abs(np.float64(nearest))
        up = lower > HALF or (lower == HALF and (away > 0.0 or (away == 0.0 and upper & ONE == 1)))
        out[i] = np.uint16(upper + np.uint32(up))
    return whole


@compiled
def mean_float32(
    out: NDArray[np.float32],
    base: NDArray[np.float32],
    others: tuple[NDArray[np.float32], ...],
    weights: NDArray[Any],
) -> bool:
    """Fill `out` with the base plus weighted differences to it; False where a result is NaN.

    Shapes: all arrays (n,); weights (len(others),), float64.
    """
    whole = True
    for i in range(out.size):
        start = np.float64(base[i])
        shift = 0.0
        for k in range(len(others)):
            shift += weights[k] * (np.float64(others[k][i]) - start)
        total = start if shift == 0.0 else start + shift
        whole &= total == total  # noqa: PLR0124 - NaN is not
        out[i] = np.float32(total)
    return whole
