"""Whether the ways between many models agree: round three of them and back to the same unit."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from rebasin_hub.permute import Element, Index, SymmetryGroup

__all__ = ["Maps", "cycle_error", "maps_between"]

Maps: TypeAlias = Mapping[tuple[int, int], Element]
"""For models (p, q) the element that brings p into the numbering of q; p < q or both ways."""


def maps_between(
    group: SymmetryGroup, elements: Sequence[Element]
) -> dict[tuple[int, int], dict[str, Index]]:
    """Return the maps between all models that one element for each of them makes, both ways.

    They are consistent by construction: p to q leads through the common numbering.
    """
    back = [group.invert(element) for element in elements]
    return {
        (p, q): group.compose(back[q], elements[p])
        for p, q in itertools.permutations(range(len(elements)), 2)
    }


def cycle_error(group: SymmetryGroup, maps: Maps) -> float | None:
    """Return the share of units that the way round three models does not lead to themselves.

    Over all triples p < q < r of models, from p to q to r and straight back to p. The way in the
    other direction is the inverse and moves as many. None where there are no three models.
    """
    count = 1 + max((max(pair) for pair in maps), default=-1)
    moved = units = 0
    for p, q, r in itertools.combinations(range(count), 3):
        there = group.compose(_way(group, maps, q, r), _way(group, maps, p, q))
        around = group.compose(_way(group, maps, r, p), there)
        moved += _displaced(group, around)
        units += sum(group.units.values())
    return moved / units if units else None


def _displaced(group: SymmetryGroup, p: Element) -> int:
    """Count the units that do not stay, those of a dependent permutation under all its parents."""
    identity, count = group.identity(), 0
    for name in group.factors:
        pairs = zip(group.sources(p, name), group.sources(identity, name), strict=True)
        off = np.zeros(group.shape(name), dtype=bool)
        for old, new in pairs:
            off |= old != new
        count += int(np.count_nonzero(off))
    return count


def _way(group: SymmetryGroup, maps: Maps, p: int, q: int) -> Element:
    return maps[p, q] if (p, q) in maps else group.invert(maps[q, p])
