"""Calibrate by temperature: divide logits by the number that makes the loss smallest.

Averaged networks have small logits, and a part of their loss is mere lack of confidence, which one
number repairs (Guo et al. 2017, arXiv:1706.04599). What remains is the part that matters.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rebasin_hub.barrier.scores import TEMPERATURES, Scores

__all__ = ["calibrated"]

FOLDS = 10


def calibrated(scores: Scores) -> tuple[Scores, float]:
    """Return the scores at the best temperature, and that temperature (of `TEMPERATURES`).

    Samples are dealt into ten parts in turn; for each part the temperature is used that is best
    for all the others, so that no sample has a say in its own. The temperature that is returned
    is the geometric mean of all ten. Errors do not depend on it.

    Raises:
        ValueError: the scores have no losses at other temperatures.

    """
    if scores.tempered is None:
        raise ValueError("scores of a loss without logits cannot be calibrated")
    if len(scores.counts) < FOLDS:
        return scores, 1.0
    losses = np.empty_like(scores.losses)
    chosen = []
    for fold in range(FOLDS):
        other = np.delete(scores.tempered, np.s_[fold::FOLDS], axis=1).sum(axis=1)
        finite = np.where(np.isfinite(other), other, np.inf)
        best = int(np.argmin(finite)) if np.isfinite(finite).any() else TEMPERATURES.index(1.0)
        losses[fold::FOLDS] = scores.tempered[best, fold::FOLDS]
        chosen.append(TEMPERATURES[best])
    return replace(scores, losses=losses), float(np.exp(np.mean(np.log(chosen))))
