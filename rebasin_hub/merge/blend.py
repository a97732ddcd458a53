"""Merge one tensor of several models, stretch by stretch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.buffers import empty
from rebasin_hub.errors import InputError, NotFiniteError
from rebasin_hub.merge.fused import Mean, mean_of
from rebasin_hub.merge.methods import METHODS, Floats, check, linear, sums_to_one
from rebasin_hub.merge.rounding import all_finite, store, widened
from rebasin_hub.tensors import DTYPES, dtype_of

__all__ = ["STRETCH", "clashes", "combine", "is_floating", "no_mean", "overflowed"]

Array: TypeAlias = NDArray[np.generic]

STRETCH = 1 << 18
"""Elements that are widened at a time where a method looks at a whole tensor."""
PIECE = 1 << 14
"""Elements that are widened, merged and rounded in one go: all of it stays in a core's cache."""
PASS = 1 << 17
"""Elements that compiled code merges in one go; each of them takes threads from their work."""


def combine(
    arrays: Sequence[Array],
    weights: Sequence[float],
    *,
    method: str,
    dtype: str | None = None,
    reuse: bool = False,
) -> Array:
    """Merge one tensor.

    Args:
        arrays: the tensor of each model, of one shape; element types may differ.
        weights: one for each model; they sum to one, except for sums that are no means (linear).
        method: a key of `METHODS`.
        dtype: the stored type of the result (a key of `DTYPES`); the first array's by default.
        reuse: the arrays are needed no longer, and the result may take the memory of one.

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
    spare = (array for array in arrays if array.dtype == target and array.flags.c_contiguous)
    out = next(spare, None) if reuse else None
    return _merged(arrays, weights, method, empty(first.shape, target) if out is None else out)


def _merged(arrays: Sequence[Array], weights: Sequence[float], method: str, result: Array) -> Array:
    flat = [np.ascontiguousarray(array).reshape(-1) for array in arrays]
    paired = any(array.dtype.kind == "c" for array in arrays)

    def parts(step: int = STRETCH) -> Iterator[list[Floats]]:
        for stretch in _stretches(flat[0].size, step):
            yield widened([array[stretch] for array in flat], paired=paired)

    out = result.reshape(-1)
    # Infinities and NaN in a model are its own affair; `overflowed` tells of new ones.
    with np.errstate(invalid="ignore", over="ignore"):
        mean = mean_of(flat, weights, out.dtype) if method == "linear" else None
        if mean is not None:
            _by(mean, flat, weights, out)
            return result
        blend = METHODS[method](parts, weights)
        for piece, part in zip(_stretches(out.size, PIECE), parts(PIECE), strict=True):
            store(blend(part), out[piece], paired=paired)
    return result


def _by(mean: Mean, flat: Sequence[Array], weights: Sequence[float], out: Array) -> None:
    """Fill `out` by compiled code, but for pieces with NaN: there the bits are those of NumPy."""
    made = np.empty(PASS, out.dtype)
    for piece in _stretches(out.size, PASS):
        part = out[piece]
        if mean(piece, made[: part.size]):
            np.copyto(part, made[: part.size])
        else:
            store(
                linear(widened([a[piece] for a in flat], paired=False), weights), part, paired=False
            )


def _stretches(size: int, step: int) -> Iterator[slice]:
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))


def overflowed(arrays: Sequence[Array], merged: Array) -> int:
    """Return how many elements are finite in every array but not in what `combine` made of them.

    Args:
        arrays: the tensor of each model, of one shape.
        merged: their merge, of the same shape.

    """
    if any(merged is array for array in arrays):
        return 0
    flat, parts = merged.reshape(-1), [array.reshape(-1) for array in arrays]
    lost = 0
    with np.errstate(invalid="ignore"):  # signalling NaN of small types would warn
        for piece in _stretches(flat.size, PIECE):
            if all_finite(flat[piece]):  # nearly always: the arrays are not read again
                continue
            found = ~np.isfinite(flat[piece])
            for part in parts:
                found &= np.isfinite(part[piece])
            lost += int(np.count_nonzero(found))
    return lost


def clashes(arrays: Sequence[Array]) -> bool:
    """Tell whether one of some arrays is infinite where another one is not the same.

    Args:
        arrays: the tensor of each model, of one shape; equal infinities are their own mean.

    """
    flat = [array.reshape(-1) for array in arrays]
    with np.errstate(invalid="ignore"):
        for piece in _stretches(flat[0].size, PIECE):
            parts = [array[piece] for array in flat]
            if not all(map(all_finite, parts)):
                infinite = np.logical_or.reduce([np.isinf(part) for part in parts])
                alike = np.logical_and.reduce([parts[0] == part for part in parts[1:]])
                if (infinite & ~alike).any():
                    return True
    return False


def no_mean(name: str) -> NotFiniteError:
    """Return the error for a tensor whose infinite values `clashes` tells apart."""
    return NotFiniteError(
        f"{name}: holds infinite values that are not the same in all models, and so have no mean; "
        "give all models the same ones"
    )


def _all_same_bits(arrays: Sequence[Array]) -> bool:
    first = arrays[0]
    if any(array.dtype != first.dtype for array in arrays):
        return False
    flat = [array.reshape(-1).view(f"u{first.dtype.itemsize}") for array in arrays]
    return all(
        np.array_equal(flat[0][piece], other[piece])
        for piece in _stretches(first.size, PIECE)
        for other in flat[1:]
    )


def is_floating(array: Array) -> bool:
    """Tell whether an array's values are numbers that can be averaged."""
    return any(dtype.floating and dtype.numpy == array.dtype for dtype in DTYPES.values())
