"""Combine the same tensor of several models: one function for each method, in one table.

Every method keeps one law: models that are equal bit for bit give themselves back, bit for bit.
So a model that is merged with a renumbered copy of itself, once aligned, is unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import InputError
from rebasin_hub.tensors import DTYPES, dtype_of

__all__ = [
    "METHODS",
    "Method",
    "check",
    "combine",
    "linear",
    "normalized",
    "overflowed",
    "slerp",
]

Array: TypeAlias = NDArray[np.generic]
Floats: TypeAlias = NDArray[np.floating]
Method: TypeAlias = Callable[[Sequence[Floats], Sequence[float]], Floats]
"""Real arrays of one shape and one float type, and a weight for each that sum to one."""

NEARLY_PARALLEL = 1.0 - 1e-7
"""Above this cosine the great circle is a straight line to within the rounding of its sines."""


def linear(arrays: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Return the weighted mean, as the heaviest array plus weighted differences to it.

    Args:
        arrays: arrays of one shape and float type.
        weights: one for each array, with sum one.

    The sum over differences is what makes the mean of equal arrays exact in every bit, and both
    ends of a line the models themselves.

    """
    heaviest = max(range(len(weights)), key=weights.__getitem__)
    base = arrays[heaviest]
    shift = np.zeros_like(base)
    equal = np.ones(base.shape, dtype=np.bool_)
    for number, (array, weight) in enumerate(zip(arrays, weights, strict=True)):
        if number != heaviest and weight:
            shift += base.dtype.type(weight) * (array - base)
            equal &= array == base
    # Adding +0.0 would turn -0.0 into +0.0; equal infinities have differences that are NaN.
    return np.where(equal | (shift == 0), base, base + shift)


def slerp(arrays: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Return the point on the great circle between two arrays, as vectors, at `weights[1]`.

    Directions are interpolated as Shoemake (1985, "Animating rotation with quaternion curves")
    does; norms come out of the same formula. Nearly parallel, opposite or zero vectors are
    interpolated linearly, for which the great circle is not defined or makes no difference.
    Both ends of the arc are the arrays themselves.
    """
    a, b = arrays
    if 0 in weights:  # a sum with 0 · b would turn -0.0 into +0.0
        return linear(arrays, weights)
    norms = _dot(a, a) ** 0.5, _dot(b, b) ** 0.5
    if not all(0 < norm < np.inf for norm in norms):
        return linear(arrays, weights)
    cosine = _dot(a, b) / (norms[0] * norms[1])
    if not abs(cosine) < NEARLY_PARALLEL:
        return linear(arrays, weights)
    angle = np.arccos(cosine)
    kind = a.dtype.type
    share = [kind(np.sin(weight * angle) / np.sin(angle)) for weight in weights]
    result: Floats = share[0] * a + share[1] * b
    return result


def _dot(a: Floats, b: Floats) -> float:
    """Return the inner product, summed in float64: in float32 equal arrays look unequal."""
    return float(np.einsum("i,i->", a.reshape(-1), b.reshape(-1), dtype=np.float64))


METHODS: Mapping[str, Method] = {"linear": linear, "slerp": slerp}


def check(method: str, count: int) -> None:
    """Check that a method exists and takes this many models.

    Raises:
        InputError: it does not.

    """
    if method not in METHODS:
        raise InputError(f"unknown merge method '{method}'; there are {', '.join(METHODS)}")
    if count < 2:  # noqa: PLR2004
        raise InputError("a merge takes two models or more")
    if method == "slerp" and count != 2:  # noqa: PLR2004
        raise InputError(f"slerp merges two models, {count} were given; use --method linear")


def normalized(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """Return one weight for each model, with sum one; equal ones by default.

    Raises:
        InputError: their number is not `count`, or they are negative, not finite or all zero.

    """
    if weights is None:
        return (1 / count,) * count
    if len(weights) != count:
        raise InputError(f"{len(weights)} weights for {count} models; give one for each")
    total = sum(weights)
    if not (np.isfinite(total) and total > 0 and min(weights) >= 0):
        shown = ", ".join(f"{weight:g}" for weight in weights)
        raise InputError(f"the weights {shown} must not be negative and must have a positive sum")
    return tuple(weight / total for weight in weights)


def combine(
    arrays: Sequence[Array], weights: Sequence[float], *, method: str, dtype: str | None = None
) -> Array:
    """Merge one tensor.

    Args:
        arrays: the tensor of each model, of one shape; element types may differ.
        weights: one for each model, with sum one.
        method: a key of `METHODS`.
        dtype: the stored type of the result (a key of `DTYPES`); the first array's by default.

    Products and sums are computed in float32, or in float64 where an input is float64, and the
    result is rounded to the stored type once. Complex arrays are merged as vectors of real and
    imaginary parts. Integers and booleans are no numbers to average: the first model's are kept.
    Values that are too large for the stored type become infinite (see `overflowed`).

    Raises:
        InputError: the method is unknown or does not take this many models, or the result is
            complex and the stored type is not.

    """
    check(method, len(arrays))
    first = arrays[0]
    if not is_floating(first):
        return first
    target = DTYPES[dtype].numpy if dtype is not None else first.dtype
    paired = any(array.dtype.kind == "c" for array in arrays)
    if paired and target.kind != "c":
        raise InputError(
            f"complex values cannot be merged into '{dtype or dtype_of(first)}', which has no "
            "imaginary part; give the complex model first, without --dtype"
        )
    used = [array for array, weight in zip(arrays, weights, strict=True) if weight]
    if used[0].dtype == target and all(_same_bits(used[0], array) for array in used[1:]):
        return used[0]  # arithmetic and casts would change the payload of a NaN
    # Infinities and NaN in a model are its own affair; `overflowed` tells of new ones.
    with np.errstate(invalid="ignore", over="ignore"):
        merged = METHODS[method](_widened(arrays, paired=paired), weights)
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
    with np.errstate(invalid="ignore"):  # signalling NaN of small types would warn
        lost = ~np.isfinite(merged)
        for array in arrays:
            if not lost.any():  # nearly always: the arrays are not read again
                return 0
            lost &= np.isfinite(array)
    return int(np.count_nonzero(lost))


def _same_bits(a: Array, b: Array) -> bool:
    bits = f"u{a.dtype.itemsize}"
    return a.dtype == b.dtype and np.array_equal(a.view(bits), b.view(bits))


def _widened(arrays: Sequence[Array], *, paired: bool) -> list[Floats]:
    """Return the arrays in the type that sums are computed in.

    Where `paired`, a last axis of two is added for the real and the imaginary part: products of
    complex numbers would turn infinities into NaN, and the inner product has to be the real one.
    """
    real = np.dtype(np.float64 if any(a.dtype == np.float64 for a in arrays) else np.float32)
    if not paired:
        return [array.astype(real) for array in arrays]
    pairs = np.dtype(f"c{2 * real.itemsize}")
    return [array.astype(pairs, order="C")[..., np.newaxis].view(real) for array in arrays]


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
