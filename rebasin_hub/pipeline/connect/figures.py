"""Figures of lines, with intervals over bootstrap draws that all lines share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.barrier import Resampled, entezari, resampled
from rebasin_hub.barrier.bootstrap import CONFIDENCE
from rebasin_hub.pipeline.barrier.columns import Column, columns_of, entezari_of, frankle_of
from rebasin_hub.pipeline.barrier.points import Measured
from rebasin_hub.record.model import Figure, Intervals, Number, Treatment

__all__ = ["FLOOR", "Line", "drawn", "lines_of", "negligible"]

Floats = NDArray[np.float64]
FLOOR = 1e-3
"""Nats: a barrier this small is none, however small the loss of the ends is."""


@dataclass(frozen=True, eq=False)
class Line:
    """One line with one treatment on one split.

    draws: (draws,) float64, its loss barrier (Entezari) on each bootstrap draw. Lines on one split
        share their draws, so that means and differences over lines have paired intervals.
    """

    treatment: Treatment
    loss: list[Number]
    error: list[Number]
    entezari: Intervals
    frankle: Intervals
    draws: Floats

    @property
    def ends(self) -> float:
        """The mean loss of both ends."""
        first, last = (np.nan if end is None else end for end in (self.loss[0], self.loss[-1]))
        return (first + last) / 2


def lines_of(
    scores: Sequence[Mapping[Treatment, Sequence[Mapping[str, Measured]]]],
    split: str,
    lambdas: Sequence[float],
    *,
    calibrated: bool,
    seed: int,
) -> list[list[Line]]:
    """Return the columns of several lines between the same two models.

    Args:
        scores: of each line, for each treatment what every point scored, by split.
        split: which one.
        lambdas: the points.
        calibrated: whether to make the column `calibrated`.
        seed: of the bootstrap.

    """
    columns = [columns_of(each, split, calibrated=calibrated) for each in scores]
    flat = [column for each in columns for column in each]
    counts = next(iter(scores[0].values()))[0][split].counts
    rows = [values for column in flat for values in (column.losses, column.errors)]
    found = resampled(lambdas, rows, counts, seed=seed)
    lines = iter([_line(found, number, column) for number, column in enumerate(flat)])
    return [[next(lines) for _ in each] for each in columns]


def _line(found: Resampled, number: int, column: Column) -> Line:
    with np.errstate(all="ignore"):  # models that overflow have infinite losses
        draws = entezari(found.lambdas, found.draws[:, 2 * number])
    return Line(
        treatment=column.treatment,
        loss=found.means[2 * number].tolist(),
        error=found.means[2 * number + 1].tolist(),
        entezari=entezari_of(found, number),
        frankle=frankle_of(found, number),
        draws=draws,
    )


def drawn(value: float, draws: Floats) -> Figure:
    """Return a figure with the interval that its bootstrap draws span; none if one is infinite."""
    if not np.isfinite(value) or not np.isfinite(draws).all():
        return Figure(value=float(value), low=None, high=None)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, (tail, 1 - tail))
    return Figure(value=float(value), low=float(low), high=float(high))


def negligible(barrier: float | None, ends: float, tolerance: float) -> bool:
    """Tell whether a barrier is none to speak of; one that is not finite always is one."""
    return barrier is not None and bool(barrier <= max(tolerance * ends, FLOOR))
