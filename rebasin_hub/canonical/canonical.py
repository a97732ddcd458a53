"""The canonical order: a numbering computed from the weights alone."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from rebasin_hub.bind import Binding
from rebasin_hub.bind.axes import BoundTensor
from rebasin_hub.canonical.energy import unit_energies
from rebasin_hub.canonical.entries import Stream
from rebasin_hub.canonical.order import element_of, orders_of, runs
from rebasin_hub.canonical.refine import Colours, Refiner, mix, salt
from rebasin_hub.canonical.search import Search
from rebasin_hub.canonical.twins import restricted
from rebasin_hub.permute import Index
from rebasin_hub.rearrange import Read
from rebasin_hub.stream import A_FEW, Bound
from rebasin_hub.tensors import DTYPES

__all__ = ["Canonical", "canonical_order"]

SEARCH_BYTES = 1 << 34
MOST_COLOURINGS = 512
FEWEST_COLOURINGS = 16
"""The search for ties looks at about 16 GiB, in at least 16 and at most 512 colourings."""


@dataclass(frozen=True)
class Canonical:
    """The element that brings a model into canonical order, and how it was found.

    `passes` counts how often refinement went over (part of) the weights; `tied_units` the units
    that refinement could not tell from another one (dead or duplicated units, mostly). Where
    `exact` is False, ties were too many to be tried out, and the order of a renumbered copy may
    differ.
    """

    element: dict[str, Index]
    passes: int
    tied_units: int
    exact: bool


def canonical_order(
    binding: Binding,
    read: Read,
    *,
    skip: Collection[str] = (),
    bound: Bound = A_FEW,
) -> Canonical:
    """Return the element that brings a model into canonical order.

    The largest units come first: those with the largest sum of squared weights over all floating
    tensors but statistics. Units of equal size are ordered by a hash of all that they touch, bit
    by bit; units that even so are equal are exchanged where that changes nothing, and otherwise
    every choice is tried and the one with the smallest SHA-256 is taken.

    Args:
        binding: the model's spec, bound.
        read: reads a stored tensor; called once for most tensors, at times more often, and in
            threads.
        skip: names that share the memory of others, which other formats do not store.
        bound: how many bytes of tensors are held at a time.

    The law: for every element p of the group, `apply(canonical_order(apply(p, x)), apply(p, x))`
    and `apply(canonical_order(x), x)` are the same bits, if `exact` is True for both.

    Source: colour refinement, and McKay & Piperno, Practical graph isomorphism II (2014).

    """
    tensors = _tensors(binding, skip)
    counted = [t for t in tensors if not t.statistic and _floating(binding, t)]
    costs = {t.label: _nbytes(binding, t) for t in tensors}
    stream = Stream(lambda tensor: costs[tensor.label], bound)
    energies = unit_energies(binding.group, counted, read, stream)
    refiner = Refiner(binding.group, tensors, read, stream)
    start = {name: mix(own.view(np.uint64) + salt(name)) for name, own in energies.items()}
    colours = refiner.refine(start, set(start))
    orders = orders_of(energies, colours)
    tied = sum(run.stop - run.start for run in runs(colours, orders))
    if not tied:
        return Canonical(element_of(binding.group, orders), refiner.passes, 0, exact=True)
    touched = restricted(binding, _touched(tensors, colours))
    search = Search(touched, read, refiner, energies, _budget(touched))
    element = search.best(colours)
    return Canonical(element, refiner.passes, tied, search.exact)


def _tensors(binding: Binding, skip: Collection[str]) -> list[BoundTensor]:
    """Return the tensors that units touch, in an order that no numbering or file changes."""
    skipped = set(skip)
    tensors = [
        t for t in binding.tensors if t.permutations and not skipped.issuperset(t.names.flat)
    ]
    return sorted(tensors, key=lambda tensor: tensor.label)


def _floating(binding: Binding, tensor: BoundTensor) -> bool:
    return DTYPES[binding.header[str(tensor.names.flat[0])].dtype].floating


def _nbytes(binding: Binding, tensor: BoundTensor) -> int:
    """Return the bytes of the largest stored tensor that a bound one stands for."""
    return max(binding.header[str(name)].nbytes for name in tensor.names.flat)


def _touched(tensors: list[BoundTensor], colours: Colours) -> list[BoundTensor]:
    """Return the tensors that hold units of one colour."""
    tied = {name for name, own in colours.items() if np.unique(own).size < own.size}
    return [tensor for tensor in tensors if not tied.isdisjoint(tensor.permutations)]


def _budget(binding: Binding) -> int:
    nbytes = sum(info.nbytes for info in binding.header.values())
    return max(FEWEST_COLOURINGS, min(SEARCH_BYTES // max(1, nbytes), MOST_COLOURINGS))
