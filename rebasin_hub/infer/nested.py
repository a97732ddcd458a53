"""Dependent permutations: which atom may be renumbered anew for each index of another one.

An atom d may depend on an atom h if every operator that has an index of d has, on all values where
that index stands, one and the same index of h beside it. Then renumbering h, and d anew for every
index of h, is a one-to-one map of the operator's loops, whatever it computes in them. A value that
has d without h, or a sum over h that leaves d, takes the dependence away.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from rebasin_hub.infer.labels import Expression, Factor, Labels
from rebasin_hub.infer.step import Axes, Record

__all__ = ["find_parents"]

DEEPEST = 6
"""Permutations that depend on one another in a row, at most."""

Place: TypeAlias = tuple[int, ...]
"""An index of an operator: the atom that its rule made, and the way to one of its factors."""

Block: TypeAlias = "tuple[tuple[int, Place], ...]"
"""One product on an axis: its atoms, each with its place."""


def find_parents(
    labels: Labels, records: list[Record], stored: list[Axes], free: frozenset[int]
) -> dict[int, int]:
    """Return for atoms that may depend on another one the one that they best depend on.

    Args:
        labels: after all rules have run.
        records: every operator's own indices on its values.
        stored: the axes of the checkpoint's tensors.
        free: the atoms that are renumbered at all.

    """
    search = _Search(labels, free)
    for axes in stored:
        search.see((axes,))
    for record in records:
        search.see(record)
    return search.chosen()


@dataclass(eq=False)
class _Search:
    labels: Labels
    free: frozenset[int]
    allowed: dict[int, frozenset[int]] = field(default_factory=dict)
    """For every atom those that it may depend on, as far as was seen."""
    order: dict[tuple[int, int], None] = field(default_factory=dict)
    """Pairs of atoms of which the first stood before the second when they were first seen."""

    def see(self, record: Record) -> None:
        """Take away what one operator does not allow."""
        found: dict[tuple[int, Place], dict[int, Place]] = {}
        for axes in record:
            for atom, place, seen in self._beside(axes):
                beside = seen
                for other in seen:
                    if (other, atom) not in self.order:
                        self.order.setdefault((atom, other))
                known = found.get((atom, place))
                if known is not None:
                    beside = {h: at for h, at in beside.items() if known.get(h) == at}
                found[atom, place] = beside
        for (atom, _), beside in found.items():
            now = frozenset(beside)
            self.allowed[atom] = self.allowed.get(atom, now) & now

    def _beside(self, axes: Axes) -> Iterator[tuple[int, Place, dict[int, Place]]]:
        """Yield every free atom of a value with its place and with the places of those beside it.

        The same rule as when a spec is bound: an atom of the same product counts first; another
        axis counts where it is a single product, and no other has the atom.
        """
        blocks = [list(self._blocks(axis)) for axis in axes]
        for number, own in enumerate(blocks):
            elsewhere = self._elsewhere(blocks[:number] + blocks[number + 1 :])
            for block in own:
                for atom, place in block:
                    if atom not in self.free or self.allowed.get(atom) == frozenset():
                        continue
                    same = _once((a, p) for a, p in block if p != place)
                    others = {a for a, _ in block}
                    merged = {h: p for h, p in elsewhere.items() if h not in others}
                    beside = {**merged, **same}
                    beside.pop(atom, None)
                    yield atom, place, {h: p for h, p in beside.items() if h in self.free}

    @staticmethod
    def _elsewhere(blocks: list[list[Block]]) -> dict[int, Place]:
        single = [axis[0] for axis in blocks if len(axis) == 1]
        manifold = {atom for axis in blocks if len(axis) > 1 for block in axis for atom, _ in block}
        found = _once(itertools.chain.from_iterable(single))
        return {atom: place for atom, place in found.items() if atom not in manifold}

    def _blocks(self, expression: Expression) -> Iterator[Block]:
        """Yield the products that a rule's expression stands for, sums multiplied out."""
        for term in expression:
            options = [list(self._spread(factor)) for factor in term]
            for combination in itertools.product(*options):
                yield tuple(itertools.chain.from_iterable(combination))

    def _spread(self, factor: Factor) -> Iterator[Block]:
        if isinstance(factor, int):
            normal = self.labels.normal(((factor,),))
            yield from self._known(normal, (factor,))
        else:
            yield from self._blocks(factor)

    def _known(self, normal: Expression, way: Place) -> Iterator[Block]:
        for number, term in enumerate(normal):
            options: list[list[Block]] = []
            for position, factor in enumerate(term):
                here = (*way, number, position)
                if isinstance(factor, int):
                    options.append([((factor, here),)])
                else:
                    options.append(list(self._known(factor, here)))
            for combination in itertools.product(*options):
                yield tuple(itertools.chain.from_iterable(combination))

    def chosen(self) -> dict[int, int]:
        """Return one parent for each atom, so that nothing depends on itself."""
        parents: dict[int, int] = {}
        depths: dict[int, int] = {}
        for atom in sorted(self.allowed, key=self._rank):
            # Of two that may depend on each other, the one that came first is the parent.
            options = [
                h
                for h in self.allowed[atom]
                if h in depths and depths[h] < DEEPEST and not self._before(atom, h)
            ]
            depths[atom] = 0
            if options:
                parent = max(options, key=lambda h: (depths[h], self.labels.sizes[h], -h))
                parents[atom], depths[atom] = parent, depths[parent] + 1
        return parents

    def _before(self, atom: int, other: int) -> bool:
        """Tell whether a pair that may depend on each other has this one first."""
        return atom in self.allowed.get(other, ()) and (other, atom) not in self.order

    def _rank(self, atom: int) -> tuple[int, int]:
        """Sort atoms so that those that others depend on come first.

        What h may depend on, d may too where d may depend on h: parents have fewer.
        """
        mutual = [h for h in self.allowed[atom] if atom in self.allowed.get(h, ())]
        first = sum(self._before(h, atom) for h in mutual)
        return len(self.allowed[atom]) - len(mutual), first


def _once(pairs: Iterable[tuple[int, Place]]) -> dict[int, Place]:
    """Return the atoms that stand exactly once, with their places."""
    found: dict[int, Place] = {}
    repeated: set[int] = set()
    for atom, place in pairs:
        if atom in found:
            repeated.add(atom)
        found[atom] = place
    return {atom: place for atom, place in found.items() if atom not in repeated}
