"""Measure the loss on the straight line between two models, naive and aligned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rebasin_hub.barrier import grid, resampled
from rebasin_hub.pipeline.barrier.columns import columns_of, entezari_of, figure_of, frankle_of
from rebasin_hub.pipeline.barrier.ends import Aligned, Ends
from rebasin_hub.pipeline.barrier.measure import Job, Measurer
from rebasin_hub.pipeline.barrier.points import Measured
from rebasin_hub.record.model import (
    Baseline,
    CurveRecord,
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


def _curves(line: _Line, seed: int) -> tuple[list[CurveRecord], list[Removed]]:
    curves, removed = [], []
    for split in line.splits:
        columns = [
            (numbering, column)
            for (numbering, treatment), places in line.scores.items()
            for column in columns_of({treatment: places}, split, calibrated=line.calibrated)
        ]
        counts = next(iter(line.scores.values()))[0][split].counts
        found = resampled(
            line.lambdas,
            [values for _, column in columns for values in (column.losses, column.errors)],
            counts,
            seed=seed,
        )
        curves += [
            CurveRecord(
                numbering=numbering,
                treatment=column.treatment,
                split=split,
                loss=found.means[2 * number].tolist(),
                error=found.means[2 * number + 1].tolist(),
                temperature=column.temperature,
                entezari=entezari_of(found, number),
                frankle=frankle_of(found, number),
            )
            for number, (numbering, column) in enumerate(columns)
        ]
        number_of = {(numbering, c.treatment): 2 * i for i, (numbering, c) in enumerate(columns)}
        removed += [
            Removed(
                split=split,
                treatment=treatment,
                share=figure_of(found.removed(number_of["naive", treatment], number)),
            )
            for (numbering, treatment), number in number_of.items()
            if numbering == "aligned"
        ]
    return curves, removed


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
