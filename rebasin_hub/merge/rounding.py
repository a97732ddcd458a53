"""Between the stored types and float64, in which merges are computed; one rounding at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from rebasin_hub.merge.methods import Floats

__all__ = ["all_finite", "store", "widened"]

Array: TypeAlias = NDArray[np.generic]
Bits: TypeAlias = NDArray[np.unsignedinteger[Any]]

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
SINGLE = np.dtype(np.float32)
LOOK = 1 << 15
"""Elements that are looked at together."""
SMALLEST_NORMAL_HALF = 2.0**-14
EXPONENTS: dict[np.dtype[Any], int] = {
    BFLOAT16: 0x7F80,
    np.dtype(np.float16): 0x7C00,
    SINGLE: 0x7F800000,
    np.dtype(np.float64): 0x7FF0000000000000,
}
"""The bits of infinity: a number is finite if its own, without the sign, are less."""


def widened(arrays: Sequence[Array], *, paired: bool) -> list[Floats]:
    """Return arrays in the type that sums are computed in, as fresh memory or themselves.

    Where `paired`, a last axis of two is added for the real and the imaginary part: products of
    complex numbers would turn infinities into NaN, and the inner product has to be the real one.
    """
    if not paired:
        return [_double(array) for array in arrays]
    pairs = (array.astype(np.complex128, order="C") for array in arrays)
    return [array[..., np.newaxis].view(np.float64) for array in pairs]


def _double(array: Array) -> NDArray[np.float64]:
    """Widen an array; small types go through float32, for which there are fast loops."""
    if array.dtype == BFLOAT16:
        bits = array.view(np.uint16).astype(np.uint32)
        bits <<= np.uint32(16)  # a bfloat16 is the upper half of a float32
        return bits.view(np.float32).astype(np.float64)
    if array.dtype.itemsize < SINGLE.itemsize:
        array = array.astype(np.float32)
    return array.astype(np.float64, copy=False)


def store(merged: Floats, out: Array, *, paired: bool) -> None:
    """Round merged values to the type of `out`, each of them once, to the nearest.

    Args:
        merged: values, (n,), or pairs of them, (n, 2).
        out: where they go, (n,).
        paired: whether they are pairs of real and imaginary parts.

    """
    if paired:
        out[...] = merged.view(np.dtype(f"c{2 * merged.dtype.itemsize}"))[..., 0].astype(out.dtype)
    elif merged.dtype != np.float64 or out.dtype.itemsize >= SINGLE.itemsize:
        np.copyto(out, merged, casting="unsafe")
    elif out.dtype == BFLOAT16:
        _to_bfloat16(merged, out)
    elif out.dtype == np.float16:
        _to_half(merged, out)
    else:
        out[...] = _rounded_to_odd(merged).astype(out.dtype)


def _to_bfloat16(values: Floats, out: Array) -> None:
    """Round by way of the nearest float32, which decides all but its ties, one of 65,536."""
    nearest = values.astype(np.float32)
    if np.isnan(nearest).any():
        out[...] = _rounded_to_odd(values).astype(out.dtype)
        return
    bits, upper = nearest.view(np.uint32), out.view(np.uint16)
    lower = bits.astype(np.uint16)
    np.copyto(upper, bits >> np.uint32(16), casting="unsafe")
    upper += lower > 0x8000  # noqa: PLR2004 - half of the last bit
    ties = lower == 0x8000  # noqa: PLR2004
    if ties.any():
        places = np.flatnonzero(ties)
        upper[places] += upper[places] & np.uint16(1)  # to even
        places = places[nearest[places] != values[places]]  # ties of nearest, not of values
        out[places] = _rounded_to_odd(values[places]).astype(out.dtype)


def _to_half(values: Floats, out: Array) -> None:
    """Round by way of the nearest float32, which decides all but its ties and tiny values."""
    nearest = values.astype(np.float32)
    np.copyto(out, nearest, casting="unsafe")
    unsure = (nearest.view(np.uint32) & np.uint32(0x1FFF)) == 0x1000  # noqa: PLR2004
    unsure |= np.abs(nearest) < SMALLEST_NORMAL_HALF
    if unsure.any():
        out[unsure] = _rounded_to_odd(values[unsure]).astype(out.dtype)


def _rounded_to_odd(values: Floats) -> NDArray[np.float32]:
    """Return float64 values in float32, an inexact one as its neighbor with an odd last bit.

    Rounding that to the nearest value of a type at least two bits narrower gives what rounding
    once would give (Boldo & Melquiond 2008, "Emulation of FMA and correctly rounded sums: proved
    algorithms using rounding to odd"). ml_dtypes casts float64 through the nearest float32, which
    rounds twice: 1 + 2⁻⁸ + 2⁻³⁰ becomes a tie in bfloat16.
    """
    nearest = values.astype(np.float32)
    bits = nearest.view(np.uint32)
    bits -= np.abs(nearest) > np.abs(values)  # toward zero
    bits |= nearest != values
    return nearest


def all_finite(values: Array) -> bool:
    """Tell whether no value is infinite or NaN."""
    exponents = EXPONENTS.get(values.dtype)
    if exponents is None:
        return bool(np.isfinite(values).all())
    bits: Bits = values.reshape(-1).view(f"u{values.dtype.itemsize}")
    mask = bits.dtype.type((1 << 8 * values.dtype.itemsize - 1) - 1)
    return all(
        int((bits[start : start + LOOK] & mask).max(initial=0)) < exponents
        for start in range(0, bits.size, LOOK)
    )
