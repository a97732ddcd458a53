"""The present point of a descent: an element, B renumbered by it, and the exact objective."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from rebasin_hub.align.backend import Array
from rebasin_hub.align.family import Family
from rebasin_hub.align.problem import Problem, renumbered
from rebasin_hub.errors import ProofError
from rebasin_hub.permute import Element, Index

__all__ = ["State"]

GAIN = 1e-12
"""Share of the terms' scale that counts as a gain: above the rounding of float64 sums."""

ROUNDING = {"float32": 1e-4, "float64": 1e-10}
"""Share of the terms' scale that products in a type may be wrong by, with a wide margin."""


@dataclass(frozen=True)
class _Trial:
    blocks: dict[int, Array]
    values: dict[int, float]
    gain: float


class State:
    """An element of the group and the objective there; only true improvements are taken over.

    `b` holds every term's block of B renumbered by `element`, so that steps are relative: a step
    `q` makes `compose(q, element)` of it, and the identity is the point where the state stands.
    B as it was read is not kept beside it: going back is renumbering, too.
    """

    def __init__(self, problem: Problem, b: list[Array]) -> None:
        self.problem = problem
        self.element: dict[str, Index] = problem.group.identity()
        self.b = b
        self._values = [
            problem.backend.inner(term.a, block)
            for term, block in zip(problem.terms, b, strict=True)
        ]

    @property
    def objective(self) -> float:
        """The objective at `element`: products and sums in float64."""
        return math.fsum((self.problem.constant, *self._values))

    def jump(self, element: Element) -> None:
        """Go to an element, whatever the objective is there."""
        group = self.problem.group
        step = group.compose(element, group.invert(self.element))
        for number, term in enumerate(self.problem.terms):
            self.b[number] = renumbered(self.problem.backend, term.block, self.b[number], step)
            self._values[number] = self.problem.backend.inner(term.a, self.b[number])
        self.element = {name: element[name].copy() for name in group.factors}

    def step(self, family: Family, step: Mapping[str, Index]) -> None:
        """Renumber one family, whatever the objective is then."""
        self._accept(self._try(family.terms, step))
        self._compose(family, step)

    def improve(self, family: Family, step: Mapping[str, Index]) -> bool:
        """Renumber one family if the objective rises, and tell whether it did.

        Raises:
            ProofError: the step of a family that the objective is linear in makes it fall by more
                than rounding, which cannot happen.

        """
        trial = self._try(family.terms, step)
        scale = math.fsum(self.problem.terms[number].scale for number in family.terms)
        if trial.gain > GAIN * scale:
            self._accept(trial)
            self._compose(family, step)
            return True
        if family.linear and trial.gain < -self._rounding(family) * scale:
            raise ProofError(
                f"renumbering '{family.root}' lowers the objective by {-trial.gain:.3g}, expected "
                "a rise; this is a bug in weight matching, please report it"
            )
        return False

    def _rounding(self, family: Family) -> float:
        kinds = {str(self.b[n].dtype).removeprefix("torch.") for n in family.terms}
        return max(ROUNDING[kind] for kind in kinds)

    def _try(self, terms: tuple[int, ...], step: Mapping[str, Index]) -> _Trial:
        problem = self.problem
        blocks, values = {}, {}
        for number in terms:
            term, now = problem.terms[number], self.b[number]
            moved = renumbered(problem.backend, term.block, now, step)
            if moved is not now:
                blocks[number] = moved
                values[number] = problem.backend.inner(term.a, moved)
        gain = math.fsum([*values.values(), *(-self._values[number] for number in values)])
        return _Trial(blocks, values, gain)

    def _accept(self, trial: _Trial) -> None:
        for number, block in trial.blocks.items():
            self.b[number] = block
            self._values[number] = trial.values[number]

    def _compose(self, family: Family, step: Mapping[str, Index]) -> None:
        own = {name: self.element[name] for name in family.group.factors}
        self.element = self.element | family.group.compose(step, own)
