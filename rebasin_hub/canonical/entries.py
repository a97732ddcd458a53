"""A stored tensor seen by its units: blocks with one axis for each atom, cut into small pieces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.bind.axes import Block, BoundTensor
from rebasin_hub.rearrange import Array, Read
from rebasin_hub.stream import A_FEW, Bound, ahead

__all__ = ["EAGER", "ELEMENTS", "Piece", "Slab", "Stream", "bits_of", "cut", "each_slab", "pieces"]

Scalar = TypeVar("Scalar", bound=np.generic)
Seen = TypeVar("Seen")
Piece = tuple[slice, ...]

ELEMENTS = 1 << 16
"""Elements of one piece: half a megabyte of 64-bit numbers, which stays in a core's cache."""


@dataclass(frozen=True, eq=False)
class Slab:
    """One block of one stored tensor.

    `values` has one axis for each atom of the block; the atoms of a renumbered name have axes of
    length one, and `where` says which of their indices this stored tensor stands for. `number` is
    the block's position among its tensor's blocks.
    """

    block: Block
    number: int
    where: tuple[int, ...]
    values: Array

    def here(self, axes: tuple[int, ...]) -> Piece:
        """Return where in an array with these atoms' axes the units of this stored tensor stand."""
        return tuple(
            slice(self.where[axis], self.where[axis] + 1) if axis < len(self.where) else slice(None)
            for axis in axes
        )

    def spread(self, values: NDArray[Scalar], atom: int) -> NDArray[Scalar]:
        """Lay one value for each unit of an atom's permutation out along the block's axes.

        Shapes: the group's `shape` of the permutation, to one that broadcasts to `values`.
        """
        axes = self.block.lineage(atom)
        local = values[self.here(axes)]
        shape = [1] * self.values.ndim
        for axis, size in zip(axes, local.shape, strict=True):
            shape[axis] = size
        return local.transpose(np.argsort(axes)).reshape(shape)

    def gathered(self, values: NDArray[Scalar], atom: int) -> NDArray[Scalar]:
        """Undo `spread`: from the block's axes to those of the atom's eldest first."""
        axes = self.block.lineage(atom)
        local = values.reshape([values.shape[axis] for axis in sorted(axes)])
        return local.transpose([sorted(axes).index(axis) for axis in axes])


@dataclass(frozen=True, eq=False)
class Stream:
    """How tensors are gone over in threads: the bytes that one takes, and how many at a time."""

    cost: Callable[[BoundTensor], int] = lambda tensor: 8 * math.prod(tensor.shape)
    bound: Bound = A_FEW

    def over(
        self, tensors: Sequence[BoundTensor], look: Callable[[BoundTensor], Seen]
    ) -> list[Seen]:
        """Return what a look at each tensor gives, in their order."""
        with ahead(tensors, look, cost=self.cost, bound=self.bound) as results:
            return [seen for _, seen in results]


EAGER = Stream()
"""Threads, and a few tensors at a time, none of whose elements takes more than eight bytes."""


def each_slab(tensor: BoundTensor, read: Read, visit: Callable[[Slab], None]) -> None:
    """Visit every block of every stored tensor, with one stored tensor in memory at a time."""
    for where in np.ndindex(tensor.names.shape):
        _visit_stored(tensor, where, read, visit)


def _visit_stored(
    tensor: BoundTensor, where: tuple[int, ...], read: Read, visit: Callable[[Slab], None]
) -> None:
    stored = read(str(tensor.names[where]))
    stored = stored.reshape((1,) * len(where) + stored.shape)
    for number, block in enumerate(tensor.blocks):
        visit(Slab(block, number, where, block.of(stored)))


def bits_of(array: Array) -> NDArray[Any]:
    """Return the raw bits of an array as unsigned integers of the same width."""
    return array.view(f"u{array.dtype.itemsize}")


def pieces(shape: tuple[int, ...], limit: int = ELEMENTS) -> Iterator[Piece]:
    """Cut an array into consecutive pieces of at most `limit` elements."""
    axis, tail = len(shape), 1
    while axis and tail * shape[axis - 1] <= limit:
        axis -= 1
        tail *= shape[axis]
    whole = (slice(None),) * (len(shape) - axis)
    if axis == 0:
        yield whole
        return
    step = max(1, limit // max(1, tail))
    for outer in np.ndindex(shape[: axis - 1]):
        lead = tuple(slice(i, i + 1) for i in outer)
        for start in range(0, shape[axis - 1], step):
            yield (*lead, slice(start, start + step), *whole)


def cut(array: NDArray[Scalar], piece: Piece) -> NDArray[Scalar]:
    """Cut a piece out of an array that broadcasts to the shape which the piece was made for."""
    return array[
        tuple(p if n > 1 else slice(None) for p, n in zip(piece, array.shape, strict=True))
    ]
