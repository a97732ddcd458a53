"""Tell how far long work has come."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import TypeAlias

from rebasin_hub.rearrange import Array, Read
from rebasin_hub.tensors import Header

__all__ = ["Progress", "counting", "stage"]

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told what is going on, how much of it is done, and how much there is in all."""


def stage(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    """Return a callback for one stage of the work."""
    if progress is None:
        return None
    return lambda done, total: progress(name, done, total)


def counting(read: Read, header: Header, progress: Progress | None, name: str) -> Read:
    """Return a reader that tells `progress(name, done, total)` how many bytes it has read.

    Each tensor counts once: what needs one again tells of itself.
    """
    if progress is None:
        return read
    total, done = sum(info.nbytes for info in header.values()), 0
    lock, known = Lock(), set[str]()

    def read_and_count(tensor: str) -> Array:
        nonlocal done
        array = read(tensor)
        with lock:  # several threads may read
            if tensor not in known:
                known.add(tensor)
                done = min(total, done + array.nbytes)
                progress(name, done, total)
        return array

    return read_and_count
