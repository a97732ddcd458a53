"""Sums of whole squares along rows and columns, compiled by numba; imported only if it is there."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.machinecode import compiled, helper

__all__ = ["margins_bfloat16", "margins_float32"]

UPPER = np.uint32(16)


@helper
def _whole_square(value: float, scale: float) -> int:
    scaled = value * scale
    return np.int64(np.rint(scaled * scaled))  # type: ignore[return-value]


@compiled
def margins_bfloat16(
    bits: NDArray[np.uint16], scale: float, rows: NDArray[Any], columns: NDArray[Any]
) -> None:
    """Add the rounded squares of scaled numbers to the sums of their rows and columns.

    Shapes: bits (m, n), those of finite bfloat16 numbers; rows (m,) and columns (n,), int64.
    Whole numbers, so that the compiler may sum them in any order.
    """
    for i in range(bits.shape[0]):
        total = np.int64(0)
        for j in range(bits.shape[1]):
            value = np.float64(np.uint32(np.uint32(bits[i, j]) << UPPER).view(np.float32))
            square = _whole_square(value, scale)
            total += square
            columns[j] += square
        rows[i] += total


@compiled
def margins_float32(
    values: NDArray[np.float32], scale: float, rows: NDArray[Any], columns: NDArray[Any]
) -> None:
    """Do the same for finite float32 numbers of shape (m, n)."""
    for i in range(values.shape[0]):
        total = np.int64(0)
        for j in range(values.shape[1]):
            square = _whole_square(np.float64(values[i, j]), scale)
            total += square
            columns[j] += square
        rows[i] += total
