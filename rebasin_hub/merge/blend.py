"""Merge one tensor of several models, stretch by stretch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import InputError
from rebasin_hub.merge.methods import METHODS, Floats, check, sums_to_one
from rebasin_hub.tensors import DTYPES, dtype_of

__all__ = ["STRETCH", "combine", "is_floating", "overflowed"]

Array: TypeAlias = NDArray[np.generic]

STRETCH = 1 << 18
"""Elements that are widened and merged at a time: sums then stay in the cache."""


def combine(
    arrays: Sequence[Array], weights: Sequence[float], *, method: str, dtype: str | None = None
) -> Array:
    """Merge one tensor.

    Args:
        arrays: the tensor of each model, of one shape; element types may differ.
        weights: one for each model; they sum to one, except for sums that are no means (linear).
        method: a key of `METHODS`.
        dtype: the stored type of the result (a key of `DTYPES`); the first array's by default.

    Products and sums are computed in float64, and the result is rounded to the stored type once.
    Complex arrays are merged as vectors of real and imaginary parts. Integers and booleans are no
    numbers to average: the first model's are kept. Values that are too large for the stored type
    become infinite (see `overflowed`). Beside the arrays and the result, a few stretches are in
    memory.

    Raises:
        InputError: the method is unknown or does not take this many models, or the result is
            complex and the stored type is not.

    """
    check(method, len(arrays))
    first = arrays[0]
    if not is_floating(first):
        return first
    target = DTYPES[dtype].numpy if dtype is not None else first.dtype
    if any(array.dtype.kind == "c" for array in arrays) and target.kind != "c":
        raise InputError(
            f"complex values cannot be merged into '{dtype or dtype_of(first)}', which has no "
            "imaginary part; give the complex model first, without --dtype"
        )
    used = [array for array, weight in zip(arrays, weights, strict=True) if weight]
    if used and sums_to_one(weights) and used[0].dtype == target and _all_same_bits(used):
        return used[0]  # arithmetic and casts would change the payload of a NaN
    return _merged(arrays, weights, method, target)


def _merged(
    arrays: Sequence[Array], weights: Sequence[float], method: str, target: np.dtype[np.generic]
) -> Array:
    flat = [np.ascontiguousarray(array).reshape(-1) for array in arrays]
    paired = any(array.dtype.kind == "c" for array in arrays)

    def parts() -> Iterator[list[Floats]]:
        for stretch in _stretches(flat[0].size):
            yield _widened([array[stretch] for array in flat], paired=paired)

    result = np.empty(arrays[0].shape, target)
    out = result.reshape(-1)
    # Infinities and NaN in a model are its own affair; `overflowed` tells of new ones.
    with np.errstate(invalid="ignore", over="ignore"):
        blend = METHODS[method](parts, weights)
        for stretch, part in zip(_stretches(flat[0].size), parts(), strict=True):
            out[stretch] = _stored(blend(part), target, paired=paired)
    return result


def _stretches(size: int) -> Iterator[slice]:
    for start in range(0, size, STRETCH):
        yield slice(start, min(start + STRETCH, size))


def _stored(merged: Floats, target: np.dtype[np.generic], *, paired: bool) -> Array:
    """Round a merged stretch to the stored type, once."""
    if paired:
        pairs = np.dtype(f"c{2 * merged.dtype.itemsize}")
        return merged.view(pairs)[..., 0].astype(target)
    if merged.dtype == np.float64 and target.itemsize < np.dtype(np.float32).itemsize:
        merged = _rounded_to_odd(merged)
    return merged.astype(target)


def overflowed(arrays: Sequence[Array], merged: Array) -> int:
    """Return how many elements are finite in every array but not in what `combine` made of them.

    Args:
        arrays: the tensor of each model, of one shape.
        merged: their merge, of the same shape.

    """
    if any(merged is array for array in arrays):
        return 0
    with np.errstate(invalid="ignore"):  # signalling NaN of small types would warn
        lost = ~np.isfinite(merged)
        for array in arrays:
            if not lost.any():  # nearly always: the arrays are not read again
                return 0
            lost &= np.isfinite(array)
    return int(np.count_nonzero(lost))


def _all_same_bits(arrays: Sequence[Array]) -> bool:
    first = arrays[0]
    bits = f"u{first.dtype.itemsize}"
    return all(
        array.dtype == first.dtype and np.array_equal(first.view(bits), array.view(bits))
        for array in arrays[1:]
    )


def _widened(arrays: Sequence[Array], *, paired: bool) -> list[Floats]:
    """Return the arrays in the type that sums are computed in.

    Where `paired`, a last axis of two is added for the real and the imaginary part: products of
    complex numbers would turn infinities into NaN, and the inner product has to be the real one.
    """
    if not paired:
        return [_double(array) for array in arrays]
    pairs = (array.astype(np.complex128, order="C") for array in arrays)
    return [array[..., np.newaxis].view(np.float64) for array in pairs]


def _double(array: Array) -> NDArray[np.float64]:
    """Widen an array; small types go through float32, for which ml_dtypes has fast loops."""
    if array.dtype.itemsize < np.dtype(np.float32).itemsize:
        array = array.astype(np.float32)
    return array.astype(np.float64, copy=False)


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


def is_floating(array: Array) -> bool:
    """Tell whether an array's values are numbers that can be averaged."""
    return any(dtype.floating and dtype.numpy == array.dtype for dtype in DTYPES.values())
