"""Parts of a record in the order in which every report shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np

from rebasin_hub.record.model import Baseline, CurveRecord, Number, Numbering, Record, Treatment

__all__ = [
    "BASELINES",
    "NUMBERINGS",
    "TREATMENTS",
    "Measure",
    "at_midpoint",
    "baselines",
    "columns",
]

Measure = Literal["loss", "error"]
NUMBERINGS: tuple[Numbering, ...] = get_args(Numbering)
TREATMENTS: tuple[Treatment, ...] = get_args(Treatment)
BASELINES: tuple[str, ...] = get_args(Baseline.model_fields["name"].annotation)


def columns(record: Record, split: str) -> list[CurveRecord]:
    """Return the curves of a split: naive before aligned, each by treatment."""
    found = [curve for curve in record.curves if curve.split == split]
    return sorted(
        found,
        key=lambda c: (NUMBERINGS.index(c.numbering), TREATMENTS.index(c.treatment)),
    )


def baselines(record: Record, split: str) -> list[Baseline]:
    """Return A, B and the ensemble on a split, as far as they were measured."""
    found = [baseline for baseline in record.baselines if baseline.split == split]
    return sorted(found, key=lambda baseline: BASELINES.index(baseline.name))


def at_midpoint(lambdas: Sequence[float], values: Sequence[Number]) -> Number:
    """Return the value at λ = ½, between two points of the grid their mean; None if unknown."""
    if not lambdas:
        return None
    holes = [np.nan if value is None else value for value in values]
    middle = float(np.interp(0.5, lambdas, holes))
    return None if np.isnan(middle) else middle
