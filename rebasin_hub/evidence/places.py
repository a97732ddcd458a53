"""Where a network is read: which values, and how their features are numbered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from rebasin_hub.bind import Binding
from rebasin_hub.bind.axes import BoundAxis, Segment
from rebasin_hub.evidence.ports import Port, channels_of, ports_of, value_at
from rebasin_hub.repair.probe import few_samples
from rebasin_hub.tasks.network import TorchNetwork

__all__ = ["Place", "Plan", "hooked", "planned"]

Seen: TypeAlias = Callable[[str, Port, Tensor], None]
"""Told of a module's value: the module's name, the port and the value."""

SHOWN = 8
"""Names that a note lists."""


@dataclass(frozen=True, eq=False)
class Place:
    """Features of one value: those of one segment of the axis that numbers its channels.

    module, port: where the value is.
    segment: which of its channels these are, by `positions`.
    length: how many channels it has in all.
    axis: how the features are numbered. Atoms that stay are none of it: what they count are more
        observations of the same features, like the positions of an image; unless all stay.
    readers, writers: as of `Features`.
    """

    module: str
    port: Port
    segment: Segment
    length: int
    axis: BoundAxis
    readers: tuple[tuple[str, int], ...]
    writers: tuple[tuple[str, int], ...]

    @property
    def label(self) -> str:
        """The place, for people."""
        return f"{self.port.side} of {self.module or 'the network'}"

    @property
    def permutations(self) -> tuple[str, ...]:
        """The permutations that number the features."""
        return self.axis.permutations

    def features(self, value: Tensor, mask: Tensor | None = None) -> Tensor | None:
        """Return the features of a value, a copy of (observations, n); None if it has others.

        Args:
            value: of the port.
            mask: which positions are no padding, the leading axes of a value whose channels stand
                on its last one.

        """
        channels = channels_of(self.port, value, self.length)
        if channels is None:
            return None
        rows = value.movedim(channels, -1)
        rows = rows[mask] if mask is not None else rows
        if self.port.parts > 1:
            rows = rows.narrow(-1, self.port.part * self.length, self.length)
        atoms = self.segment.atoms
        positions = self.segment.positions.reshape(-1)
        if not np.array_equal(positions, np.arange(self.length)):
            rows = rows.index_select(-1, torch.from_numpy(positions).to(rows.device))
        rows = rows.reshape(-1, *(atom.size for atom in atoms))
        kept = {id(atom) for atom in self.axis.segments[0].atoms}
        moved = [1 + n for n, atom in enumerate(atoms) if id(atom) not in kept]
        numbered = [1 + n for n, atom in enumerate(atoms) if id(atom) in kept]
        # What follows may change the value in place.
        return rows.permute(0, *moved, *numbered).reshape(-1, self.axis.length).clone()


@dataclass(frozen=True, eq=False)
class Plan:
    """The places of a network that tell of its permutations, and what cannot be told.

    places: those with permutations.
    fixed: those whose features keep their order in every model, such as the network's inputs.
    notes: in whole sentences.
    """

    places: tuple[Place, ...]
    fixed: tuple[Place, ...]
    notes: tuple[str, ...]


def planned(network: TorchNetwork, binding: Binding) -> Plan:
    """Decide where to read a network; it is run once on a few samples, with its own weights.

    The inputs of modules that multiply come first, as these are features after the nonlinearity;
    outputs are read for permutations that no input is numbered by. A value that several modules
    read is one place.
    """
    candidates, unknown = _candidates(network, binding)
    found = list(_merged(_reached(network, candidates)))
    reading = [place for place in found if place.port.side != "output"]
    seen = {name for place in reading for name in place.permutations}
    writing = [
        place
        for place in found
        if place.port.side == "output" and not seen.issuperset(place.permutations)
    ]
    places = tuple(place for place in (*reading, *writing) if place.permutations)
    fixed = tuple(place for place in reading if not place.permutations)
    notes = [f"No features are read in {_list(unknown)}, of unknown kind."] * bool(unknown)
    return Plan(places, fixed, tuple(notes))


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:SHOWN]) + more


def _candidates(network: TorchNetwork, binding: Binding) -> tuple[list[Place], list[str]]:
    """Return what may be read, and the modules of unknown kinds that have permutations."""
    places: list[Place] = []
    unknown: list[str] = []
    for name, module in network.module.named_modules():
        prefix = f"{name}." if name else ""
        ports = ports_of(module)
        if ports is None:
            own = (network.names.get(f"{prefix}{n}", "") for n, _ in _own_tensors(module))
            if any(n in binding.of_name and binding.of_name[n].permutations for n in own):
                unknown.append(f"{name} ({type(module).__name__})".strip())
            continue
        for port in ports:
            stored = network.names.get(f"{prefix}{port.tensor}", "")
            if stored in binding.of_name:
                places += _places(name, port, stored, binding)
    return places, unknown


def _own_tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(recurse=False)
    yield from module.named_buffers(recurse=False)


def _places(name: str, port: Port, stored: str, binding: Binding) -> Iterator[Place]:
    tensor = binding.of_name[stored]
    if any(atom.permutation for atom in tensor.name_atoms) or port.axis >= len(tensor.axes):
        return  # which of several experts sees a sample differs between the models
    used = ((stored, port.axis),) if port.mixes else ()
    readers, writers = ((), used) if port.side == "output" else (used, ())
    for segment in tensor.axes[port.axis].segments:
        axis = _numbering(segment)
        parents = {tensor.parent_of.get(permutation) for permutation in axis.permutations}
        if parents <= {None, *axis.permutations}:
            length = tensor.axes[port.axis].length
            yield Place(name, port, segment, length, axis, readers, writers)


def _numbering(segment: Segment) -> BoundAxis:
    """Return the axis of a segment's features: of its atoms that move, or of all if none does."""
    atoms = tuple(atom for atom in segment.atoms if atom.permutation is not None) or segment.atoms
    shape = tuple(atom.size for atom in atoms)
    length = int(np.prod(shape, dtype=np.int64))
    return BoundAxis(length, (Segment(atoms, np.arange(length).reshape(shape)),))


