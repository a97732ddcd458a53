"""Bootstrap intervals: how far a barrier would move with other samples of the same kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from rebasin_hub.barrier.curve import entezari, frankle
from rebasin_hub.barrier.scores import Floats

__all__ = ["DRAWS", "Interval", "Resampled", "resampled"]

DRAWS = 1000
CONFIDENCE = 0.95
CHUNK = 1 << 22
"""Bootstrap weights that are held at a time."""

_overflowing = np.errstate(invalid="ignore", divide="ignore", over="ignore")
"""Models that overflow have infinite losses; their figures are infinite or NaN, not failures."""


@dataclass(frozen=True)
class Interval:
    """A figure and the interval that holds it with 95 % confidence; NaN where it is undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Resampled:
    """Mean curves of one split, and of every bootstrap draw of it.

    means: (curves, points) float64, over all samples.
    draws: (draws, curves, points) float64, over the samples of each draw. All curves share each
        draw, so that differences between them are paired.
    """

    lambdas: tuple[float, ...]
    means: Floats
    draws: Floats

    @_overflowing
    def entezari(self, curve: int) -> Interval:
        """Return a curve's barrier over the straight line between its ends."""
        return self._interval(entezari(self.lambdas, self.means[curve]), self._entezari(curve))

    @_overflowing
    def frankle(self, curve: int) -> Interval:
        """Return a curve's barrier over the mean of its ends."""
        return self._interval(frankle(self.means[curve]), frankle(self.draws[:, curve]))

    @_overflowing
    def removed(self, naive: int, aligned: int) -> Interval:
        """Return the share of the naive barrier that is gone; undefined where there is none."""
        before, after = (entezari(self.lambdas, self.means[i]) for i in (naive, aligned))
        if not before > 0:
            return Interval(np.nan, np.nan, np.nan)
        return self._interval(
            1 - after / before, 1 - self._entezari(aligned) / self._entezari(naive)
        )

    def _entezari(self, curve: int) -> Floats:
        return np.asarray(entezari(self.lambdas, self.draws[:, curve]))

    @staticmethod
    def _interval(value: Floats, draws: Floats) -> Interval:
        if not np.isfinite(value) or not np.isfinite(draws).all():
            return Interval(float(value), np.nan, np.nan)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(draws, (tail, 1 - tail))
        return Interval(float(value), float(low), float(high))


@_overflowing
def resampled(
    lambdas: Sequence[float],
    curves: Sequence[Floats],
    counts: Floats,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Resampled:
    """Average curves over a split, and over bootstrap draws of its samples.

    Each sample is drawn a number of times that follows Poisson(1), independently: for many samples
    the same as drawing as many as there are with replacement, but without a sum to keep to
    (Chamandy et al. 2012, "Estimating uncertainty for massive data streams").

    Args:
        lambdas: the points of the curves.
        curves: each (points, samples) float64, sums over the predictions of a sample.
        counts: (samples,) float64, the number of predictions of each sample.
        draws: how many times samples are drawn anew.
        seed: of the draws.

    """
    rows = np.concatenate(curves, axis=0)
    shape = len(curves), len(lambdas)
    parts = [
        ((weights @ rows.T) / np.maximum(weights @ counts, 1)[:, None]).reshape(-1, *shape)
        for weights in _weights(draws, len(counts), seed)
    ]
    means = (rows.sum(1) / counts.sum()).reshape(shape)
    return Resampled(tuple(lambdas), means, np.concatenate([np.empty((0, *shape)), *parts]))


def _weights(draws: int, samples: int, seed: int) -> Iterator[Floats]:
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK // max(1, samples))
    for start in range(0, draws, step):
        yield rng.poisson(1.0, (min(step, draws - start), samples)).astype(np.float64)
