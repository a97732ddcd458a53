"""Score states that lie between models, each only once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rebasin_hub.pipeline.barrier.points import Measured, Points, measured
from rebasin_hub.pipeline.barrier.treat import Treat, Treatments
from rebasin_hub.pipeline.progress import Progress
from rebasin_hub.tasks import Advance, Network, Split, State

__all__ = ["Job", "Measurer"]


@dataclass(frozen=True, eq=False)
class Job:
    """One state to score: `treat` makes it of the ends and their weights.

    Jobs of one name are the same state.
    """

    name: str
    stage: str
    ends: Sequence[State]
    weights: tuple[float, ...]
    treat: Treat


@dataclass(eq=False)
class Measurer:
    """Scores jobs on every split, as many at a time as the network likes, and keeps each.

    `progress` is told of forward passes of one sample, over all jobs that were announced.
    """

    network: Network
    treatments: Treatments
    splits: Mapping[str, Split]
    points: Points
    progress: Progress | None = None
    total: int = 0
    done: int = 0
    known: dict[str, Mapping[str, Measured]] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """Forward passes that one state takes."""
        return sum(split.count for split in self.splits.values())

    def run(self, jobs: Sequence[Job]) -> dict[str, Mapping[str, Measured]]:
        """Return what each job scored, by its name and split."""
        unique = {job.name: job for job in jobs}
        for name in unique:
            if name not in self.known and (stored := self.points.load(name)) is not None:
                self.known[name] = stored
        waiting = [job for name, job in unique.items() if name not in self.known]
        self.total += len(waiting) * self.samples
        for group in _chunks(waiting, self.network.together):
            self._score(group)
        return {name: self.known[name] for name in unique}

    def ensemble(self, name: str, states: Sequence[State]) -> Mapping[str, Measured]:
        """Return what the mean of several states' logits scored, by split."""
        stored = self.known.get(name) or self.points.load(name)
        if stored is None:
            self.total += len(states) * self.samples
            stored = {
                split: measured(self.network.ensemble(states, split, self._advance("the ensemble")))
                for split in self.splits
            }
            self.points.save(name, stored)
        self.known[name] = stored
        return stored

    def _score(self, group: Sequence[Job]) -> None:
        advance = self._advance(group[0].stage)
        states = [job.treat(job.ends, job.weights) for job in group]
        found: list[dict[str, Measured]] = [{} for _ in group]
        for split in self.splits:
            calibrate = "calibrated" in self.treatments.names
            all_scores = self.network.score(states, split, advance, calibrate=calibrate)
            for one, scores in zip(found, all_scores, strict=True):
                one[split] = measured(scores)
        for job, one in zip(group, found, strict=True):
            self.points.save(job.name, one)
            self.known[job.name] = one

    def _advance(self, stage: str) -> Advance:
        def advance(samples: int) -> None:
            self.done += samples
            if self.progress is not None:
                self.progress(stage, self.done, self.total)

        return advance


def _chunks(jobs: Sequence[Job], size: int) -> Iterator[Sequence[Job]]:
    for start in range(0, len(jobs), size):
        yield jobs[start : start + size]
