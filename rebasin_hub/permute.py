"""The group of renumberings that one model allows, and its elements: pure index arithmetic.

The convention, fixed here once: a permutation `p` acts as `new[i] = old[p[i]]`. A dependent
permutation holds one permutation for each index of its parent (a wreath product) and is read
with the parent's *new* index: `new[k, v] = old[p_parent[k], p_child[k, v]]`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import lgamma, log, prod
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import PermutationError

__all__ = ["Element", "Factor", "Index", "SymmetryGroup"]

Index: TypeAlias = NDArray[np.int64]
Element: TypeAlias = Mapping[str, Index]
"""A member of a `SymmetryGroup`: for each factor an index array of the factor's `shape`."""


@dataclass(frozen=True)
class Factor:
    """One permutation of a group: how many indices it moves, and the parent it depends on."""

    size: int
    parent: str | None = None


@dataclass(frozen=True)
class SymmetryGroup:
    """A product of symmetric groups and of wreath products of them.

    `factors` lists every parent before its children. Elements are mappings from each factor's
    name to an int64 array of shape `shape(name)`: the sizes of its ancestors, eldest first, then
    its own size; every last axis is a permutation of `range(size)`.

    The laws, for elements p, q, r and any tensor x that `apply` renumbers:

    - `apply(p, apply(q, x))` equals `apply(compose(p, q), x)`;
    - `compose(p, compose(q, r))` equals `compose(compose(p, q), r)`;
    - `compose(p, invert(p))` and `compose(invert(p), p)` equal `identity()`.
    """

    factors: Mapping[str, Factor]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for name, factor in self.factors.items():
            if factor.parent is not None and factor.parent not in seen:
                raise PermutationError(
                    f"permutation '{name}' depends on '{factor.parent}', which must come before it"
                )
            seen.add(name)

    @cached_property
    def lineages(self) -> Mapping[str, tuple[str, ...]]:
        """For each factor the names of its ancestors, eldest first, then its own."""
        lineages: dict[str, tuple[str, ...]] = {}
        for name, factor in self.factors.items():
            above = lineages[factor.parent] if factor.parent is not None else ()
            lineages[name] = (*above, name)
        return lineages

    @cached_property
    def children(self) -> Mapping[str, tuple[str, ...]]:
        """For each factor the factors that depend on it directly."""
        children: dict[str, tuple[str, ...]] = dict.fromkeys(self.factors, ())
        for name, factor in self.factors.items():
            if factor.parent is not None:
                children[factor.parent] = (*children[factor.parent], name)
        return children

    @cached_property
    def roots(self) -> tuple[str, ...]:
        """The factors that depend on no other."""
        return tuple(name for name, factor in self.factors.items() if factor.parent is None)

    def family(self, root: str) -> tuple[str, ...]:
        """Return a factor and everything that depends on it, parents before children."""
        return tuple(name for name in self.factors if root in self.lineages[name])

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a factor's index array."""
        return tuple(self.factors[ancestor].size for ancestor in self.lineages[name])

    @cached_property
    def units(self) -> Mapping[str, int]:
        """For each factor how many indices it moves, over all indices of its ancestors."""
        return {name: prod(self.shape(name)) for name in self.factors}

    @property
    def log10_order(self) -> float:
        """The decimal logarithm of the number of elements."""
        return sum(
            prod(self.shape(name)[:-1]) * lgamma(factor.size + 1) / log(10)
            for name, factor in self.factors.items()
        )

    def identity(self) -> dict[str, Index]:
        """Return the element that moves nothing."""
        return {
            name: np.broadcast_to(np.arange(factor.size), self.shape(name)).copy()
            for name, factor in self.factors.items()
        }

    def random(self, rng: np.random.Generator) -> dict[str, Index]:
        """Return an element drawn uniformly from the group."""
        return {name: rng.permuted(index, axis=-1) for name, index in self.identity().items()}

    def moving(self, names: Iterable[str], rng: np.random.Generator) -> dict[str, Index]:
        """Return an element that moves some factors at random, and each of their rows if it can."""
        element = self.identity()
        for name in names:
            rows = element[name].reshape(-1, self.factors[name].size)
            for row in rows:
                before = row.copy()
                while row.size > 1 and np.array_equal(row, before):
                    rng.shuffle(row)
            element[name] = rows.reshape(self.shape(name))
        return element

    def compose(self, p: Element, q: Element) -> dict[str, Index]:
        """Return the element that acts as `q` first and `p` after it."""
        return {name: q[name][self.sources(p, name)] for name in self.factors}

    def invert(self, p: Element) -> dict[str, Index]:
        """Return the element that undoes `p`."""
        inverse = self.identity()
        for name, factor in self.factors.items():
            inverse[name][self.sources(p, name)] = np.arange(factor.size)
        return inverse

    def equal(self, p: Element, q: Element) -> bool:
        """Tell whether two elements are the same."""
        return all(np.array_equal(p[name], q[name]) for name in self.factors)

    def is_identity(self, p: Element) -> bool:
        """Tell whether an element moves nothing."""
        return self.equal(p, self.identity())

    def check(self, p: Element) -> None:
        """Refuse anything that is not an element of this group.

        Raises:
            PermutationError: names are missing or unknown, or an array has the wrong shape, a
                type that is not an integer, or rows that are no permutations.

        """
        _check_names(p, self.factors)
        for name in self.factors:
            index, shape = np.asarray(p[name]), self.shape(name)
            if index.shape != shape:
                raise PermutationError(
                    f"permutation '{name}' has shape {index.shape}, this model needs {shape}"
                )
            if index.dtype.kind not in "iu":
                raise PermutationError(f"permutation '{name}' holds {index.dtype}, not integers")
            if not np.array_equal(np.sort(index, axis=-1), self.identity_of(name)):
                raise PermutationError(
                    f"permutation '{name}' is not one: each of 0…{shape[-1] - 1} must stand "
                    "exactly once"
                )

    def identity_of(self, name: str) -> Index:
        """Return one factor's identity, of shape `shape(name)` (a read-only view)."""
        return np.broadcast_to(np.arange(self.factors[name].size), self.shape(name))

    def moved(self, p: Element) -> dict[str, int]:
        """Count for each factor the indices that an element moves."""
        return {
            name: int(np.count_nonzero(p[name] != self.identity_of(name))) for name in self.factors
        }

    def sources(self, p: Element, name: str) -> tuple[Index, ...]:
        """Return where `p` reads a factor's indices from: its ancestors', eldest first, its own.

        The arrays broadcast against one another to `shape(name)`; `p` needs only these factors.
        """
        lineage = self.lineages[name]
        full = len(lineage)
        return tuple(
            p[ancestor].reshape(p[ancestor].shape + (1,) * (full - depth))
            for depth, ancestor in enumerate(lineage, start=1)
        )


def _check_names(p: Element, factors: Iterable[str]) -> None:
    missing, unknown = sorted(set(factors) - set(p)), sorted(set(p) - set(factors))
    if missing or unknown:
        parts = [
            f"{what} {', '.join(names[:5])}{' …' if len(names) > 5 else ''}"  # noqa: PLR2004
            for what, names in (("lack", missing), ("have besides", unknown))
            if names
        ]
        raise PermutationError(f"the permutations are of another model: they {' and '.join(parts)}")
