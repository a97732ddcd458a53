"""Measure the loss on the straight line between two models, naive and aligned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.barrier import Interval, grid, resampled
from rebasin_hub.pipeline.barrier.ends import Aligned, Ends
from rebasin_hub.pipeline.barrier.measure import Job, Measurer
from rebasin_hub.pipeline.barrier.points import Measured
from rebasin_hub.record.model import (
    Baseline,
    CurveRecord,
    Figure,
    Intervals,
    Numbering,
    Removed,
    Treatment,
)
from rebasin_hub.tasks import State

__all__ = ["measure_line"]


def measure_line(
    points: int, seed: int, ends: Ends, aligned: Sequence[Aligned], measurer: Measurer
) -> dict[str, Any]:
    """Measure a line between two models.

    Args:
        points: of the line, both ends included.
        seed: of the bootstrap.
        ends: the two models.
        aligned: the second one aligned to the first, or nothing.
        measurer: scores states.

    Returns what of a record tells of a line.

    """
    line = _measure(grid(points), ends, aligned, measurer)
    curves, removed = _curves(line, seed)
    return {
        "kind": "barrier",
        "lambdas": list(line.lambdas),
        "curves": curves,
        "removed": removed,
        "baselines": _baselines(line),
        "matches": [match for one in aligned for match in ends.matches(one)],
    }


@dataclass(frozen=True, eq=False)
class _Line:
    """Everything that was measured: by numbering, treatment and place; and what is no place."""

    lambdas: tuple[float, ...]
    splits: tuple[str, ...]
    scores: Mapping[tuple[Numbering, Treatment], Sequence[Mapping[str, Measured]]]
    ensemble: Mapping[str, Measured]
    calibrated: bool


def _measure(
    lambdas: tuple[float, ...], ends: Ends, aligned: Sequence[Aligned], measurer: Measurer
) -> _Line:
    network = measurer.network
    a = network.state(ends.first.read)
    lines: dict[Numbering, Sequence[State]] = {"naive": (a, network.state(ends.models[1].read))}
    for one in aligned:
        lines["aligned"] = (a, network.state(one.read))
    jobs = {
        (numbering, treatment): [
            Job(
                # Both lines begin in the same model.
                name=f"{numbering if x else 'A'} {treatment} {x!r}",
                stage=f"measuring {numbering}, {treatment}",
                ends=states,
                weights=(1 - x, x),
                treat=treat,
            )
            for x in lambdas
        ]
        for treatment, treat in measurer.treatments.run.items()
        for numbering, states in lines.items()
    }
    found = measurer.run([job for group in jobs.values() for job in group])
    return _Line(
        lambdas=lambdas,
        splits=tuple(measurer.splits),
        scores={key: [found[job.name] for job in group] for key, group in jobs.items()},
        ensemble=measurer.ensemble("ensemble", lines["naive"]),
        calibrated="calibrated" in measurer.treatments.names,
    )


@dataclass(frozen=True, eq=False)
class _Column:
    """One column on one split: (points, samples) sums of losses and errors, and temperatures."""

    numbering: Numbering
    treatment: Treatment
    losses: NDArray[np.float64]
    errors: NDArray[np.float64]
    temperature: list[float | None] | None = None


def _columns(line: _Line, split: str) -> list[_Column]:
    columns = []
    for (numbering, treatment), places in line.scores.items():
        here = [place[split] for place in places]
        losses, errors = (np.stack([getattr(m, key) for m in here]) for key in ("losses", "errors"))
        columns.append(_Column(numbering, treatment, losses, errors))
        softened = [m.calibrated for m in here if m.calibrated is not None]
        if treatment == "as is" and line.calibrated and softened:
            temperature: list[float | None] = [m.temperature for m in here]
            columns.append(
                _Column(numbering, "calibrated", np.stack(softened), errors, temperature)
            )
    return columns


def _curves(line: _Line, seed: int) -> tuple[list[CurveRecord], list[Removed]]:
    curves, removed = [], []
    for split in line.splits:
        columns = _columns(line, split)
        counts = next(iter(line.scores.values()))[0][split].counts
        found = resampled(
            line.lambdas,
            [values for column in columns for values in (column.losses, column.errors)],
            counts,
            seed=seed,
        )
        for number, column in enumerate(columns):
            loss, error = 2 * number, 2 * number + 1
            curves.append(
                CurveRecord(
                    numbering=column.numbering,
                    treatment=column.treatment,
                    split=split,
                    loss=found.means[loss].tolist(),
                    error=found.means[error].tolist(),
                    temperature=column.temperature,
                    entezari=_intervals(found.entezari(loss), found.entezari(error)),
                    frankle=_intervals(found.frankle(loss), found.frankle(error)),
                )
            )
        places = {(column.numbering, column.treatment): 2 * i for i, column in enumerate(columns)}
        removed += [
            Removed(
                split=split,
                treatment=treatment,
                share=_figure(found.removed(places["naive", treatment], place)),
            )
            for (numbering, treatment), place in places.items()
            if numbering == "aligned"
        ]
    return curves, removed


def _intervals(loss: Interval, error: Interval) -> Intervals:
    return Intervals(loss=_figure(loss), error=_figure(error))


def _figure(interval: Interval) -> Figure:
    return Figure(value=interval.value, low=interval.low, high=interval.high)


def _baselines(line: _Line) -> list[Baseline]:
    naive = line.scores["naive", "as is"]
    named: dict[Literal["A", "B", "ensemble"], Mapping[str, Measured]] = {
        "A": naive[0],
        "B": naive[-1],
        "ensemble": line.ensemble,
    }
    return [
        Baseline(name=name, split=split, loss=measured.loss, error=measured.error)
        for split in line.splits
        for name, by_split in named.items()
        for measured in (by_split[split],)
    ]
