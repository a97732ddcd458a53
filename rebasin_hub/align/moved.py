"""Renumber the tensors of a model on their device, for one element after another.

`rearranged` reads a model once; searches that look at losses renumber the same model thousands of
times. Here every distinct axis is planned once for all tensors that share it, and only tensors
whose numbering differs from the last call's are gathered again.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from rebasin_hub.bind import Binding
from rebasin_hub.bind.axes import Block, BoundAxis, BoundTensor
from rebasin_hub.permute import Element, Index, SymmetryGroup
from rebasin_hub.rearrange import plan

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["Mover", "cut"]


class Mover:
    """Renumbers one model's tensors on their device.

    Args:
        binding: of the checkpoint.
        tensors: the model as it is stored, all on one device; those that are no part of the
            binding, or that it ignores, stay. Of tensors that a permutation spreads over names
            there are all or none.

    The law: `Mover(binding, tensors)(p)` holds what `rearranged(binding, p, …)` reads, bit for bit,
    whatever it was called with before. Tensors are shared between calls: do not change them.

    """

    def __init__(self, binding: Binding, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._now = dict(tensors)
        self._device = next((x.device for x in tensors.values()), "cpu")
        self._parts: list[_Part] = []
        self._axes: dict[str, tuple[int | None, ...]] = {}
        self._spread: dict[str, int] = {}
        shared: dict[object, int] = {}
        for tensor in binding.tensors:
            names = [str(name) for name in tensor.names.flat]
            if tensor.permutations and all(name in tensors for name in names):
                self._add(binding, tensor, names, shared)
        self._element = {
            name: binding.group.identity_of(name)
            for name in dict.fromkeys(f for part in self._parts for f in part.binding.group.factors)
        }

    @property
    def factors(self) -> frozenset[str]:
        """The permutations that move one of the tensors, with all that these depend on."""
        return frozenset(self._element)

    def _add(
        self, binding: Binding, tensor: BoundTensor, names: Sequence[str], shared: dict[object, int]
    ) -> None:
        """Plan a tensor axis by axis where its axes do not depend on one another."""
        if tensor.name_atoms or _crosses(tensor):
            self._parts.append(_Part(_only(binding, tensor), tuple(names)))
            self._spread.update(dict.fromkeys(names, len(self._parts) - 1))
            return
        (name,) = names
        numbers: list[int | None] = [None] * len(tensor.axes)
        for place, axis in enumerate(tensor.axes):
            if not axis.permutations:
                continue
            number = shared.setdefault(_key(axis), len(self._parts))
            if number == len(self._parts):
                alone = dataclasses.replace(tensor, axes=(axis,))
                self._parts.append(_Part(_only(binding, alone), (name,)))
            else:
                part = self._parts[number]
                self._parts[number] = dataclasses.replace(part, users=(*part.users, name))
            numbers[place] = number
        self._axes[name] = tuple(numbers)

    def __call__(self, element: Element) -> dict[str, Tensor]:
        """Return the tensors under an element, by their names."""
        changed = {
            name for name, last in self._element.items() if not np.array_equal(element[name], last)
        }
        stale = [part for part in self._parts if not changed.isdisjoint(part.binding.group.factors)]
        self._plan(stale, element)
        for name in dict.fromkeys(name for part in stale for name in part.users):
            self._now[name] = self._gathered(name)
        self._element |= {name: np.array(element[name]) for name in changed}
        return dict(self._now)

    def _plan(self, parts: Sequence[_Part], element: Element) -> None:
        """Find where parts read from, and bring all of it to the device at once."""
        indices: list[Index] = []
        for part in parts:
            group = part.binding.group
            part.sources.clear()
            for name, gather in plan(part.binding, {f: element[f] for f in group.factors}).items():
                part.sources[name] = (gather.source, [None] * len(gather.index))
                indices += [axis for axis in gather.index if axis is not None]
                part.moving[name] = [n for n, axis in enumerate(gather.index) if axis is not None]
        there = iter(_on_device(indices, self._device))
        for part in parts:
            for name, (_, index) in part.sources.items():
                for axis in part.moving[name]:
                    index[axis] = next(there)

    def _gathered(self, name: str) -> Tensor:
        if name in self._spread:
            source, index = self._parts[self._spread[name]].sources[name]
            return _gather(self._tensors[source], index)
        return _gather(self._tensors[name], [self._axis(number) for number in self._axes[name]])

    def _axis(self, number: int | None) -> Tensor | None:
        if number is None or not self._parts[number].sources:
            return None
        ((_, (index,)),) = self._parts[number].sources.values()
        return index


@dataclasses.dataclass(frozen=True, eq=False)
class _Part:
    """What is planned at once: an axis that tensors share, or a tensor that needs all its axes.

    users: the tensors that are gathered by it.
    sources: for each name in `binding` the tensor to read from, and the places on each axis; empty
        before anything moved.
    moving: for each name the axes that have such places.
    """

    binding: Binding
    users: tuple[str, ...]
    sources: dict[str, tuple[str, list[Tensor | None]]] = dataclasses.field(default_factory=dict)
    moving: dict[str, list[int]] = dataclasses.field(default_factory=dict)


def cut(block: Block, array: Tensor) -> Tensor:
    """Cut a block out of a tensor on any device; see `Block.of`, whose law it keeps."""
    import torch

    lead = len(block.tensor.name_atoms)
    for axis, segment in enumerate(block.segments, start=lead):
        flat = segment.positions.reshape(-1)
        if flat.size == array.shape[axis] and np.array_equal(flat, np.arange(flat.size)):
            continue
        array = array.index_select(axis, torch.from_numpy(flat.copy()).to(array.device))
    return array.reshape(array.shape[:lead] + block.shape[lead:])


def _only(binding: Binding, tensor: BoundTensor) -> Binding:
    """Return a binding of one tensor alone, with the permutations that it takes to move it."""
    group = binding.group
    needed = {above for name in tensor.permutations for above in group.lineages[name]}
    return dataclasses.replace(
        binding,
        header={str(name): binding.header[str(name)] for name in tensor.names.flat},
        group=SymmetryGroup({name: f for name, f in group.factors.items() if name in needed}),
        tensors=(tensor,),
        ignored={},
    )


def _crosses(tensor: BoundTensor) -> bool:
    """Tell whether the numbering of one axis depends on another axis."""
    return any(
        parent is not None and block.places[parent] != place
        for block in tensor.blocks
        for place, parent in zip(block.places, block.parents, strict=True)
    )


def _key(axis: BoundAxis) -> object:
    """Return what two axes have in common that are always numbered alike."""
    return axis.length, tuple(
        (tuple((atom.permutation, atom.size) for atom in s.atoms), s.positions.tobytes())
        for s in axis.segments
    )


def _gather(array: Tensor, index: Sequence[Tensor | None]) -> Tensor:
    if any(places is not None and places.ndim > 1 for places in index):
        return array[tuple(places for places in index if places is not None)]
    for axis, places in enumerate(index):
        if places is not None:
            array = array.index_select(axis, places)
    return array


def _on_device(indices: Sequence[Index], device: torch.device | str) -> list[Tensor]:
    """Copy index arrays to a device in one piece: many small copies would wait for one another."""
    import torch

    if not indices:
        return []
    flat = torch.from_numpy(np.concatenate([index.reshape(-1) for index in indices])).to(device)
    pieces = torch.split(flat, [math.prod(index.shape) for index in indices])
    return [piece.reshape(x.shape) for piece, x in zip(pieces, indices, strict=True)]
