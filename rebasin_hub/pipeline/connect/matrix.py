"""The matrix of all pairs: lines between every two models, in the numbering of each strategy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.barrier import grid
from rebasin_hub.permute import Element
from rebasin_hub.pipeline.barrier.measure import Job
from rebasin_hub.pipeline.connect.figures import Line, drawn, lines_of, negligible
from rebasin_hub.pipeline.connect.numberings import Numberings
from rebasin_hub.pipeline.connect.places import Places
from rebasin_hub.pipeline.connect.request import JOINT, ConnectRequest
from rebasin_hub.record.connect import (
    Connectivity,
    EndRecord,
    PairRecord,
    Strategy,
    StrategySummary,
)
from rebasin_hub.record.model import Treatment

__all__ = [
    "Cell",
    "connectivity_of",
    "ends_of",
    "line_jobs",
    "measure_matrix",
    "pair_jobs",
    "summaries_of",
]

LineJobs = Mapping[Treatment, Sequence[Job]]


@dataclass(frozen=True, eq=False)
class Cell:
    """One column of one pair in one strategy on one split."""

    pair: tuple[str, str]
    strategy: Strategy
    split: str
    line: Line

    @property
    def record(self) -> PairRecord:
        """The cell as a record holds it."""
        return PairRecord(
            first=self.pair[0],
            second=self.pair[1],
            strategy=self.strategy,
            split=self.split,
            treatment=self.line.treatment,
            loss=self.line.loss,
            error=self.line.error,
            entezari=self.line.entezari,
            frankle=self.line.frankle,
        )


def line_jobs(
    places: Places,
    numbers: tuple[int, int],
    elements: Sequence[Element],
    points: int,
    stage: str,
) -> LineJobs:
    """Return the jobs of a line by treatment."""
    return {
        treatment: [
            places.job(numbers, elements, (1 - x, x), treatment, f"{stage}, {treatment}")
            for x in grid(points)
        ]
        for treatment in places.measurer.treatments.run
    }


def pair_jobs(
    request: ConnectRequest,
    places: Places,
    numbers: tuple[int, int],
    elements: Mapping[Strategy, Sequence[Element]],
) -> dict[Strategy, LineJobs]:
    """Return the jobs of the lines between two models, by strategy and treatment.

    Args:
        request: says how many points.
        places: where they are measured.
        numbers: of the two models.
        elements: for each strategy what brings the two to one numbering.

    """
    first, second = (places.members[number].label for number in numbers)
    return {
        strategy: line_jobs(
            places, numbers, both, request.points, f"{first} to {second}, {strategy}"
        )
        for strategy, both in elements.items()
    }


def measure_matrix(
    request: ConnectRequest, numberings: Numberings, places: Places
) -> Iterator[Cell]:
    """Yield the cells of every pair: by pair, split, strategy and treatment."""
    members = numberings.members
    calibrated = "calibrated" in places.measurer.treatments.names
    for i, j in combinations(range(len(members)), 2):
        pair = members[i].label, members[j].label
        elements = {s: numberings.elements(s, (i, j)) for s in request.measured}
        jobs = pair_jobs(request, places, (i, j), elements)
        every = [job for line in jobs.values() for column in line.values() for job in column]
        places.score(every)
        scores = [
            {treatment: places.score(column) for treatment, column in line.items()}
            for line in jobs.values()
        ]
        for split in places.measurer.splits:
            lines = lines_of(
                scores, split, grid(request.points), calibrated=calibrated, seed=request.seed
            )
            for strategy, columns in zip(jobs, lines, strict=True):
                yield from (Cell(pair, strategy, split, line) for line in columns)
        places.forget(every)


def ends_of(cells: Sequence[Cell]) -> list[EndRecord]:
    """Return the models by themselves, from the ends of their lines."""
    found: dict[tuple[str, str, Treatment], EndRecord] = {}
    for cell in cells:
        for model, place in zip(cell.pair, (0, -1), strict=True):
            key = model, cell.split, cell.line.treatment
            if key not in found:
                loss, error = cell.line.loss[place], cell.line.error[place]
                found[key] = EndRecord(
                    model=model,
                    split=cell.split,
                    treatment=cell.line.treatment,
                    loss=loss,
                    error=error,
                )
    return list(found.values())


def summaries_of(cells: Sequence[Cell], tolerance: float) -> list[StrategySummary]:
    """Return mean and largest barrier over all pairs, by split, treatment and strategy."""
    return [_summary(group, tolerance) for group in _grouped(cells).values()]


def _grouped(cells: Sequence[Cell]) -> dict[tuple[str, Treatment, Strategy], list[Cell]]:
    groups: dict[tuple[str, Treatment, Strategy], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.split, cell.line.treatment, cell.strategy), []).append(cell)
    return groups


def _summary(cells: Sequence[Cell], tolerance: float) -> StrategySummary:
    first = cells[0]
    barriers = [_barrier(cell) for cell in cells]
    worst = int(np.argmax(barriers))
    return StrategySummary(
        strategy=first.strategy,
        split=first.split,
        treatment=first.line.treatment,
        mean=drawn(float(np.mean(barriers)), _mean_draws(cells)),
        largest=barriers[worst],
        pair=cells[worst].pair,
        connected=all(
            negligible(barrier, cell.line.ends, tolerance)
            for barrier, cell in zip(barriers, cells, strict=True)
        ),
    )


def _barrier(cell: Cell) -> float:
    value = cell.line.entezari.loss.value
    return float("inf") if value is None else value


def _mean_draws(cells: Sequence[Cell]) -> NDArray[np.float64]:
    return np.asarray(np.mean([cell.line.draws for cell in cells], axis=0))


def connectivity_of(
    cells: Sequence[Cell], summaries: Sequence[StrategySummary]
) -> list[Connectivity]:
    """Return the verdict of each treatment on each split."""
    by_key = {(s.split, s.treatment, s.strategy): s for s in summaries}
    groups = _grouped(cells)
    found = []
    for split, treatment in dict.fromkeys((s.split, s.treatment) for s in summaries):
        pairwise = by_key[split, treatment, "pairwise"]
        joint = {s: by_key[split, treatment, s] for s in JOINT if (split, treatment, s) in by_key}
        strategy = min(joint, key=lambda s: _mean(joint[s]), default=None)
        gap = None
        if strategy is not None:
            with np.errstate(invalid="ignore"):
                gap = drawn(
                    _mean(joint[strategy]) - _mean(pairwise),
                    _mean_draws(groups[split, treatment, strategy])
                    - _mean_draws(groups[split, treatment, "pairwise"]),
                )
        found.append(
            Connectivity(
                split=split,
                treatment=treatment,
                weak=pairwise.connected,
                strong=any(s.connected for s in joint.values()) if joint else None,
                strategy=strategy,
                gap=gap,
            )
        )
    return found


def _mean(summary: StrategySummary) -> float:
    return float("inf") if summary.mean.value is None else summary.mean.value
