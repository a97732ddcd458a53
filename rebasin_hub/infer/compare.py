"""Compare two specs of one checkpoint by what they renumber, whatever their groups are called."""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rebasin_hub.bind import Binding
from rebasin_hub.canonical import canonical_order
from rebasin_hub.digest import canonical_digest
from rebasin_hub.rearrange import Array, Read, rearranged
from rebasin_hub.tensors import DTYPES, TensorInfo

__all__ = ["Comparison", "beyond", "compare", "order"]

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
    a, b = set(_places(first).values()), set(_places(second).values())
    return Comparison(len(a & b), len(a - b), len(b - a), (order(first), order(second)))


def order(binding: Binding) -> float:
    """Return log₂ of the number of renumberings: n! for each n indices that trade places."""
    group = binding.group
    rows = ((math.prod(group.shape(name)[:-1]), f.size) for name, f in group.factors.items())
    return sum(count * math.lgamma(size + 1) for count, size in rows) / math.log(2)


def beyond(first: Binding, second: Binding, *, seed: int = 0) -> tuple[str, ...]:
    """Return the permutations of one spec that another one does not allow.

    Where a permutation is not found in the other spec as it is, but may be a part or a product of
    others there, it is tried: it is allowed if random weights and their renumbering by it have one
    canonical digest under the other spec.

    Args:
        first: the spec in question.
        second: the one that decides, bound to the same checkpoint.
        seed: of weights and permutations.

    Returns the names of declarations, those with an index once.

    """
    known, declared = set(_places(second).values()), dict[str, list[str]]()
    for factor, places in _places(first).items():
        if places not in known:
            declared.setdefault(factor.partition("[")[0], []).append(factor)
    if not declared:
        return ()
    rng = np.random.default_rng(seed)

    def read(name: str) -> Array:
        return _random(name, first.header[name], seed)

    def digest(read: Read) -> str:
        return canonical_digest(second, canonical_order(second, read).element, read)

    before = digest(read)
    return tuple(
        name
        for name, factors in declared.items()
        if digest(rearranged(first, first.group.moving(factors, rng), read)) != before
    )


def _random(name: str, info: TensorInfo, seed: int) -> Array:
    """Return the same random values for a name each time, so that none have to be kept."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    dtype = DTYPES[info.dtype].numpy
    if dtype.kind in "iub":
        return rng.integers(0, 2 if dtype.kind == "b" else 100, info.shape).astype(dtype)
    return rng.standard_normal(info.shape).astype(dtype)


def _places(binding: Binding) -> dict[str, Places]:
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
    return {name: (groups[name], groups.get(parents[name] or "")) for name in groups}
