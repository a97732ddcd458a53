"""Columns of a line: one treatment of its points, sample by sample, and the figures of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.barrier import Interval, Resampled
from rebasin_hub.pipeline.barrier.points import Measured
from rebasin_hub.record.model import Figure, Intervals, Treatment

__all__ = ["Column", "columns_of", "entezari_of", "figure_of", "frankle_of"]


@dataclass(frozen=True, eq=False)
class Column:
    """One treatment on one split: (points, samples) sums of losses and errors, and temperatures."""

    treatment: Treatment
    losses: NDArray[np.float64]
    errors: NDArray[np.float64]
    temperature: list[float | None] | None = None


def columns_of(
    scores: Mapping[Treatment, Sequence[Mapping[str, Measured]]], split: str, *, calibrated: bool
) -> list[Column]:
    """Return the columns of one line on one split.

    Args:
        scores: for each treatment what every point scored, by split.
        split: which one.
        calibrated: whether to make the column `calibrated` of `as is`.

    """
    columns = []
    for treatment, places in scores.items():
        here = [place[split] for place in places]
        losses, errors = (np.stack([getattr(m, key) for m in here]) for key in ("losses", "errors"))
        columns.append(Column(treatment, losses, errors))
        softened = [m.calibrated for m in here if m.calibrated is not None]
        if treatment == "as is" and calibrated and softened:
            temperature: list[float | None] = [m.temperature for m in here]
            columns.append(Column("calibrated", np.stack(softened), errors, temperature))
    return columns


def entezari_of(found: Resampled, number: int) -> Intervals:
    """Return the barriers of a column whose losses are curve 2·number, and errors the next one."""
    loss, error = 2 * number, 2 * number + 1
    return _intervals(found.entezari(loss), found.entezari(error))


def frankle_of(found: Resampled, number: int) -> Intervals:
    """Return the barriers over the ends' mean; see `entezari_of`."""
    loss, error = 2 * number, 2 * number + 1
    return _intervals(found.frankle(loss), found.frankle(error))


def _intervals(loss: Interval, error: Interval) -> Intervals:
    return Intervals(loss=figure_of(loss), error=figure_of(error))


def figure_of(interval: Interval) -> Figure:
    """Return an interval as a record holds it."""
    return Figure(value=interval.value, low=interval.low, high=interval.high)
