"""Compare two specs of one checkpoint by what they renumber, whatever their groups are called."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rebasin_hub.bind import Binding

__all__ = ["Comparison", "compare", "order"]

Place: TypeAlias = tuple[str, int, bytes]
"""A tensor, one of its axes, and the positions there of each index of a group."""

Places: TypeAlias = "tuple[frozenset[Place], frozenset[Place] | None]"
"""Where a group stands, and where the one that it depends on does."""


@dataclass(frozen=True)
class Comparison:
    """How two specs differ.

    Args:
        same: groups that both have.
        only_first: groups of the first one alone.
        only_second: groups of the second one alone.
        orders: log₂ of the number of renumberings that each allows.

    """

    same: int
    only_first: int
    only_second: int
    orders: tuple[float, float]

    @property
    def relation(self) -> str:
        """What the second one is, next to the first: `equal`, `smaller` or `larger`."""
        if not self.only_first and not self.only_second:
            return "equal"
        return "larger" if self.orders[1] > self.orders[0] else "smaller"


def compare(first: Binding, second: Binding) -> Comparison:
    """Compare two specs that are bound to one checkpoint."""
    a, b = _groups(first), _groups(second)
    return Comparison(len(a & b), len(a - b), len(b - a), (order(first), order(second)))


def order(binding: Binding) -> float:
    """Return log₂ of the number of renumberings: n! for each n indices that trade places."""
    group = binding.group
    rows = ((math.prod(group.shape(name)[:-1]), f.size) for name, f in group.factors.items())
    return sum(count * math.lgamma(size + 1) for count, size in rows) / math.log(2)


def _groups(binding: Binding) -> set[Places]:
    """Return for every factor the positions of each of its indices, and those of its parent."""
    found: dict[str, set[Place]] = {}
    for tensor in binding.tensors:
        for number, axis in enumerate(tensor.axes):
            for segment in axis.segments:
                for at, atom in enumerate(segment.atoms):
                    if atom.permutation is not None and atom.size > 1:
                        rows = np.moveaxis(segment.positions, at, 0).reshape(atom.size, -1)
                        where = (str(tensor.names.flat[0]), number, rows.tobytes())
                        found.setdefault(atom.permutation, set()).add(where)
    groups = {name: frozenset(places) for name, places in found.items()}
    factors = binding.group.factors
    parents = {name: factors[name].parent for name in groups}
    return {(groups[name], groups.get(parents[name] or "")) for name in groups}
