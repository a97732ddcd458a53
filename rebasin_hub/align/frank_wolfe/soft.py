"""Soft numberings: points of the convex hull of a group's elements, as matrices.

For each permutation a matrix (units, units): row `new`, column `old`, as `new = matrix @ old`. An
element's matrices hold zeros and ones. Those of a dependent permutation are over its units under
all its parents, so that a mixture of elements is the mixture of their matrices, parent by parent:
the block of a pair of parents (i, j) has row sums that are the parent's entry (i, j).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rebasin_hub.align.backend import Array, Backend
from rebasin_hub.align.family import View
from rebasin_hub.align.nested import solve_family
from rebasin_hub.align.similarity import Operand
from rebasin_hub.bind.axes import Block
from rebasin_hub.permute import Element, Index, SymmetryGroup

__all__ = ["Leg", "Soft", "Space", "applied", "gathered", "legs"]

Soft: TypeAlias = dict[str, Array]
"""For each factor its matrix."""

MIXED = 5
"""Elements that a random soft numbering is a mixture of."""


@dataclass(frozen=True)
class Leg:
    """Atoms of a block that one matrix acts on: a factor's and its ancestors', eldest first."""

    factor: str
    atoms: tuple[int, ...]


def legs(block: Block) -> tuple[Leg, ...]:
    """Return the legs of a block: the lineage of every atom that no other one depends on."""
    above = {parent for parent in block.parents if parent is not None}
    return tuple(
        Leg(atom.permutation, block.lineage(number))
        for number, atom in enumerate(block.atoms)
        if atom.permutation is not None and number not in above
    )


def applied(backend: Backend, array: Array, leg: Leg, matrix: Array) -> Array:
    """Multiply a block by a matrix along a leg."""
    rows, back = _rows(backend, array, leg)
    return _restored(backend, matrix @ rows, back)


def gathered(backend: Backend, array: Array, leg: Leg, index: Index) -> Array:
    """Multiply a block along a leg by the matrix of an element: `new[i] = old[index[i]]`."""
    rows, back = _rows(backend, array, leg)
    return _restored(backend, backend.xp.take(rows, backend.asarray(index), axis=0), back)


@dataclass(frozen=True)
class _Back:
    shape: tuple[int, ...]
    order: tuple[int, ...]


def _rows(backend: Backend, array: Array, leg: Leg) -> tuple[Array, _Back]:
    xp = backend.xp
    order = (*leg.atoms, *(n for n in range(array.ndim) if n not in leg.atoms))
    first = xp.permute_dims(array, order)
    shape = tuple(int(n) for n in first.shape)
    units = int(np.prod(shape[: len(leg.atoms)]))
    back = _Back(shape, tuple(int(n) for n in np.argsort(order)))
    return xp.reshape(first, (units, -1)), back


def _restored(backend: Backend, rows: Array, back: _Back) -> Array:
    return backend.xp.permute_dims(backend.xp.reshape(rows, back.shape), back.order)


@dataclass(frozen=True, eq=False)
class Space:
    """The soft numberings of a group's factors, `names` of them, as matrices of one type."""

    backend: Backend
    group: SymmetryGroup
    names: tuple[str, ...]
    dtype: np.dtype[np.floating]

    def rows(self, element: Element) -> dict[str, Index]:
        """Return for each factor the old unit that each new one is read from."""
        found = {}
        for name in self.names:
            shape = self.group.shape(name)
            sources = np.broadcast_arrays(*self.group.sources(element, name))
            found[name] = np.ravel_multi_index(sources, shape).reshape(-1)
        return found

    def at(self, element: Element) -> Soft:
        """Return an element's matrices."""
        return {name: self._matrix(index) for name, index in self.rows(element).items()}

    def center(self) -> Soft:
        """Return the mean of all elements: every unit is read from all that may take its place."""
        soft = {}
        for name in self.names:
            units = self.group.units[name]
            whole = np.full((units, units), 1 / units, dtype=self.dtype)
            soft[name] = self.backend.asarray(whole)
        return soft

    def random(self, rng: np.random.Generator) -> Soft:
        """Return a mixture of some random elements, by random weights."""
        elements = [self.group.random(rng) for _ in range(MIXED)]
        shares = rng.dirichlet(np.ones(MIXED))
        soft = {}
        for name in self.names:
            units = self.group.units[name]
            mixed = np.zeros((units, units), dtype=self.dtype)
            for element, share in zip(elements, shares, strict=True):
                mixed[np.arange(units), self.rows(element)[name]] += share
            soft[name] = self.backend.asarray(mixed)
        return soft

    def between(self, soft: Soft, rows: dict[str, Index], share: float) -> Soft:
        """Return the point at `share` of the way from a soft numbering to an element's rows."""
        return {
            name: soft[name] * (1 - share) + self._matrix(rows[name]) * share for name in self.names
        }

    def nearest(self, soft: Soft, roots: Collection[str]) -> dict[str, Index]:
        """Return the element, of the families of some roots, that is nearest to a soft numbering.

        It has the largest sum of the matrices' entries that it picks.
        """
        found: dict[str, Index] = {}
        for root in roots:
            members = self.group.family(root)
            own = SymmetryGroup({name: self.group.factors[name] for name in members})
            found |= solve_family(self.backend, own, [self._entries(soft, n) for n in members])
        return found

    def _entries(self, soft: Soft, name: str) -> Operand:
        """Return the operand whose Gram matrix is the soft matrix itself."""
        shape, lineage = self.group.shape(name), self.group.lineages[name]
        units = self.group.units[name]
        xp, one = self.backend.xp, self._matrix(np.arange(units))
        view = View(-1, lineage, tuple(range(len(lineage))))
        return Operand(view, *(xp.reshape(x, (*shape, units)) for x in (soft[name], one)))

    def _matrix(self, index: Index) -> Array:
        matrix = np.zeros((len(index), len(index)), dtype=self.dtype)
        matrix[np.arange(len(index)), index] = 1
        return self.backend.asarray(matrix)
