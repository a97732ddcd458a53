"""One model in a soft numbering: its image, the gradient's best element, and the way there."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from rebasin_hub.align.backend import Array, Backend
from rebasin_hub.align.family import Family, View, operand
from rebasin_hub.align.frank_wolfe.soft import (
    Leg,
    Soft,
    Space,
    applied,
    gathered,
    legs,
)
from rebasin_hub.align.nested import solve_family
from rebasin_hub.align.problem import Problem, renumbered
from rebasin_hub.align.similarity import Operand
from rebasin_hub.permute import Element, Index

__all__ = ["Relaxed", "common_type", "stuck_families"]

GAIN = 1e-9
"""Share of the products' scale that a family must gain for its step to be taken."""


def common_type(backend: Backend, blocks: Sequence[Array]) -> np.dtype[np.floating]:
    """Return the type that all products are made in: float64 if one block has it."""
    double = any("float64" in str(block.dtype) for block in blocks)
    return backend.widest if double else np.dtype(np.float32)


class Relaxed:
    """A model B whose families are numbered softly, but for some that are held at an element.

    Held are the families with dependents of one parent that cross on a block: what a mixture of
    elements makes of such a block is no product of the factors' matrices. They step from element to
    element (`settle`).
    """

    def __init__(
        self,
        problem: Problem,
        families: Sequence[Family],
        blocks: Sequence[Array],
        element: Element,
    ) -> None:
        self.group, self.backend = problem.group, problem.backend
        self.stuck = stuck_families(problem, families)
        self.free = tuple(family for family in families if family not in self.stuck)
        names = tuple(name for family in self.free for name in family.group.factors)
        dtype = common_type(self.backend, [*blocks, *(term.a for term in problem.terms)])
        self.space = Space(self.backend, self.group, names, dtype)
        self.terms = [term.block for term in problem.terms]
        self._legs = [
            tuple(leg for leg in legs(block) if leg.factor in names) for block in self.terms
        ]
        self.held = {n: element[n] for f in self.stuck for n in f.group.factors}
        self._b = [
            renumbered(self.backend, block, self.cast(array), self.held)
            for block, array in zip(self.terms, blocks, strict=True)
        ]
        self.soft: Soft = self.space.at(element)

    def cast(self, array: Array) -> Array:
        """Bring an array to the type that all products are made in."""
        xp = self.backend.xp
        return xp.astype(array, getattr(xp, self.space.dtype.name), copy=False)

    def image(self, number: int) -> Array:
        """Return a term's block in the soft numbering."""
        return self._through(number, self._legs[number])

    def images(self) -> list[Array]:
        """Return every term's block in the soft numbering."""
        return [self.image(number) for number in range(len(self.terms))]

    def vertex(self, targets: Sequence[Array]) -> dict[str, Index]:
        """Return the element whose inner product with the objective's gradient is the largest.

        The objective is the sum of ⟨target, image⟩; the element is one of the free families.
        """
        operands: dict[str, list[Operand]] = {family.root: [] for family in self.free}
        for number, all_legs in enumerate(self._legs):
            for leg in all_legs:
                lineage = self.group.lineages[leg.factor]
                view = View(number, lineage, leg.atoms)
                others = self._through(number, [other for other in all_legs if other is not leg])
                operands[lineage[0]].append(
                    Operand(
                        view,
                        operand(self.backend, targets[number], view),
                        operand(self.backend, others, view),
                    )
                )
        found: dict[str, Index] = {}
        for family in self.free:
            found |= solve_family(self.backend, family.group, operands[family.root])
        return found

    def fan(self, number: int, rows: dict[str, Index]) -> list[Array]:
        """Return the mixtures of a term's block on the way to an element; see `Line.of`.

        Entry d sums, over all ways of taking d legs by the element and the others softly, the
        block renumbered so.
        """
        mixtures = [self._b[number]]
        for leg in self._legs[number]:
            near = [applied(self.backend, x, leg, self.soft[leg.factor]) for x in mixtures]
            far = [gathered(self.backend, x, leg, rows[leg.factor]) for x in mixtures]
            between = [a + b for a, b in zip(near[1:], far[:-1], strict=True)]
            mixtures = [near[0], *between, far[-1]]
        return mixtures

    def move(self, rows: dict[str, Index], share: float) -> None:
        """Go a share of the way to an element."""
        self.soft = self.space.between(self.soft, rows, share)

    def settle(self, targets: Sequence[Array]) -> float:
        """Let each held family step where that is a gain, and return what was gained."""
        gains = [self._stepped(family, targets) for family in self.stuck]
        return math.fsum(gains)

    def nearest(self) -> dict[str, Index]:
        """Return the element that is nearest to the soft numbering."""
        found = self.space.nearest(self.soft, [family.root for family in self.free])
        return {**self.group.identity(), **self.held, **found}

    def _stepped(self, family: Family, targets: Sequence[Array]) -> float:
        images = {
            number: self.image(number)
            for number, block in enumerate(self.terms)
            if any(atom.permutation in family.group.factors for atom in block.atoms)
        }
        step = solve_family(
            self.backend,
            family.group,
            [
                Operand(
                    view,
                    operand(self.backend, targets[view.term], view),
                    operand(self.backend, images[view.term], view),
                )
                for view in family.views
            ],
        )
        gain, scale = 0.0, 0.0
        for number, image in images.items():
            moved = renumbered(self.backend, self.terms[number], image, step)
            gain += self.backend.inner(targets[number], moved)
            gain -= self.backend.inner(targets[number], image)
            squares = (self.backend.inner(x, x) for x in (targets[number], image))
            scale += math.sqrt(math.prod(squares))
        if gain <= GAIN * scale:
            return 0.0
        for number in images:
            block = self.terms[number]
            self._b[number] = renumbered(self.backend, block, self._b[number], step)
        own = {name: self.held[name] for name in family.group.factors}
        self.held |= family.group.compose(step, own)
        return gain

    def _through(self, number: int, some: Sequence[Leg]) -> Array:
        array = self._b[number]
        for leg in some:
            array = applied(self.backend, array, leg, self.soft[leg.factor])
        return array


def stuck_families(problem: Problem, families: Sequence[Family]) -> tuple[Family, ...]:
    """Return the families with dependents that cross on a block."""
    crossed = {name for term in problem.terms for name in _crossed(legs(term.block))}
    return tuple(family for family in families if crossed & set(family.group.factors))


def _crossed(all_legs: Sequence[Leg]) -> set[str]:
    """Return the factors of legs that share an atom with another one."""
    return {
        leg.factor
        for leg in all_legs
        if any(other is not leg and set(other.atoms) & set(leg.atoms) for other in all_legs)
    }
