"""Colour refinement: tell units apart by the weights that they touch (1-dim. Weisfeiler-Leman)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.bind.axes import BoundTensor
from rebasin_hub.canonical.entries import EAGER, Slab, Stream, bits_of, cut, each_slab, pieces
from rebasin_hub.permute import Index, SymmetryGroup
from rebasin_hub.rearrange import Read

__all__ = ["Bits", "Colours", "Refiner", "inherit", "local_units", "mix", "salt"]

Bits = NDArray[np.uint64]
Colours = Mapping[str, Bits]
"""For each permutation one 64-bit colour for each unit, of the group's `shape`."""


def mix(numbers: Bits) -> Bits:
    """Scramble 64-bit numbers one to one, in place (the finalizer of SplitMix64, Steele 2014)."""
    numbers += np.uint64(0x9E3779B97F4A7C15)
    numbers ^= numbers >> np.uint64(30)
    numbers *= np.uint64(0xBF58476D1CE4E5B9)
    numbers ^= numbers >> np.uint64(27)
    numbers *= np.uint64(0x94D049BB133111EB)
    numbers ^= numbers >> np.uint64(31)
    return numbers


def salt(*words: object) -> np.uint64:
    """Return a 64-bit number that stands for a few words, the same on every machine."""
    text = "\0".join(map(str, words)).encode()
    return np.uint64(int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little"))


def inherit(group: SymmetryGroup, colours: Colours) -> dict[str, Bits]:
    """Return colours in which dependent units have taken in the colour of their parent."""
    inherited: dict[str, Bits] = {}
    for name, factor in group.factors.items():
        own = colours[name]
        if factor.parent is not None:
            own = mix(own + mix(inherited[factor.parent].copy())[..., None])
        inherited[name] = own
    return inherited


@dataclass(eq=False)
class Refiner:
    """Refines colours by the tensors of one model; `passes` counts how often it went over them.

    Colours depend on the weights alone: those of a renumbered model are the colours renumbered.
    Two units that a symmetry of the weights exchanges never get different colours. Units that no
    symmetry exchanges may keep one colour, by regularity or by a collision of hashes.
    """

    group: SymmetryGroup
    tensors: Sequence[BoundTensor]
    read: Read
    stream: Stream = EAGER
    passes: int = 0

    def refine(self, colours: Colours, changed: set[str]) -> dict[str, Bits]:
        """Return colours with as many classes as refinement finds.

        Args:
            colours: what the units are known by so far.
            changed: permutations whose classes have split since the tensors were last looked at.

        """
        refined = inherit(self.group, colours)
        tied = _tied(refined)
        while tied and changed:
            self.passes += 1
            before = {name: np.unique(own).size for name, own in refined.items()}
            for name, seen in self._look(refined, tied, changed).items():
                own = refined[name] = refined[name].copy()
                own[tied[name]] = mix(own[tied[name]] + seen)
            refined = inherit(self.group, refined)
            changed = {name for name, own in refined.items() if np.unique(own).size > before[name]}
            tied = _tied(refined)
        return refined

    def _look(
        self, colours: Colours, tied: Mapping[str, tuple[Index, ...]], changed: set[str]
    ) -> dict[str, Bits]:
        """Return for each tied unit a hash of the multiset of all the weights it touches.

        A tensor none of whose permutations has changed cannot tell more than it did before.
        """
        seen = {name: np.zeros(units[0].size, np.uint64) for name, units in tied.items()}
        telling = [
            tensor
            for tensor in self.tensors
            if not changed.isdisjoint(tensor.permutations)
            and not tied.keys().isdisjoint(tensor.permutations)
        ]
        looks = self.stream.over(telling, lambda t: _look_at(t, self.read, colours, tied))
        for tensor, look in zip(telling, looks, strict=True):
            for name, block, atom, sums in look:
                seen[name] += mix(sums + salt(tensor.label, block, atom))
        return seen


def _tied(colours: Colours) -> dict[str, tuple[Index, ...]]:
    """Return for each permutation the coordinates of the units that share their colour."""
    tied: dict[str, tuple[Index, ...]] = {}
    for name, own in colours.items():
        _, classes, counts = np.unique(own, return_inverse=True, return_counts=True)
        units = np.nonzero(counts[classes].reshape(own.shape) > 1)
        if units[0].size:
            tied[name] = units
    return tied


def _look_at(
    tensor: BoundTensor, read: Read, colours: Colours, tied: Mapping[str, tuple[Index, ...]]
) -> list[tuple[str, int, int, Bits]]:
    sums = {
        (name, number, n): np.zeros(units[0].size, np.uint64)
        for number, block in enumerate(tensor.blocks)
        for n, atom in enumerate(block.atoms)
        for name, units in tied.items()
        if name == atom.permutation
    }

    def add(slab: Slab) -> None:
        for (name, number, atom), total in sums.items():
            if number == slab.number:
                _add_entries(slab, atom, tied[name], colours, total)

    each_slab(tensor, read, add)
    return [(*key, total) for key, total in sums.items()]


def _add_entries(
    slab: Slab, atom: int, units: tuple[Index, ...], colours: Colours, total: Bits
) -> None:
    """Add to each unit's total the hashes of its entries: value, and colours on other axes."""
    axes = slab.block.lineage(atom)
    local, chosen = local_units(slab, axes, units)
    front = range(len(axes))
    values = np.moveaxis(bits_of(slab.values), axes, front)
    keys = [
        np.moveaxis(_keys(slab, other, colours), axes, front)
        for other in range(slab.values.ndim)
        if other not in axes
    ]
    keys = [_of_units(key, local) for key in keys]
    for piece in pieces((chosen.size, *values.shape[len(axes) :])):
        place: tuple[Index | slice, ...] = (*(u[piece[0]] for u in local), *piece[1:])
        entries = values[place].astype(np.uint64)
        for key in keys:
            entries += cut(key, piece)
        hashes = mix(entries).reshape(len(entries), math.prod(entries.shape[1:]))
        total[chosen[piece[0]]] += hashes.sum(axis=1, dtype=np.uint64)


def _of_units(key: Bits, units: tuple[Index, ...]) -> Bits:
    """Lay a key out over units: from (axes of the others) to (units or 1, others)."""
    depth = len(units)
    if math.prod(key.shape[:depth]) == 1:
        return key.reshape(1, *key.shape[depth:])
    laid: Bits = key[tuple(u * (n > 1) for u, n in zip(units, key.shape, strict=False))]
    return laid


def local_units(
    slab: Slab, axes: tuple[int, ...], units: tuple[Index, ...]
) -> tuple[tuple[Index, ...], Index]:
    """Return the units that a slab touches: coordinates along its axes, and their numbers."""
    lead = len(slab.where)
    named = [(u, slab.where[axis]) for u, axis in zip(units, axes, strict=True) if axis < lead]
    touched = np.ones(units[0].size, dtype=bool)
    for own, index in named:
        touched &= own == index
    chosen = np.flatnonzero(touched)
    local = tuple(u[chosen] * (axis >= lead) for u, axis in zip(units, axes, strict=True))
    return local, chosen


def _keys(slab: Slab, atom: int, colours: Colours) -> Bits:
    """Return what an entry is told by its coordinate on one axis, along the block's axes."""
    found = slab.block.atoms[atom]
    if found.permutation is not None:
        return mix(slab.spread(colours[found.permutation], atom) + salt("moved", atom))
    shape = [1] * slab.values.ndim
    shape[atom] = found.size
    return mix(np.arange(found.size, dtype=np.uint64) + salt("fixed", atom)).reshape(shape)
