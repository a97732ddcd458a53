"""Families: a permutation with everything that depends on it, and the blocks that it stands on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

from rebasin_hub.align.backend import Array, Backend
from rebasin_hub.align.later import Later, after
from rebasin_hub.align.problem import Problem, memory_order, places_of
from rebasin_hub.bind.axes import Block
from rebasin_hub.permute import SymmetryGroup

__all__ = ["Family", "View", "families", "operand"]


@dataclass(frozen=True)
class View:
    """One way to read a block as linear in a family: `factors` move the atoms at `active`.

    A block on which a permutation stands twice has one view for each place; the other place is
    then frozen as it is at the moment. `frozen` lists the other atoms in the order in which memory
    holds them; empty is that of the block.
    """

    term: int
    factors: tuple[str, ...]
    active: tuple[int, ...]
    frozen: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Family:
    """A permutation that depends on no other, with everything that depends on it.

    `group` is the family's own group of renumberings, `views` are grouped by term.
    """

    root: str
    group: SymmetryGroup
    views: tuple[View, ...]
    touches_fixed: bool

    @cached_property
    def terms(self) -> tuple[int, ...]:
        """The terms that the family stands on."""
        return tuple(dict.fromkeys(view.term for view in self.views))

    @cached_property
    def linear(self) -> bool:
        """Whether no permutation of the family stands twice on one block."""
        return len(self.terms) == len(self.views)


def families(problem: Problem) -> tuple[Family, ...]:
    """Return every family that stands on a term, in the order of the group's factors."""
    group = problem.group
    moving = [{atom.permutation for atom in term.block.atoms} for term in problem.terms]
    found = []
    for root in group.roots:
        members = group.family(root)
        own = SymmetryGroup({name: group.factors[name] for name in members})
        views, anchored = [], False
        for number, term in enumerate(problem.terms):
            if moving[number].isdisjoint(members):
                continue
            order = memory_order(term.block)
            for factors, active in _views(term.block, own):
                frozen = tuple(atom for atom in order if atom not in active)
                views.append(View(number, factors, active, frozen))
            anchored |= _touches_fixed(term.block, members)
        if views:
            found.append(Family(root, own, tuple(views), anchored))
    return tuple(found)


def operand(
    backend: Backend, array: Array | Later, view: View, unaligned: Collection[int] = ()
) -> Array | Later:
    """Bring a block to the shape of its active atoms, with all others flattened into a last axis.

    Coordinates along the atoms at `unaligned` cannot be compared between the models yet: they are
    sorted by value, which makes the result independent of how these atoms are numbered.
    """
    shape = tuple(array.shape[n] for n in view.active)
    width = math.prod(array.shape) // max(1, math.prod(shape))
    return after(array, (*shape, width), lambda x: _operand(backend, x, view, unaligned))


def _operand(backend: Backend, array: Array, view: View, unaligned: Collection[int]) -> Array:
    xp = backend.xp
    frozen = view.frozen or [n for n in range(array.ndim) if n not in view.active]
    kept = [n for n in frozen if n not in unaligned]
    folded = [n for n in frozen if n in unaligned]
    shape = tuple(array.shape[n] for n in view.active)
    array_of = xp.permute_dims(array, (*view.active, *kept, *folded))
    if folded:
        widths = (math.prod(array.shape[n] for n in part) for part in (kept, folded))
        array_of = xp.sort(xp.reshape(array_of, (*shape, *widths)), axis=-1)
    return xp.reshape(array_of, (*shape, -1))


def _views(block: Block, group: SymmetryGroup) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    """Yield every largest choice of atoms, one a factor at most, whose parents are chosen too.

    Dependents of one parent that stand at different places of it have no choice in common.
    """
    places = {name: at for name, at in places_of(block).items() if name in group.factors}
    factors = tuple(name for name in group.factors if name in places)
    choices = []
    for chosen in itertools.product(*((*places[name], None) for name in factors)):
        active = tuple(n for n in chosen if n is not None)
        if active and all(block.parents[n] is None or block.parents[n] in active for n in active):
            names = tuple(f for f, n in zip(factors, chosen, strict=True) if n is not None)
            choices.append((names, active))
    for names, active in choices:
        if not any(set(active) < set(other) for _, other in choices):
            yield names, active


def _touches_fixed(block: Block, members: tuple[str, ...]) -> bool:
    """Tell whether all other atoms are fixed, and more than one number stands along them."""
    others = [atom for atom in block.atoms if atom.permutation not in members]
    return (
        len(others) < len(block.atoms)
        and all(atom.permutation is None for atom in others)
        and math.prod(atom.size for atom in others) > 1
    )
