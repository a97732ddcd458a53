"""Two trainings step by step, with one permutation, of their last weights, for all steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rebasin_hub.barrier import grid
from rebasin_hub.permute import Element
from rebasin_hub.pipeline.connect.figures import lines_of
from rebasin_hub.pipeline.connect.masks import kept, overlap_of
from rebasin_hub.pipeline.connect.matrix import line_jobs
from rebasin_hub.pipeline.connect.members import Member, cosine
from rebasin_hub.pipeline.connect.numberings import Brought, Searcher
from rebasin_hub.pipeline.connect.places import Places
from rebasin_hub.pipeline.connect.request import TrajectoryRequest
from rebasin_hub.rearrange import rearranged
from rebasin_hub.record.connect import (
    MaskRecord,
    PermutationRecord,
    PermutationStrategy,
    StepCurve,
    StepNumbering,
    StepRecord,
)

__all__ = ["Steps", "find_steps", "measure_steps", "step_records"]


@dataclass(frozen=True, eq=False)
class Steps:
    """Members of both trajectories, and what brings B's steps to A's.

    last: the renumbering of the last step of B to the last step of A.
    own: that of every step, the last one's among them; empty where they are not asked for.
    """

    a: Sequence[Member]
    b: Sequence[Member]
    last: Brought
    own: Sequence[Brought]

    @property
    def members(self) -> tuple[Member, ...]:
        """All models: A's steps, then B's."""
        return (*self.a, *self.b)

    def elements(self, step: int) -> dict[StepNumbering, Element]:
        """Return what renumbers B at a step, in each numbering."""
        found: dict[StepNumbering, Element] = {
            "naive": self.a[0].model.binding.group.identity(),
            "last": self.last.element,
        }
        if self.own:
            found["own"] = self.own[step].element
        return found

    @property
    def brought(self) -> dict[PermutationStrategy, Sequence[Brought]]:
        """All renumberings, that of the last step once."""
        return {"last": [self.last], "own": self.own[:-1]}

    def records(self) -> list[PermutationRecord]:
        """Return the renumberings as a record names them, without their files."""
        return [one.record(numbering) for numbering, each in self.brought.items() for one in each]


def find_steps(request: TrajectoryRequest, members: Sequence[Member], searcher: Searcher) -> Steps:
    """Align the last step of B to that of A, and every other one as well where it is asked for."""
    count = len(request.a)
    a, b = members[:count], members[count:]
    last = searcher.bring(b[-1], a[-1], "last")
    earlier = range(count - 1) if request.own else ()
    own = [searcher.bring(b[step], a[step], f"step-{step}") for step in earlier]
    return Steps(a, b, last, [*own, last] if request.own else [])


def measure_steps(request: TrajectoryRequest, steps: Steps, places: Places) -> Iterator[StepCurve]:
    """Yield the lines of every step: by step, split, numbering and treatment."""
    lambdas, count = grid(request.points), len(steps.a)
    calibrated = "calibrated" in places.measurer.treatments.names
    for step in range(count):
        identity = steps.a[0].model.binding.group.identity()
        jobs = {
            numbering: line_jobs(
                places,
                (step, count + step),
                (identity, element),
                request.points,
                f"step {step}, {numbering}",
            )
            for numbering, element in steps.elements(step).items()
        }
        every = [job for line in jobs.values() for column in line.values() for job in column]
        places.score(every)
        scores = [
            {treatment: places.score(column) for treatment, column in line.items()}
            for line in jobs.values()
        ]
        for split in places.measurer.splits:
            lines = lines_of(scores, split, lambdas, calibrated=calibrated, seed=request.seed)
            for numbering, columns in zip(jobs, lines, strict=True):
                for line in columns:
                    yield StepCurve(
                        step=step,
                        numbering=numbering,
                        split=split,
                        treatment=line.treatment,
                        loss=line.loss,
                        error=line.error,
                        entezari=line.entezari,
                        frankle=line.frankle,
                    )
        places.measurer.known.clear()  # no later step has a point of this one


def step_records(steps: Steps) -> list[StepRecord]:
    """Return what is known of each step beside its lines."""
    return [_step_record(steps, step) for step in range(len(steps.a))]


def _step_record(steps: Steps, step: int) -> StepRecord:
    a, b, elements = steps.a[step], steps.b[step], steps.elements(step)
    binding = a.model.binding
    cosines: dict[StepNumbering, float | None] = {
        numbering: cosine(binding, a.read, rearranged(binding, element, b.read))
        for numbering, element in elements.items()
    }
    return StepRecord(
        step=step,
        a=a.record,
        b=b.record,
        cosine=cosines,
        agreement=_agreement(elements["own"], elements["last"]) if "own" in elements else None,
        masks=_masks(a, b, elements),
    )


def _agreement(own: Element, last: Element) -> float:
    """Return the share of units with the same partner; 1 where there are no units."""
    same = sum(int(np.count_nonzero(own[name] == last[name])) for name in own)
    units = sum(index.size for index in own.values())
    return same / units if units else 1.0


def _masks(a: Member, b: Member, elements: Mapping[StepNumbering, Element]) -> MaskRecord | None:
    """Return what is pruned; None where nothing is."""
    names = tuple(dict.fromkeys((*a.masks.names(a.model), *b.masks.names(b.model))))
    in_a = kept(a.model, a.masks, names)
    found = {
        numbering: overlap_of(in_a, kept(b.model, b.masks, names, element))
        for numbering, element in elements.items()
    }
    plain = found["naive"]
    if not (plain.a or plain.b):
        return None
    return MaskRecord(
        sparsity_a=plain.a,
        sparsity_b=plain.b,
        merged={numbering: one.merged for numbering, one in found.items()},
        overlap={numbering: one.shared for numbering, one in found.items()},
    )
