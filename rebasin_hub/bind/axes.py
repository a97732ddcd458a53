"""Bound axes: which permutation and which of its indices stands at each position of a tensor."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.permute import Index
from rebasin_hub.spec.pattern import Axis, Integer, Product, Sum, Wildcard, Word

__all__ = ["Atom", "Block", "BoundAxis", "BoundTensor", "Segment", "build_axis"]

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True)
class Atom:
    """One factor of an axis: `size` indices that a permutation moves, or that stay (None)."""

    word: str
    size: int
    permutation: str | None = None
    is_part: bool = False
    """Whether it is one part of the permutation, which has not been joined to the others yet."""


@dataclass(frozen=True, eq=False)
class Segment:
    """A stretch of an axis that is one product of atoms.

    `positions` has one axis for each atom, of the atom's size: where on the tensor's axis the
    element with these indices stands. Parts of one permutation are joined to one segment, whose
    positions then need not be contiguous.
    """

    atoms: tuple[Atom, ...]
    positions: Index


@dataclass(frozen=True, eq=False)
class BoundAxis:
    """One axis of a stored tensor: its length, and the segments that cover it without overlap."""

    length: int
    segments: tuple[Segment, ...]

    @cached_property
    def permutations(self) -> tuple[str, ...]:
        """The permutations that stand on this axis, in order."""
        found = (a.permutation for segment in self.segments for a in segment.atoms)
        return tuple(dict.fromkeys(name for name in found if name is not None))


@dataclass(frozen=True, eq=False)
class Block:
    """One segment of each axis of a tensor: a dense array with one axis for each atom.

    `atoms` lists the atoms of the name first, then those of each axis; `places` says for each atom
    which axis of the stored tensor it stands on (-1 for the name); `parents` gives for each atom
    the position in `atoms` of the atom that its permutation depends on.
    """

    tensor: BoundTensor
    segments: tuple[Segment, ...]
    atoms: tuple[Atom, ...]
    places: tuple[int, ...]
    parents: tuple[int | None, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The size of each atom."""
        return tuple(atom.size for atom in self.atoms)

    def lineage(self, atom: int) -> tuple[int, ...]:
        """Return the atoms that an atom's permutation depends on, eldest first, then the atom."""
        parent = self.parents[atom]
        return (*self.lineage(parent), atom) if parent is not None else (atom,)

    def of(self, array: NDArray[Scalar]) -> NDArray[Scalar]:
        """Cut this block out of a tensor.

        Args:
            array: the stored tensor; for a tensor that a permutation spreads over names, some or
                all of them stacked, one leading axis for each atom of the name.

        Returns an array of shape `shape`, but for shorter leading axes where not all were given; a
        view where the block is a contiguous stretch.

        """
        lead = len(self.tensor.name_atoms)
        for axis, segment in enumerate(self.segments, start=lead):
            flat = segment.positions.reshape(-1)
            first, size = int(flat[0]) if flat.size else 0, flat.size
            if np.array_equal(flat, np.arange(first, first + size)):
                array = array[(slice(None),) * axis + (slice(first, first + size),)]
            else:
                array = np.take(array, flat, axis=axis)
        return array.reshape(array.shape[:lead] + self.shape[lead:])


