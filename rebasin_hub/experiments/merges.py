"""Merge several networks, and score models and ensembles on test images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.experiments.experiment import Facts

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab

__all__ = ["merged", "renumbered", "score", "score_of"]


def score(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> Facts:
    """Return `loss` (nats) and `error` (0 to 1) of logits, and both of the best temperature.

    `temperature` is the one chosen on all samples; `loss_tempered` has each tenth of the samples
    scored at the one that the other nine chose.

    Args:
        logits: (samples, classes).
        labels: (samples,) int64.

    """
    from rebasin_hub.barrier import calibrated
    from rebasin_hub.tasks.scoring import score_arrays

    scores = score_arrays(logits, labels)
    tempered, temperature = calibrated(scores)
    return {
        "loss": scores.loss,
        "error": scores.error,
        "temperature": temperature,
        "loss_tempered": tempered.loss,
    }


def score_of(lab: Lab, models: Sequence[Path]) -> Facts:
    """Return the score of one model, or of the mean of the logits of several."""
    from rebasin_hub.experiments.measure import logits_of

    return score(*logits_of(models, lab.measurement()))


def renumbered(lab: Lab, models: Sequence[Path], folder: Path, strategy: str) -> list[Path]:
    """Write copies of the models in one numbering, that of the first one.

    Args:
        lab: whose device is used.
        models: two or more.
        folder: an existing one that the copies are written to.
        strategy: a key of `align.many.STRATEGIES`.

    """
    from rebasin_hub.pipeline.aligning_many import align_together
    from rebasin_hub.pipeline.apply import apply_file
    from rebasin_hub.pipeline.matching import Matching

    found = align_together(
        models, folder / "permutations", strategy=strategy, matching=Matching(device=lab.device)
    )
    written = []
    for number, member in enumerate(found.members):
        assert member.output is not None
        written.append(folder / f"{number}.safetensors")
        apply_file(member.output, member.model, written[-1])
    return written


def merged(
    lab: Lab, models: Sequence[Path], output: Path, *, align: bool, repair: str | None = None
) -> Path:
    """Write the mean of models.

    Args:
        lab: whose device is used, and whose training images a repair is measured on.
        models: two or more.
        output: where to write.
        align: whether each is aligned to the first one by weight matching before.
        repair: `recompute` or `repair`, as `merge` takes it.

    """
    from rebasin_hub.pipeline.matching import Matching
    from rebasin_hub.pipeline.merging import Measured, Recipe, merge
    from rebasin_hub.tasks import Options

    measured = None if repair is None else Measured(lab.task, Options(data=lab.data))
    recipe = Recipe(align=align, measured=measured, repair=repair)
    merge(models, output, recipe, matching=Matching(device=lab.device))
    return output
