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
from rebasin_hub.tensors import DTYPES

__all__ = ["METHODS", "Method", "combine", "linear", "normalized", "slerp"]

Array: TypeAlias = NDArray[np.generic]
Floats: TypeAlias = NDArray[np.floating]
Method: TypeAlias = Callable[[Sequence[Floats], Sequence[float]], Floats]
"""Arrays of one shape and one float type, and a weight for each that sum to one."""

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

    Raises:
        InputError: there are not exactly two arrays.

    """
    if len(arrays) != 2:  # noqa: PLR2004
        raise InputError(f"slerp merges two models, {len(arrays)} were given; use --method linear")
    a, b = arrays
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

    Products and sums are computed in float32, or in float64 where an input is float64. Integers
    and booleans are no numbers to average: the first model's are kept.

    Raises:
        InputError: the method is unknown or does not take this many models.

    """
    if method not in METHODS:
        raise InputError(f"unknown merge method '{method}'; there are {', '.join(METHODS)}")
    first = arrays[0]
    if not is_floating(first):
        return first
    target = DTYPES[dtype].numpy if dtype is not None else first.dtype
    wide = np.dtype(
        np.complex64
        if first.dtype.kind == "c"
        else np.float64
        if any(array.dtype == np.float64 for array in arrays)
        else np.float32
    )
    merged = METHODS[method]([array.astype(wide) for array in arrays], weights)
    return merged.astype(target)


def is_floating(array: Array) -> bool:
    """Tell whether an array's values are numbers that can be averaged."""
    return any(dtype.floating and dtype.numpy == array.dtype for dtype in DTYPES.values())
