"""Score logits that are NumPy arrays, as `network.score_logits` scores torch tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.barrier import TEMPERATURES, Scores

__all__ = ["IGNORED", "score_arrays"]

IGNORED = -100
"""The target of a position that is not predicted (padding), as torch's losses have it."""


def score_arrays(
    logits: NDArray[Any], targets: NDArray[np.int64], *, calibrate: bool = True
) -> Scores:
    """Score logits against classes.

    Args:
        logits: (samples, classes) or (samples, positions, classes), any float type; those below
            float32 are widened to it.
        targets: (samples,) or (samples, positions) int64; those that are `IGNORED` do not count.
        calibrate: whether to score at every temperature too.

    The loss is the cross-entropy, in nats; sums are made in float64. Nothing is raised for logits
    that are infinite or NaN: their losses are so, too.

    """
    logits = logits.astype(np.result_type(logits, np.float32), copy=False)
    if targets.ndim == 1:
        logits, targets = logits[:, None], targets[:, None]
    counted = targets != IGNORED
    chosen = np.where(counted, targets, 0)[..., None]

    def losses(temperature: float) -> NDArray[np.float64]:
        scaled = logits / logits.dtype.type(temperature)
        each = _logsumexp(scaled) - np.take_along_axis(scaled, chosen, -1)[..., 0]
        return np.asarray(np.where(counted, each, 0).sum(1, dtype=np.float64))

    temperatures = TEMPERATURES if calibrate else (1.0,)
    with np.errstate(all="ignore"):
        tempered = np.stack([losses(temperature) for temperature in temperatures])
    wrong = (logits.argmax(-1) != targets) & counted
    return Scores(
        losses=tempered[temperatures.index(1.0)],
        errors=wrong.sum(1, dtype=np.float64),
        counts=counted.sum(1, dtype=np.float64),
        tempered=tempered if calibrate else None,
    )


def _logsumexp(x: NDArray[Any]) -> NDArray[Any]:
    highest = x.max(-1, keepdims=True)
    # Of an infinite maximum the differences would be NaN, and the sum is infinite all the same.
    highest = np.where(np.isfinite(highest), highest, 0)
    return np.asarray(np.log(np.exp(x - highest).sum(-1)) + highest[..., 0])
