"""Numbers of one element type as those of another, and what was lost on the way."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rebasin_hub.rearrange import Array
from rebasin_hub.tensors import DTYPES, dtype_of

__all__ = ["CASTABLE", "Cast", "cast"]

CASTABLE = ("F64", "F32", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
"""Element types that are cast to one another."""
_PART = 1 << 18  # elements compared at a time
_SINGLE = np.dtype(np.float32)


@dataclass(frozen=True)
class Cast:
    """What casting one tensor did.

    Of its `size` numbers, `overflowed` became infinite or NaN, `underflowed` became zero, and
    `rounded` others changed, by a relative `largest_error` at most. Infinities, NaN and zeros are
    those of the input.
    """

    tensor: str
    before: str
    after: str
    size: int
    rounded: int = 0
    overflowed: int = 0
    underflowed: int = 0
    largest_error: float = 0.0

    @property
    def exact(self) -> bool:
        """Whether every number is still the same."""
        return not (self.rounded or self.overflowed or self.underflowed)


def cast(array: Array, dtype: str, tensor: str) -> tuple[Array, Cast]:
    """Return an array as another floating type, each number rounded once, to the nearest.

    Ties go to even. Law: casting to a wider type and back gives the same bits, but for signalling
    NaNs, which become quiet.

    Args:
        array: floats of a type in `CASTABLE`.
        dtype: the stored type's name.
        tensor: named in what is returned beside it.

    """
    with np.errstate(all="ignore"):
        result = _nearest(array, DTYPES[dtype].numpy)
        return result, _compared(array, result, tensor)


def _nearest(array: Array, kind: np.dtype[np.generic]) -> Array:
    narrow = kind.itemsize < _SINGLE.itemsize and kind != np.float16
    if array.dtype == np.float64 and narrow:
        # The narrow types of ml_dtypes go through float32: rounded to odd there, nothing is
        # rounded twice (Boldo and Melquiond 2008, "Emulation of FMA and correctly rounded sums").
        array = _to_odd(array)
    return array.astype(kind)


def _to_odd(array: Array) -> Array:
    """Return float64 as float32, cut off, with the last bit set where something was cut off."""
    near = np.atleast_1d(array.astype(np.float32))
    exact = np.atleast_1d(array)
    bits = near.view(np.uint32)
    inexact = (near.astype(np.float64) != exact) & ~np.isnan(exact)
    away = inexact & (np.abs(near.astype(np.float64)) > np.abs(exact))
    bits -= away.astype(np.uint32)
    bits |= inexact.astype(np.uint32)
    return near.reshape(array.shape)


def _compared(before: Array, after: Array, tensor: str) -> Cast:
    old, new = before.reshape(-1), after.reshape(-1)
    rounded = overflowed = underflowed = 0
    largest = 0.0
    for start in range(0, old.size, _PART):
        a = old[start : start + _PART].astype(np.float64)
        b = new[start : start + _PART].astype(np.float64)
        finite = np.isfinite(a)
        over = finite & ~np.isfinite(b)
        under = finite & (a != 0) & (b == 0)
        other = finite & (a != b) & ~over & ~under
        overflowed += int(over.sum())
        underflowed += int(under.sum())
        rounded += int(other.sum())
        errors = np.abs((b[other] - a[other]) / a[other])
        largest = max(largest, float(errors.max(initial=0.0)))
    return Cast(
        tensor,
        dtype_of(before),
        dtype_of(after),
        old.size,
        rounded=rounded,
        overflowed=overflowed,
        underflowed=underflowed,
        largest_error=largest,
    )
