"""Measure the line between two checkpoints through the product's API, and take figures out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rebasin_hub.pipeline.barrier import Request, measure_barrier
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.record import Record
from rebasin_hub.record.model import CurveRecord, Treatment
from rebasin_hub.record.select import at_midpoint
from rebasin_hub.tasks import Options

__all__ = ["column", "figures", "measured"]


def measured(
    a: Path,
    b: Path,
    task: str,
    data: Path,
    *,
    method: str = "weight",
    device: str = "cpu",
    treatments: Sequence[Treatment] | None = None,
    limit: int | None = None,
    samples: int = 5000,
    settings: Mapping[str, object] | None = None,
) -> Record:
    """Measure the line from A to B on the test split, as `rebasin-hub barrier A B` does."""
    request = Request(
        models=(a, b),
        task=task,
        options=Options(data=data, limit=limit, settings=settings),
        matching=Matching(method, device),
        samples=samples,
        treatments=None if treatments is None else tuple(treatments),
    )
    record = measure_barrier(request, command=f"rebasin-hub barrier {a.name} {b.name}")
    assert isinstance(record, Record)
    return record


def column(record: Record, numbering: str, treatment: str, split: str = "test") -> CurveRecord:
    """Return one curve of a record."""
    return next(
        curve
        for curve in record.curves
        if (curve.numbering, curve.treatment, curve.split) == (numbering, treatment, split)
    )


def figures(record: Record, split: str = "test") -> dict[str, dict[str, object]]:
    """Return barriers and what is at the midpoint, for each column of a split and each baseline."""
    found: dict[str, dict[str, object]] = {}
    for curve in record.curves:
        if curve.split == split:
            error = at_midpoint(record.lambdas, curve.error)
            found[f"{curve.numbering}, {curve.treatment}"] = {
                "entezari": curve.entezari.loss.value,
                "frankle": curve.frankle.loss.value,
                "interval": [curve.entezari.loss.low, curve.entezari.loss.high],
                "midpoint_loss": at_midpoint(record.lambdas, curve.loss),
                "midpoint_accuracy": None if error is None else 1 - error,
            }
    for baseline in record.baselines:
        if baseline.split == split and baseline.error is not None:
            found[baseline.name] = {"loss": baseline.loss, "accuracy": 1 - baseline.error}
    return found
