"""Large blocks in pieces, so that no more than one of them has to be in memory at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from rebasin_hub.bind.axes import Block, BoundTensor, Segment

__all__ = ["pieces"]

PIECE = 1 << 23
"""Numbers of a piece at most, if there is an axis to cut."""


def pieces(tensor: BoundTensor) -> Iterator[Block]:
    """Yield a tensor's blocks, large ones cut along their longest atom that nothing renumbers.

    To renumber a block is to renumber each piece of it, and products are the sums of the pieces':
    the rows of an embedding, say, may be taken some at a time.
    """
    for block in tensor.blocks:
        yield from _cut(block)


def _cut(block: Block) -> Iterator[Block]:
    size = math.prod(block.shape)
    free = [
        number
        for number, atom in enumerate(block.atoms)
        if atom.permutation is None and block.places[number] >= 0
    ]
    longest = max(free, key=lambda number: block.shape[number], default=None)
    if size <= PIECE or longest is None:
        yield block
        return
    length = block.shape[longest]
    step = max(1, PIECE * length // size)
    for first in range(0, length, step):
        yield _part(block, longest, slice(first, min(first + step, length)))


def _part(block: Block, number: int, part: slice) -> Block:
    """Return the part of a block along one atom."""
    place = block.places[number]
    own = number - block.places.index(place)
    axis = place
    segment = block.segments[axis]
    atom = replace(block.atoms[number], size=part.stop - part.start)
    cut = Segment(
        (*segment.atoms[:own], atom, *segment.atoms[own + 1 :]),
        segment.positions[(slice(None),) * own + (part,)],
    )
    return replace(
        block,
        segments=(*block.segments[:axis], cut, *block.segments[axis + 1 :]),
        atoms=(*block.atoms[:number], atom, *block.atoms[number + 1 :]),
    )
