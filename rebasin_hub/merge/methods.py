"""The methods of merging, one function each, in one table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import InputError

__all__ = [
    "METHODS",
    "Blend",
    "Floats",
    "Parts",
    "Prepare",
    "check",
    "linear",
    "slerp",
    "sums_to_one",
]

Floats: TypeAlias = NDArray[np.floating]
Parts: TypeAlias = Callable[[], Iterable[Sequence[Floats]]]
"""Yields one tensor of all models, stretch by stretch: arrays of one shape and float type."""
Blend: TypeAlias = Callable[[Sequence[Floats]], Floats]
"""Makes one stretch of the result of the same stretch of all models."""
Prepare: TypeAlias = Callable[[Parts, Sequence[float]], Blend]
"""A method: looks at a whole tensor, if it must, and at the weight of each model."""

NEARLY_PARALLEL = 1.0 - 1e-7
"""Above this cosine the great circle is a straight line to within the rounding of its sines."""
ROUNDING = 1e-12
"""By how much weights that were divided by their sum may miss one."""


def linear(arrays: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Return the weighted sum, as the heaviest array plus weighted differences to it.

    Args:
        arrays: arrays of one shape and float type.
        weights: one for each array; with a sum of one this is the weighted mean.

    The sum over differences is what makes the mean of equal arrays exact in every bit, and both
    ends of a line the models themselves.

    """
    heaviest = max(range(len(weights)), key=weights.__getitem__)
    base = arrays[heaviest]
    kind = base.dtype.type
    others = [n for n, weight in enumerate(weights) if weight and n != heaviest]
    shift = None
    for number in others:
        step = arrays[number] - base
        step *= kind(weights[number])
        shift = step if shift is None else np.add(shift, step, out=shift)
    mean = sums_to_one(weights)
    whole: Floats = base if mean else kind(math.fsum(weights)) * base
    if shift is None:
        return whole.copy() if mean else whole + kind(0)
    total: Floats = np.asarray(whole + (shift if mean else shift + kind(0)))  # sums start at +0.0
    kept = shift == 0 if mean else np.zeros(shift.shape, bool)  # +0.0 would turn -0.0 into +0.0
    lost = np.isnan(shift)
    if lost.any():  # equal infinities have differences that are NaN
        kept |= np.logical_and.reduce([lost, *(arrays[number] == base for number in others)])
    if kept.any():
        np.copyto(total, whole, where=kept)
    return total


def slerp(arrays: Sequence[Floats], weights: Sequence[float]) -> Floats:
    """Return the point on the great circle between two arrays, as vectors, at `weights[1]`.

    Directions are interpolated as Shoemake (1985, "Animating rotation with quaternion curves")
    does; norms come out of the same formula. Nearly parallel, opposite or zero vectors are
    interpolated linearly, for which the great circle is not defined or makes no difference.
    Both ends of the arc are the arrays themselves.
    """
    return _slerp(lambda: [arrays], weights)(arrays)


def sums_to_one(weights: Sequence[float]) -> bool:
    """Tell whether weights make a mean."""
    return abs(math.fsum(weights) - 1.0) <= ROUNDING


def _linear(_: Parts, weights: Sequence[float]) -> Blend:
    return lambda arrays: linear(arrays, weights)


def _slerp(parts: Parts, weights: Sequence[float]) -> Blend:
    angle = None if 0 in weights else _angle(parts)  # a sum with 0 · b would turn -0.0 into +0.0
    if angle is None:
        return _linear(parts, weights)
    shares = [math.sin(weight * angle) / math.sin(angle) for weight in weights]

    def blend(arrays: Sequence[Floats]) -> Floats:
        a, b = arrays
        result: Floats = a.dtype.type(shares[0]) * a + b.dtype.type(shares[1]) * b
        return result

    return blend


def _angle(parts: Parts) -> float | None:
    """Return the angle between two vectors; None where their great circle is not to be used."""
    squared_a = squared_b = inner = 0.0
    for a, b in parts():
        squared_a, squared_b = squared_a + _dot(a, a), squared_b + _dot(b, b)
        inner += _dot(a, b)
    norms = math.sqrt(squared_a), math.sqrt(squared_b)
    if not all(0 < norm < math.inf for norm in norms):
        return None
    cosine = inner / (norms[0] * norms[1])
    return math.acos(cosine) if abs(cosine) < NEARLY_PARALLEL else None


def _dot(a: Floats, b: Floats) -> float:
    """Return the inner product, summed in float64: in float32 equal arrays look unequal."""
    return float(np.einsum("i,i->", a.reshape(-1), b.reshape(-1), dtype=np.float64))


METHODS: Mapping[str, Prepare] = {"linear": _linear, "slerp": _slerp}


def check(method: str, count: int) -> None:
    """Check that a method exists and takes this many models.

    Raises:
        InputError: it does not.

    """
    if method not in METHODS:
        raise InputError(f"unknown merge method '{method}'; there are {', '.join(METHODS)}")
    if count < 2:  # noqa: PLR2004
        raise InputError("a merge takes two models or more; give them, or one recipe (.yaml)")
    if method == "slerp" and count != 2:  # noqa: PLR2004
        raise InputError(f"slerp merges two models, {count} were given; use --method linear")
