"""Memory that is used again and again for arrays that live for one step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Room"]

ALIGNED = 64
"""Bytes of a cache line, at whose multiples arrays begin."""


class Room:
    """Hands out arrays one after the other; `clear` takes them all back at once.

    What does not fit is allocated as usual, and the next time there is room for it: a system's
    first touch of fresh memory takes longer than what is computed there.
    """

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)
        self._used = 0

    def array(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Return an array of any content."""
        first, size = self._used, math.prod(shape) * np.dtype(dtype).itemsize
        self._used += -(-size // ALIGNED) * ALIGNED
        if self._used > len(self._memory):
            return np.empty(shape, dtype)
        return self._memory[first : first + size].view(dtype).reshape(shape)

    def clear(self) -> None:
        """Take back all arrays, which are not to be looked at any more."""
        if self._used > len(self._memory):
            self._memory = np.empty(self._used, np.uint8)
        self._used = 0
