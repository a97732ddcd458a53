"""Interchangeable units: dead or duplicated ones, whose exchange leaves every tensor as it is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.bind import Binding
from rebasin_hub.bind.axes import Block, BoundTensor
from rebasin_hub.canonical.entries import Piece, Slab, bits_of, cut, each_slab, pieces
from rebasin_hub.canonical.order import Orders, Run, element_of
from rebasin_hub.canonical.refine import local_units
from rebasin_hub.permute import Index
from rebasin_hub.rearrange import Array, Read, rearranged

__all__ = ["restricted", "twin_runs"]

Unlike = dict[str, NDArray[np.bool_]]
"""For each permutation, in sorted order: does a unit differ from the next one?"""


def restricted(binding: Binding, tensors: Sequence[BoundTensor]) -> Binding:
    """Return a binding of some of the tensors only."""
    names = {str(name) for tensor in tensors for name in tensor.names.flat}
    header = {name: info for name, info in binding.header.items() if name in names}
    return replace(binding, header=header, tensors=tuple(tensors), ignored={})


def twin_runs(binding: Binding, read: Read, orders: Orders, found: Sequence[Run]) -> list[Run]:
    """Return the runs whose units may stand in any order: the tensors come out the same.

    The answer for a run is the same in every renumbered copy. It compares bits, not hashes.

    Args:
        binding: the tensors that the units of the runs touch.
        read: reads a stored tensor.
        orders: units sorted by colour inside each parent.
        found: every run of units of one colour; children are exchanged together with their
            parents, so the verdict on a run needs those on the runs inside it.

    """
    unlike = _compare(binding, read, orders, found)
    open_units = {name: np.zeros(order.shape, bool) for name, order in orders.items()}
    twins: list[Run] = []
    for name in reversed(list(binding.group.factors)):  # children before their parents
        for child in binding.group.children[name]:
            open_units[name] |= open_units[child].any(axis=-1)
        for run in (run for run in found if run.permutation == name):
            units = orders[name][run.parent][run.start : run.stop]
            here = open_units[name][run.parent]
            if (
                here[units].any()
                or unlike[name][run.parent][run.start : run.stop - 1].any()
                or not _exchangeable(binding, read, orders, run)
            ):
                here[units] = True
            else:
                twins.append(run)
    return twins


def _compare(binding: Binding, read: Read, orders: Orders, found: Sequence[Run]) -> Unlike:
    """Compare each unit of a run with the next one in every block where slices show it."""
    unlike = {name: np.zeros(order.shape, bool) for name, order in orders.items()}
    pairs = _pairs(found)

    def compare(slab: Slab) -> None:
        for name, places in pairs.items():
            atom = _only_atom(slab.block, name)
            if atom is not None:
                _compare_slices(slab, atom, orders, places, unlike[name])

    for tensor in binding.tensors:
        if not pairs.keys().isdisjoint(tensor.permutations):
            each_slab(tensor, read, compare)
    return unlike


def _pairs(found: Sequence[Run]) -> dict[str, tuple[Index, ...]]:
    """Return for each permutation where pairs of neighbours stand: ancestors, then rank."""
    pairs: dict[str, list[tuple[int, ...]]] = {}
    for run in found:
        places = pairs.setdefault(run.permutation, [])
        places += [(*run.parent, rank) for rank in range(run.start, run.stop - 1)]
    return {name: tuple(np.array(places).T) for name, places in pairs.items()}


def _occurrences(block: Block, permutation: str) -> list[int]:
    return [n for n, atom in enumerate(block.atoms) if atom.permutation == permutation]


def _only_atom(block: Block, permutation: str) -> int | None:
    """Return the one atom whose slices two units exchange with all that depends on them.

    None where the permutation stands more than once, or takes part in the tensor's name.
    """
    atoms = _occurrences(block, permutation)
    if len(atoms) != 1:
        return None
    moved = [n for n in range(len(block.atoms)) if atoms[0] in block.lineage(n)]
    return atoms[0] if all(block.places[n] >= 0 for n in moved) else None


def _compare_slices(
    slab: Slab, atom: int, orders: Orders, places: tuple[Index, ...], unlike: NDArray[np.bool_]
) -> None:
    pending = tuple(own[~unlike[places]] for own in places)
    axes = slab.block.lineage(atom)
    _, chosen = local_units(slab, axes, pending)
    *above, rank = (own[chosen] for own in pending)
    below = _descendants(slab.block, atom)
    front = (*axes, *below)
    values = np.moveaxis(bits_of(slab.values), front, range(len(front)))
    order = orders[str(slab.block.atoms[atom].permutation)]
    this, after = (
        _stored_places(slab, (*above, order[(*above, rank + step)]), front, len(axes), orders)
        for step in (0, 1)
    )
    depth = 1 + len(below)
    shape = (rank.size, *values.shape[len(axes) :])
    for piece in pieces(shape):
        one, other = (_at(values, side, piece, depth) for side in (this, after))
        differ = (one != other).reshape(len(one), math.prod(one.shape[1:])).any(axis=1)
        unlike[(*(own[piece[0]] for own in above), rank[piece[0]])] |= differ


def _at(values: Array, side: Sequence[Index], piece: Piece, depth: int) -> Array:
    place: tuple[Index | slice, ...] = (
        *(cut(index, piece[:depth]) for index in side),
        *piece[depth:],
    )
    return values[place]


def _descendants(block: Block, atom: int) -> list[int]:
    """Return the atoms that depend on one, parents before children."""
    found = [n for n in range(len(block.atoms)) if n != atom and atom in block.lineage(n)]
    return sorted(found, key=lambda n: len(block.lineage(n)))


def _stored_places(
    slab: Slab, units: Sequence[Index], front: tuple[int, ...], depth: int, orders: Orders
) -> list[Index]:
    """Return where units stand, and all that depends on them in sorted order.

    `front` holds the `depth` atoms of the then the descendants. Returns for each an index
    that broadcasts over (units, descendants).
    """
    rank = 1 + len(front) - depth
    old = {axis: u.reshape(-1, *(1,) * (rank - 1)) for axis, u in zip(front, units, strict=False)}
    for number, atom in enumerate(front[depth:], start=1):
        own = slab.block.atoms[atom]
        new = np.arange(own.size).reshape([own.size if n == number else 1 for n in range(rank)])
        parents = (old[axis] for axis in slab.block.lineage(atom)[:-1])
        old[atom] = orders[str(own.permutation)][(*parents, new)]
    # An axis that stands for a part of the tensor's name has length one.
    return [old[axis] * (axis >= len(slab.where)) for axis in front]


def _exchangeable(binding: Binding, read: Read, orders: Orders, run: Run) -> bool:
    """Try a run's exchanges on the tensors where slices do not show them.

    The exchange of the first two units and the cycle of all generate every order.
    """
    awkward = [
        tensor
        for tensor in binding.tensors
        for block in tensor.blocks
        if _occurrences(block, run.permutation) and _only_atom(block, run.permutation) is None
    ]
    if not awkward:
        return True
    part = restricted(binding, awkward)
    as_sorted = rearranged(part, element_of(part.group, orders), read)
    for moved in _generators(orders, run):
        exchanged = rearranged(part, element_of(part.group, moved), read)
        for name in part.header:
            if not np.array_equal(bits_of(as_sorted(name)), bits_of(exchanged(name))):
                return False
    return True


def _generators(orders: Orders, run: Run) -> Iterator[Orders]:
    units = orders[run.permutation][run.parent][run.start : run.stop]
    exchange = units.copy()
    exchange[:2] = units[1::-1]
    for moved in (exchange, np.roll(units, 1)):
        order = orders[run.permutation].copy()
        order[run.parent][run.start : run.stop] = moved
        yield {**orders, run.permutation: order}
