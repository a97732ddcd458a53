"""Points of lines and simplices: weighted sums of models, each in some numbering."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from rebasin_hub.bind import Binding
from rebasin_hub.permute import Element, Index
from rebasin_hub.pipeline.barrier.measure import Job, Measurer
from rebasin_hub.pipeline.barrier.points import Measured
from rebasin_hub.pipeline.connect.members import Member
from rebasin_hub.rearrange import rearranged
from rebasin_hub.record.model import Treatment
from rebasin_hub.tasks import State

__all__ = ["Places", "digest_of", "relative"]

ROOM = 2 << 30
"""Bytes of states that are kept for the lines to come."""
FEWEST = 4


def relative(binding: Binding, first: Element, other: Element) -> dict[str, Index]:
    """Return the element that brings a model to another one's own numbering.

    Args:
        binding: of both.
        first: brings the one model to a common numbering.
        other: brings the other model there.

    The law: the mean of both in the common numbering computes the same as the mean of the first,
    as it is numbered, and of the other by the element that is returned.
    """
    group = binding.group
    return group.compose(group.invert(first), other)


@dataclass(eq=False)
class Places:
    """Measures weighted sums of models.

    Only how models are numbered to one another decides what a sum computes. So every sum is made
    in the numbering of its first model, by the renumberings of the others relative to it: sums that
    are the same in two strategies are measured once, and the ends of all lines as well.

    `wanted` are names of jobs whose scores are not to be forgotten.
    """

    members: Sequence[Member]
    measurer: Measurer
    wanted: set[str] = field(default_factory=set)
    _states: OrderedDict[tuple[int, str], State] = field(default_factory=OrderedDict)

    @property
    def binding(self) -> Binding:
        """Of all models."""
        return self.members[0].model.binding

    def job(
        self,
        numbers: Sequence[int],
        elements: Sequence[Element],
        weights: Sequence[float],
        treatment: Treatment,
        stage: str,
    ) -> Job:
        """Return the job of scoring a weighted sum.

        Args:
            numbers: of the models, from 0.
            elements: bring each model to one numbering that all share.
            weights: with sum one; models of weight zero have no part.
            treatment: one of those that are run.
            stage: for people.

        """
        taken = [(n, e, w) for n, e, w in zip(numbers, elements, weights, strict=True) if w]
        base = taken[0][1]
        sources: list[tuple[int, str, Element]] = []
        for number, element, _ in taken:
            moved = relative(self.binding, base, element)
            sources.append((number, digest_of(moved), moved))
        shares = tuple(weight for _, _, weight in taken)
        treat = self.measurer.treatments.run[treatment]
        words = [
            f"{share!r} {self.members[number].label} {digest}"
            for (number, digest, _), share in zip(sources, shares, strict=True)
        ]
        return Job(
            name=f"{treatment}: {' + '.join(words)}",
            stage=stage,
            ends=(),
            weights=shares,
            # States are read when their turn has come: all of them at once may not fit.
            treat=lambda _, weights: treat([self._state(*one) for one in sources], weights),
        )

    def score(self, jobs: Sequence[Job]) -> list[Mapping[str, Measured]]:
        """Return what each job scored, by split."""
        found = self.measurer.run(jobs)
        return [found[job.name] for job in jobs]

    def forget(self, jobs: Sequence[Job]) -> None:
        """Give up the memory of sums of several models, but for those that are `wanted` again.

        The models by themselves are kept.
        """
        for job in jobs:
            if len(job.weights) > 1 and job.name not in self.wanted:
                self.measurer.known.pop(job.name, None)

    def _state(self, number: int, digest: str, element: Element) -> State:
        key = number, digest
        if key in self._states:
            self._states.move_to_end(key)
            return self._states[key]
        member = self.members[number]
        read = member.read
        if digest:
            read = rearranged(self.binding, element, read)
        self._states[key] = state = self.measurer.network.state(read)
        most = max(FEWEST, ROOM // max(1, member.model.nbytes))
        while len(self._states) > most:
            self._states.popitem(last=False)
        return state


def digest_of(element: Element) -> str:
    """Return a digest of an element; empty for the identity."""
    if all(np.array_equal(index, np.sort(index, axis=-1)) for index in element.values()):
        return ""
    digest = hashlib.sha256()
    for name in sorted(element):
        digest.update(name.encode() + b"\0" + np.ascontiguousarray(element[name], "<i8").tobytes())
    return digest.hexdigest()
