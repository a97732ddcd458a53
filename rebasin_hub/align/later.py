"""Arrays that are made when they are needed, and dropped after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rebasin_hub.align.backend import Array

__all__ = ["Later", "after", "made"]


@dataclass(frozen=True, eq=False)
class Later:
    """Stands for an array of the backend: what is known of it, and how to make it.

    Wherever a search that streams may meet one in place of an array, it says `made(array)` right
    where it computes, and keeps nothing of it.
    """

    shape: tuple[int, ...]
    dtype: Any
    make: Callable[[], Array]

    @property
    def itemsize(self) -> int:
        """Bytes of one number."""
        return int(self.dtype.itemsize)

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)


def made(array: Array | Later) -> Array:
    """Return the array itself, made where it has not been yet."""
    return array.make() if isinstance(array, Later) else array


def after(
    array: Array | Later, shape: tuple[int, ...], work: Callable[[Array], Array]
) -> Array | Later:
    """Return what `work` makes of an array, an array of such a shape and the same type.

    At once where the array is there, and every time that it is made where it is not.
    """
    if isinstance(array, Later):
        return Later(shape, array.dtype, lambda: work(array.make()))
    return work(array)
