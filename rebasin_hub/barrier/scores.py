"""How a model did on each sample of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["TEMPERATURES", "Scores", "joined"]

Floats = NDArray[np.float64]

TEMPERATURES: tuple[float, ...] = tuple(2.0 ** (step / 3) for step in range(-12, 13))
"""By which logits are divided in search of the best calibrated loss: 1/16 to 16, with 1 among."""


@dataclass(frozen=True, eq=False)
class Scores:
    """What one model scored, sample by sample, in the order of the split.

    A sample is what is drawn anew in a bootstrap: an image, a table's row, or a window of text.

    losses: (samples,) float64, the sum of the loss over the sample's predictions, nats.
    errors: (samples,) float64, the number of predictions that are wrong.
    counts: (samples,) float64, the number of predictions: 1 for an image, tokens for a text.
    tempered: (temperatures, samples) float64, `losses` with the logits divided by each of
        `TEMPERATURES`; None where the loss is not one of logits.
    """

    losses: Floats
    errors: Floats
    counts: Floats
    tempered: Floats | None = None

    @property
    def loss(self) -> float:
        """The mean loss of a prediction, nats."""
        return float(self.losses.sum() / self.counts.sum())

    @property
    def error(self) -> float:
        """The share of predictions that are wrong, 0 to 1."""
        return float(self.errors.sum() / self.counts.sum())


def joined(parts: Sequence[Scores]) -> Scores:
    """Return the scores of batches that follow one another."""
    tempered = [part.tempered for part in parts if part.tempered is not None]
    return Scores(
        losses=np.concatenate([part.losses for part in parts]),
        errors=np.concatenate([part.errors for part in parts]),
        counts=np.concatenate([part.counts for part in parts]),
        tempered=np.concatenate(tempered, axis=1) if tempered else None,
    )
