"""Loss barriers: how much the loss rises on the straight line between two models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["POINTS", "Curve", "entezari", "frankle", "grid"]

Floats = NDArray[np.float64]

POINTS = 25
"""Points of the grid on which a barrier is measured, both ends included (Ainsworth et al. 2022)."""


def grid(points: int = POINTS) -> tuple[float, ...]:
    """Return λ from 0 (model A) to 1 (model B)."""
    return tuple(float(x) for x in np.linspace(0.0, 1.0, points))


def entezari(lambdas: Sequence[float], losses: Floats) -> Floats:
    """Return the barrier over the straight line between the two ends' losses.

    max over λ of L(λ) − [(1−λ)·L(A) + λ·L(B)], Entezari et al. 2022, definition 1.

    Args:
        lambdas: from 0 to 1.
        losses: (…, points) float64.

    """
    a, b = losses[..., :1], losses[..., -1:]
    # As a sum over a difference: ends of equal loss have a base of just that.
    return np.asarray(np.max(losses - (a + np.asarray(lambdas) * (b - a)), axis=-1))


def frankle(losses: Floats) -> Floats:
    """Return the barrier over the mean of the two ends' losses.

    max over λ of L(λ) − ½·(L(A) + L(B)), Frankle et al. 2020, section 2.

    Args:
        losses: (…, points) float64.

    """
    return np.asarray(np.max(losses, axis=-1) - (losses[..., 0] + losses[..., -1]) / 2)


@dataclass(frozen=True)
class Curve:
    """A loss along the straight line from model A (λ = 0) to model B (λ = 1)."""

    lambdas: tuple[float, ...]
    losses: tuple[float, ...]

    @property
    def entezari(self) -> float:
        """The barrier over the straight line between the two ends' losses; see `entezari`."""
        return float(entezari(self.lambdas, np.asarray(self.losses)))

    @property
    def frankle(self) -> float:
        """The barrier over the mean of the two ends' losses; see `frankle`."""
        return float(frankle(np.asarray(self.losses)))

    @property
    def midpoint(self) -> float:
        """The loss of the mean of the two models."""
        return float(np.interp(0.5, self.lambdas, self.losses))
