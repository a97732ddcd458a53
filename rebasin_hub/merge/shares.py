"""Shares of layers that keep their mean."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import InputError

__all__ = ["balanced"]

Floats: TypeAlias = NDArray[np.float64]

HALVINGS = 60
"""Of an interval of length 2 or less: what is left is below the rounding of its ends."""


def balanced(values: Sequence[float] | Floats, sizes: Sequence[float], mean: float) -> Floats:
    """Shift values by one number and cut them to [0, 1], so that they have a given mean.

    Args:
        values: (n,) numbers.
        sizes: (n,), how much each counts in the mean; above 0.
        mean: from 0 to 1.

    Returns (n,) float64 in [0, 1], whose mean by sizes is `mean` up to rounding. The laws: values
    that meet this already stay where they are; the order of the values is kept; it is the nearest
    point that does, where distances count by sizes (the projection onto a box and a plane).

    Raises:
        InputError: there are no values, a value is not finite, or the mean is not from 0 to 1.

    """
    given, weights = np.asarray(values, np.float64), np.asarray(sizes, np.float64)
    if not (given.size and np.isfinite(given).all() and 0 <= mean <= 1):
        raise InputError(
            f"{given.size} shares with the mean {mean:g}; expected finite numbers, and a mean from "
            "0 to 1"
        )
    weights = weights / math.fsum(weights)

    def beyond(shift: float) -> float:
        return float(weights @ np.clip(given + shift, 0, 1)) - mean

    if ((given >= 0) & (given <= 1)).all() and abs(beyond(0.0)) <= given.size * np.spacing(1.0):
        return given.copy()
    low, high = -float(given.max()), 1 - float(given.min())  # all are 0, and all are 1
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if beyond(middle) > 0 else (middle, high)
    return np.clip(given + (low + high) / 2, 0, 1)
