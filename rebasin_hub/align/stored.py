"""Blocks where they are stored, and how they come to the device: widened, laid out for products."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.backend import Array, Backend
from rebasin_hub.align.later import Later
from rebasin_hub.align.narrow import NARROW
from rebasin_hub.bind.axes import Block

__all__ = ["Reading", "Stored", "finite", "kinds_of", "memory_order"]

Stack: TypeAlias = NDArray[Any]
"""A tensor as it is stored; one that is spread over names, stacked."""

Reading: TypeAlias = Callable[[], Stack]
"""Returns a tensor, read again or not."""

Kind: TypeAlias = tuple[np.dtype[Any], Literal["real", "imag"]]
"""The type that numbers are widened to, and the part of them, if they are complex."""

CHUNK = 1 << 22
"""How many numbers are looked at at a time."""


@dataclass(frozen=True, eq=False)
class Stored:
    """A block of one model: the tensor that it is cut from, and the type that it is widened to.

    Types below float32 are widened to it, which changes no value, unless the backend leaves them
    narrow; float64 stays, as far as the device has it. Of complex numbers `part` is taken.
    """

    backend: Backend
    block: Block
    reading: Reading
    kind: Kind

    @cached_property
    def order(self) -> tuple[int, ...]:
        """The atoms in the order in which memory holds them, the slowest first."""
        return memory_order(self.block)

    def array(self, change: Callable[[Stack], Stack] | None = None) -> Array:
        """Read the block, change it as it is stored, and bring it to the device."""
        dtype, part = self.kind
        stored = self.block.of(self.reading())
        stored = stored if change is None else change(stored)
        stored = getattr(stored, part)
        if self.order == tuple(range(len(self.order))):
            return self.backend.asarray(stored.astype(dtype, copy=False))
        # Widened where it is laid out: in one pass, with no array in between.
        there = np.ascontiguousarray(stored.transpose(self.order), dtype=dtype)
        back = tuple(map(self.order.index, range(len(self.order))))
        return self.backend.xp.permute_dims(self.backend.asarray(there), back)

    def later(self, change: Callable[[Stack], Stack] | None = None) -> Later:
        """Return what stands for `array` where that is to be made when it is needed."""
        own = self.kind[0]
        dtype = own if self.backend.device is None else getattr(self.backend.xp, own.name)
        return Later(self.block.shape, dtype, lambda: self.array(change))


def memory_order(block: Block) -> tuple[int, ...]:
    """Return a block's atoms in the order in which memory should hold them, the slowest first.

    Of two that are moved, one comes first and one last, such as the channels of a kernel: the
    units of either are then the rows or the columns of one matrix, and products of them need no
    copy. Where more are moved, there is no such order.
    """
    natural = tuple(range(len(block.atoms)))
    moving = tuple(number for number in natural if block.atoms[number].permutation is not None)
    if len(moving) not in {1, 2} or moving == natural[-1:]:
        return natural
    fixed = (number for number in natural if number not in moving)
    return (moving[0], *fixed, *moving[1:])


def kinds_of(backend: Backend, a: Stack, b: Stack) -> tuple[Kind, ...]:
    """Return the type that two tensors are multiplied in, for each part of their numbers.

    The real inner product of complex arrays is the sum over both parts.
    """
    if backend.narrow and a.dtype == b.dtype and a.dtype.name in NARROW:
        return ((a.dtype, "real"),)
    double = any(x.dtype in (np.float64, np.complex128) for x in (a, b))
    dtype = backend.widest if double else np.dtype(np.float32)
    if any(x.dtype.kind == "c" for x in (a, b)):
        return (dtype, "real"), (dtype, "imag")
    return ((dtype, "real"),)


def finite(array: Stack, kinds: Iterable[Kind]) -> bool:
    """Tell whether no number is NaN or infinite, nor becomes so where it is widened."""
    rows = array if array.ndim else array[None]
    step = max(1, CHUNK * len(rows) // max(1, rows.size))
    return all(
        np.isfinite(getattr(rows[n : n + step], part).astype(dtype, copy=False)).all()
        for dtype, part in kinds
        for n in range(0, len(rows), step)
    )
