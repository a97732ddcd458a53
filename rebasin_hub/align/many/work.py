"""Models that are being brought into one numbering, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeAlias

import numpy as np

from rebasin_hub.align.many.cycles import cycle_error, maps_between
from rebasin_hub.align.many.mean import mean_of, spread
from rebasin_hub.align.result import Alignment
from rebasin_hub.align.watch import Watch
from rebasin_hub.bind import Binding
from rebasin_hub.permute import Index, SymmetryGroup
from rebasin_hub.rearrange import Read, rearranged

__all__ = ["Aligner", "Joint", "Step", "Strategy", "Work", "named"]

GAIN = 1e-9
"""Share of the norms that an objective must rise by for a model to count as moved."""


class Aligner(Protocol):
    """Aligns one model to another; see `align`."""

    def __call__(
        self, read_reference: Read, read_model: Read, *, first: bool, what: str
    ) -> Alignment:
        """Return the element that brings the model to the reference, and how it was found.

        Args:
            read_reference: reads the reference.
            read_model: reads the model.
            first: whether to search from several starts; otherwise only from the identity.
            what: which models these are, for people.

        The law: the objective is at least that of the identity.
        """


@dataclass(frozen=True, eq=False)
class Step:
    """One alignment: of `models`, as one, to the mean of `references`; both count from 0."""

    models: tuple[int, ...]
    references: tuple[int, ...]
    alignment: Alignment


@dataclass(frozen=True, eq=False)
class Joint:
    """One element for each model, the first one's the identity, and how they were found.

    `distances` is what `spread` says once all are aligned to the first one, and after each round
    (`merge-many`; `universe`, whose first round is Frank-Wolfe's); `converged` whether the last
    round moved no model; `notes` are what a user should know, in whole sentences.
    """

    strategy: str
    group: SymmetryGroup
    elements: tuple[dict[str, Index], ...]
    steps: tuple[Step, ...]
    distances: tuple[float, ...] = ()
    converged: bool = True
    notes: tuple[str, ...] = ()

    @cached_property
    def cycle_error(self) -> float | None:
        """The `cycle_error` of the maps between all models, which is measured: it has to be zero.

        None for two models.
        """
        return cycle_error(self.group, maps_between(self.group, self.elements))


@dataclass(eq=False)
class Work:
    """Models that are being renumbered: each one's element so far.

    `device` and `watch` are for what a strategy computes itself.
    """

    binding: Binding
    reads: Sequence[Read]
    align: Aligner
    rng: np.random.Generator
    device: str = "cpu"
    watch: Watch = field(default_factory=Watch)
    elements: list[dict[str, Index]] = field(init=False)
    steps: list[Step] = field(init=False, default_factory=list)
    notes: list[str] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        """Begin as the models are numbered."""
        self.elements = [self.binding.group.identity() for _ in self.reads]

    def read(self, number: int) -> Read:
        """Return a reader of a model in its present numbering."""
        return rearranged(self.binding, self.elements[number], self.reads[number])

    def mean(self, numbers: Sequence[int]) -> Read:
        """Return a reader of the mean of models in their present numberings."""
        return mean_of([self.read(number) for number in numbers])

    def spread(self) -> float:
        """Return how far the models are from their mean, as they are numbered now."""
        return spread(self.binding, [self.read(number) for number in range(len(self.reads))])

    def step(self, models: Sequence[int], references: Sequence[int], *, first: bool = True) -> bool:
        """Align models, as one, to the mean of others; tell whether they moved.

        They do where the objective of the weights rises; at `first` also by what a method found
        that has a goal of its own.
        """
        what = f"{named(models)} to {named(references)}"
        found = self.align(self.mean(references), self.mean(models), first=first, what=what)
        self.steps.append(Step(tuple(models), tuple(references), found))
        gain = found.objective - found.start_objective
        own_goal = first and found.goal is not None
        if gain <= GAIN * found.norm_a * found.norm_b and not own_goal:
            return False
        for number in models:
            self.elements[number] = self.binding.group.compose(found.element, self.elements[number])
        return True


Strategy: TypeAlias = Callable[[Work], tuple[tuple[float, ...], bool]]
"""Renumbers the models of the work; returns distances, and whether it came to an end."""


def named(numbers: Sequence[int]) -> str:
    """Name models for people, who count from 1."""
    shown = ", ".join(str(number + 1) for number in numbers)
    return f"model {shown}" if len(numbers) == 1 else f"the mean of models {shown}"
