"""Weighted means by compiled code, where numba is there and tensors are worth it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.machinecode import loaded, worth
from rebasin_hub.merge.methods import sums_to_one
from rebasin_hub.merge.rounding import BFLOAT16, SINGLE

__all__ = ["Mean", "mean_of"]

Array: TypeAlias = NDArray[np.generic]
Mean: TypeAlias = Callable[[slice, Array], bool]
"""Fills an array with a piece of a mean; False, with anything in the array, where NaN came out."""


def mean_of(
    arrays: Sequence[Array], weights: Sequence[float], target: np.dtype[Any]
) -> Mean | None:
    """Return what makes pieces of a mean, with the bits of `linear` and `store`; None if nothing.

    Args:
        arrays: flat arrays of one length.
        weights: one for each.
        target: the type of the result.

    """
    heaviest = max(range(len(weights)), key=weights.__getitem__)
    others = [n for n, weight in enumerate(weights) if weight and n != heaviest]
    same = target in {BFLOAT16, SINGLE} and all(array.dtype == target for array in arrays)
    if not (same and others and worth(arrays[0].size) and sums_to_one(weights)):
        return None
    if (code := loaded("rebasin_hub.merge.kernels")) is None:
        return None
    function = code.mean_bfloat16 if target == BFLOAT16 else code.mean_float32
    shares = np.array([weights[n] for n in others])
    base, *rest = (_plain(arrays[n]) for n in (heaviest, *others))

    def mean(piece: slice, out: Array) -> bool:
        return bool(function(_plain(out), base[piece], tuple(n[piece] for n in rest), shares))

    return mean


def _plain(array: Array) -> Array:
    """View bfloat16 as its bits, which numba knows."""
    return array.view(np.uint16) if array.dtype == BFLOAT16 else array