@dataclass(frozen=True, eq=False)
class BoundTensor:
    """One tensor of a checkpoint, or several that differ by a renumbered part of their name.

    `names` has one axis for each of `name_atoms` (none for an ordinary tensor) and holds stored
    names; `axes` describes the axes of each stored tensor; `shape` is that of one stored tensor.
    """

    label: str
    names: NDArray[np.object_]
    name_atoms: tuple[Atom, ...]
    axes: tuple[BoundAxis, ...]
    statistic: bool
    parent_of: Mapping[str, str]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one stored tensor."""
        return tuple(axis.length for axis in self.axes)

    @cached_property
    def permutations(self) -> tuple[str, ...]:
        """The permutations that stand on this tensor or in its name."""
        named = [atom.permutation for atom in self.name_atoms if atom.permutation]
        return tuple(dict.fromkeys([*named, *(p for a in self.axes for p in a.permutations)]))

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The tensor as dense blocks, one for each choice of a segment on every axis.

        Raises:
            LookupError: a dependent permutation stands where its parent does not.

        """
        return tuple(
            self._block(segments)
            for segments in itertools.product(*(axis.segments for axis in self.axes))
        )

    def _block(self, segments: tuple[Segment, ...]) -> Block:
        placed = [(-1, atom) for atom in self.name_atoms]
        for axis, segment in enumerate(segments):
            placed += [(axis, atom) for atom in segment.atoms]
        parents = tuple(self._parent(placed, number) for number in range(len(placed)))
        atoms = tuple(atom for _, atom in placed)
        return Block(self, segments, atoms, tuple(axis for axis, _ in placed), parents)

    def _parent(self, placed: list[tuple[int, Atom]], number: int) -> int | None:
        axis, atom = placed[number]
        wanted = self.parent_of.get(atom.permutation or "")
        if wanted is None:
            return None
        found = [i for i, (_, other) in enumerate(placed) if other.permutation == wanted]
        same = [i for i in found if placed[i][0] == axis]
        choice = same or found
        if len(choice) != 1:
            raise LookupError(
                f"'{atom.permutation}' depends on '{wanted}', which stands beside it "
                f"{len(choice)} times, expected once"
            )
        if axis < 0 <= placed[choice[0]][0]:
            raise LookupError(
                f"'{atom.permutation}' renumbers names, so '{wanted}', which it depends on, must "
                "stand in the name too"
            )
        return choice[0]

    def stack(self, read: Callable[[str], NDArray[Scalar]]) -> NDArray[Scalar]:
        """Read the tensor through `read`, all its names stacked along leading axes."""
        if not self.name_atoms:
            return read(str(self.names[()]))
        arrays = np.stack([read(str(name)) for name in self.names.flat])
        return arrays.reshape(self.names.shape + arrays.shape[1:])


def build_axis(
    expression: Axis, size_of: Callable[[str], int], atom_of: Callable[[str, int], Atom]
) -> BoundAxis:
    """Turn a solved expression into segments.

    Args:
        expression: words, integers, products and sums.
        size_of: the size of a word.
        atom_of: the atom of a word, given its size.

    """
    length, segments = _expand(expression, size_of, atom_of)
    return BoundAxis(length, tuple(segments))


def _expand(
    expression: Axis, size_of: Callable[[str], int], atom_of: Callable[[str, int], Atom]
) -> tuple[int, list[Segment]]:
    match expression:
        case Integer(value):
            return value, [Segment((Atom(str(value), value),), np.arange(value))]
        case Word(name):
            size = size_of(name)
            return size, [Segment((atom_of(name, size),), np.arange(size))]
        case Sum(terms):
            offset, segments = 0, []
            for term in terms:
                length, inner = _expand(term, size_of, atom_of)
                segments += [Segment(s.atoms, s.positions + offset) for s in inner]
                offset += length
            return offset, list(_join_parts(segments))
        case Product(factors):
            expanded = [_expand(factor, size_of, atom_of) for factor in factors]
            lengths = [length for length, _ in expanded]
            strides = [math.prod(lengths[i + 1 :]) for i in range(len(lengths))]
            return math.prod(lengths), [
                _compose(combination, strides)
                for combination in itertools.product(*(segments for _, segments in expanded))
            ]
        case Wildcard():
            raise AssertionError("wildcards are replaced by words before axes are built")


def _compose(factors: tuple[Segment, ...], strides: list[int]) -> Segment:
    positions: Index = np.zeros((), dtype=np.int64)
    for factor, stride in zip(factors, strides, strict=True):
        positions = np.add.outer(positions, factor.positions * stride)
    return Segment(tuple(atom for factor in factors for atom in factor.atoms), positions)


def _join_parts(segments: list[Segment]) -> Iterator[Segment]:
    """Join the parts of one permutation, so that indices can move from one part to another."""
    waiting: dict[tuple[str | None, int, tuple[Atom, ...]], list[Segment]] = {}
    for segment in segments:
        where = [i for i, atom in enumerate(segment.atoms) if atom.is_part]
        if not where:
            yield segment
            continue
        others = tuple(a for i, a in enumerate(segment.atoms) if i != where[0])
        key = (segment.atoms[where[0]].permutation, where[0], others)
        waiting.setdefault(key, []).append(segment)
    for (permutation, axis, others), parts in waiting.items():
        # The parts stand in the order of their declaration, which check_spec has made sure of.
        positions = np.concatenate([part.positions for part in parts], axis=axis)
        whole = Atom(str(permutation), positions.shape[axis], permutation)
        yield Segment((*others[:axis], whole, *others[axis:]), positions)
