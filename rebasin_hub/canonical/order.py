"""From colours to an order: which unit stands where inside its parent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from rebasin_hub.canonical.energy import Energy
from rebasin_hub.canonical.refine import Colours
from rebasin_hub.permute import Index, SymmetryGroup

__all__ = ["Orders", "Run", "element_of", "orders_of", "runs"]

Orders = Mapping[str, Index]
"""For each permutation its units, sorted inside each parent. Unlike an `Element`, the array is
read with the *old* index of the parent, so that one factor can be sorted without the others."""


@dataclass(frozen=True)
class Run:
    """Units `start` to `stop` of an order, inside one parent, that share their colour."""

    permutation: str
    parent: tuple[int, ...]
    """Old index of each ancestor."""
    start: int
    stop: int


def orders_of(energies: Mapping[str, Energy], colours: Colours) -> dict[str, Index]:
    """Sort units by falling energy, then by colour; what is tied stays in stored order."""
    return {name: np.lexsort((own, -energies[name]), axis=-1) for name, own in colours.items()}


def element_of(group: SymmetryGroup, orders: Orders) -> dict[str, Index]:
    """Return the element that brings every unit to its place."""
    element: dict[str, Index] = {}
    for name, factor in group.factors.items():
        above = () if factor.parent is None else group.sources(element, factor.parent)
        element[name] = orders[name][above]
    return element


def runs(colours: Colours, orders: Orders) -> Iterator[Run]:
    """Yield the runs of two units or more, in the order of the permutations."""
    for name, own in colours.items():
        ranked = np.take_along_axis(own, orders[name], axis=-1)
        same = ranked[..., 1:] == ranked[..., :-1]
        if not same.any():
            continue
        for parent in map(tuple, np.argwhere(same.any(axis=-1))):
            edges = np.flatnonzero(np.diff(same[parent].astype(np.int8), prepend=0, append=0))
            for start, last in edges.reshape(-1, 2):
                yield Run(name, tuple(map(int, parent)), int(start), int(last) + 1)