def _reached(
    network: TorchNetwork, candidates: Sequence[Place]
) -> Iterator[tuple[Place, tuple[int, int]]]:
    """Yield the places that a run reaches, with what identifies their value, in their order."""
    by_port: dict[tuple[str, Port], list[Place]] = {}
    for place in candidates:
        by_port.setdefault((place.module, place.port), []).append(place)
    # Values are kept, so that no two have the same identity.
    kept: list[tuple[Place, Tensor, int]] = []

    def see(module: str, port: Port, value: Tensor) -> None:
        for place in by_port.pop((module, port), ()):
            if channels_of(port, value, place.length) is not None:
                kept.append((place, value, value._version))

    with hooked(network.module, list(by_port), see):
        network.forward({}, few_samples(network))
    for place, value, version in kept:
        yield place, (id(value), version)


def _merged(reached: Iterator[tuple[Place, tuple[int, int]]]) -> Iterator[Place]:
    """Yield each place once, with all that read it."""
    first: dict[object, Place] = {}
    for place, value in reached:
        same = (value, place.port.side == "output", place.port.part, _key(place.segment))
        if same in first:
            old = first[same]
            readers = tuple(dict.fromkeys((*old.readers, *place.readers)))
            writers = tuple(dict.fromkeys((*old.writers, *place.writers)))
            first[same] = replace(old, readers=readers, writers=writers)
        else:
            first[same] = place
    yield from first.values()


def _key(segment: Segment) -> object:
    return segment.atoms, segment.positions.tobytes()


@contextmanager
def hooked(module: nn.Module, ports: Sequence[tuple[str, Port]], see: Seen) -> Iterator[None]:
    """Tell of the values at some ports while the context is open."""
    by_module: dict[str, list[Port]] = {}
    for name, port in ports:
        by_module.setdefault(name, []).append(port)
    handles = []
    try:
        for name, own in by_module.items():
            layer = module.get_submodule(name)
            inputs = [port for port in own if port.side == "input"]
            outputs = [port for port in own if port.side != "input"]
            if inputs:
                hook = _before(name, inputs, see)
                handles.append(layer.register_forward_pre_hook(hook, with_kwargs=True))
            if outputs:
                handles.append(layer.register_forward_hook(_after(name, outputs, see)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _before(
    name: str, ports: Sequence[Port], see: Seen
) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        for port in ports:
            value = value_at(port, module, args, kwargs, None)
            if value is not None:
                see(name, port, value)

    return hook


def _after(
    name: str, ports: Sequence[Port], see: Seen
) -> Callable[[nn.Module, tuple[Any, ...], Any], None]:
    def hook(module: nn.Module, args: tuple[Any, ...], output: object) -> None:
        for port in ports:
            value = value_at(port, module, args, {}, output)
            if value is not None:
                see(name, port, value)

    return hook
