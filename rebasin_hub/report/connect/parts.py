"""Parts of a record of connectivity in the order in which every report shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rebasin_hub.record.connect import (
    ConnectRecord,
    PairRecord,
    StepCurve,
    StepNumbering,
    Strategy,
    TrajectoryRecord,
)
from rebasin_hub.record.model import Number, Treatment

__all__ = ["NUMBERINGS", "cells", "curves", "drawn_treatment", "extent", "pairs"]

NUMBERINGS: dict[StepNumbering, str] = {
    "naive": "naive",
    "last": "by the last step's",
    "own": "by each step's own",
}
"""Of B in a trajectory, in words."""


def pairs(record: ConnectRecord) -> list[tuple[str, str]]:
    """Return all pairs of models, in order."""
    return list(dict.fromkeys((pair.first, pair.second) for pair in record.pairs))


def cells(
    record: ConnectRecord, split: str, treatment: Treatment
) -> dict[tuple[tuple[str, str], Strategy], PairRecord]:
    """Return one matrix for each strategy, by pair and strategy."""
    return {
        ((p.first, p.second), p.strategy): p
        for p in record.pairs
        if (p.split, p.treatment) == (split, treatment)
    }


def curves(
    record: TrajectoryRecord, split: str, treatment: Treatment
) -> dict[StepNumbering, list[StepCurve]]:
    """Return the lines of every step by numbering."""
    found: dict[StepNumbering, list[StepCurve]] = {}
    for curve in record.curves:
        if (curve.split, curve.treatment) == (split, treatment):
            found.setdefault(curve.numbering, []).append(curve)
    return found


def drawn_treatment(record: ConnectRecord | TrajectoryRecord) -> Treatment:
    """Return the treatment that pictures show: repaired networks where there are statistics."""
    return "repair" if {"repair", "recomputed"} <= set(record.treatments) else "as is"


def extent(values: Sequence[Number] | Iterator[Number]) -> float:
    """Return the end of a scale from 0 that holds all finite values."""
    return max((value for value in values if value is not None), default=0.0) or 1.0
