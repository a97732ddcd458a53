"""Memory for large arrays that is used again: the system takes long to hand out fresh pages.

An array's memory comes back when the last array that views it is gone, and serves the next one of
about its size. What was in it stays until it is overwritten.
"""

from __future__ import annotations

import math
import weakref
from dataclasses import dataclass, field
from threading import RLock
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["empty"]

LARGE = 1 << 20
"""Bytes of the smallest array for which it is worth while."""
IDLE = 512 << 20
"""Bytes that are kept for later at most."""


@dataclass
class _Kept:
    """What waits to be used again, and the bytes in use now and at most so far."""

    idle: list[NDArray[np.uint8]] = field(default_factory=list)
    used: int = 0
    most: int = 0


_kept = _Kept()
_lock = RLock()  # memory may come back in the middle of anything, by the same thread


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return an array with anything in it, C-contiguous, as `numpy.empty` does."""
    nbytes = math.prod(shape) * dtype.itemsize
    if nbytes < LARGE:
        return np.empty(shape, dtype)
    memory = _taken(nbytes)
    # NumPy would let views refer to `memory` itself; behind a buffer they have to refer to `lent`.
    lent = np.frombuffer(memory.data, np.uint8, nbytes)
    weakref.finalize(lent, _returned, memory).atexit = False
    return lent.view(dtype).reshape(shape)


def _taken(nbytes: int) -> NDArray[np.uint8]:
    """Return memory that fits; in all, there is never more than was in use at some time."""
    with _lock:
        fitting = [memory for memory in _kept.idle if nbytes <= memory.size <= 2 * nbytes]
        best = min(fitting, key=len, default=None)
        size = nbytes if best is None else best.size
        _kept.idle = [memory for memory in _kept.idle if memory is not best]
        _kept.used += size
        _kept.most = max(_kept.most, _kept.used)
        _drop(_kept.most - _kept.used)
    return np.empty(nbytes, np.uint8) if best is None else best


def _returned(memory: NDArray[np.uint8]) -> None:
    with _lock:
        _kept.used -= memory.size
        _kept.idle.append(memory)
        _drop(IDLE)


def _drop(most: int) -> None:
    """Give memory back to the system, the oldest first, until no more than this waits."""
    while _kept.idle and sum(map(len, _kept.idle)) > most:
        del _kept.idle[0]
