"""The calibration of merged models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.experiments.experiment import (
    Cell,
    Column,
    Experiment,
    Facts,
    Picture,
    Row,
    Series,
    Settings,
    pairs,
)
from rebasin_hub.experiments.lines import IMAGES, PAPER_RECIPE, QUICK_RECIPE
from rebasin_hub.experiments.words import nats

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab

__all__ = ["BINS", "CALIBRATION", "calibration_error"]

BINS = 15
END, ENSEMBLE, NAIVE, ALIGNED = "an end", "ensemble", "midpoint, naive", "midpoint, matched"
MODELS = (END, ENSEMBLE, NAIVE, ALIGNED)


def calibration_error(logits: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """Return the expected calibration error of the most likely class, 0 to 1.

    Predictions are sorted by the softmax probability p of the most likely class into 15 bins of
    equal width, of which bin k takes k/15 < p ≤ (k+1)/15. The error is Σ over bins of (n_bin / n) ·
    |accuracy − mean p|, empty bins left out.

    Args:
        logits: (samples, classes); computed in float64.
        labels: (samples,) int64.

    Source: Naeini et al. 2015; Guo et al., arXiv:1706.04599, eq. 3 and section 4 (15 bins).

    """
    wide = np.asarray(logits, np.float64)
    odds = np.exp(wide - wide.max(1, keepdims=True))
    confidence = odds.max(1) / odds.sum(1)
    right = wide.argmax(1) == labels
    bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
    # n_bin · |accuracy − mean p| is the difference of two sums over the bin.
    gap = np.bincount(bins, weights=right - confidence, minlength=BINS)
    return float(np.abs(gap).sum() / len(labels))


def _cells(settings: Settings) -> list[Cell]:
    return [
        {
            "network": settings["network"],
            "depth": settings["depth"],
            "width": width,
            "images": settings["images"],
            "model": model,
            "seeds": pair,
            "recipe": settings["recipe"],
        }
        for width in settings["widths"]
        for model in MODELS
        for pair in pairs(settings["seeds"])
    ]


def _measure(lab: Lab, cell: Cell) -> Facts:
    a, b = (lab.network(cell, seed=seed).path for seed in cell["seeds"])
    lab.tell(f"measuring {cell['model']}")
    with TemporaryDirectory() as folder:
        match cell["model"]:
            case "an end":
                models = [a]
            case "ensemble":
                models = [a, b]
            case model:
                models = [_merged(lab, a, b, Path(folder), align=model == ALIGNED)]
        return _figures(lab, models)


def _merged(lab: Lab, a: Path, b: Path, folder: Path, *, align: bool) -> Path:
    from rebasin_hub.pipeline.matching import Matching
    from rebasin_hub.pipeline.merging import Recipe, merge

    output = folder / "merged.safetensors"
    merge([a, b], output, Recipe(align=align), matching=Matching(device=lab.device))
    return output


def _figures(lab: Lab, models: Sequence[Path]) -> Facts:
    """Return the figures of the mean of the logits of some models, as they are and tempered."""
    from rebasin_hub.barrier import calibrated
    from rebasin_hub.experiments.measure import logits_of
    from rebasin_hub.tasks.scoring import score_arrays

    logits, labels = logits_of(models, lab.measurement())
    scores = score_arrays(logits, labels)
    tempered, temperature = calibrated(scores)
    return {
        "loss": scores.loss,
        "error": scores.error,
        "ece": calibration_error(logits, labels),
        "temperature": temperature,
        "loss_tempered": tempered.loss,
        "ece_tempered": calibration_error(logits / temperature, labels),
    }


def _findings(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:  # noqa: ARG001
    said = []
    for width in dict.fromkeys(row["width"] for row in table):
        end, ensemble, naive, aligned = (
            next(row for row in table if (row["width"], row["model"]) == (width, model))
            for model in MODELS
        )
        said.append(
            f"At width {width} the calibration error is {nats(end['ece'])} for an end, "
            f"{nats(ensemble['ece'])} for the ensemble, {nats(naive['ece'])} for the naive "
            f"midpoint and {nats(aligned['ece'])} for the matched one, whose best temperature is "
            f"{nats(aligned['temperature'])} (an end's: {nats(end['temperature'])}); with the best "
            f"temperature the matched midpoint's loss is {nats(aligned['loss_tempered'])}, an "
            f"end's {nats(end['loss_tempered'])}."
        )
    return said


CALIBRATION = Experiment(
    name="calibration",
    title="Calibration of merged models",
    question="Are averaged networks as sure as they are right, and how much of their loss is mere "
    "lack of confidence?",
    protocol="Of every pair of networks, the first one, the ensemble (mean of the logits), and the "
    "merges with equal weights before and after weight matching are measured on test images. The "
    f"expected calibration error has {BINS} bins of equal width over the probability of the most "
    "likely class: the mean over samples of |accuracy − mean probability| of their bin. The "
    "temperature is the best of 25 for the loss, chosen on nine tenths of the samples and used on "
    "the others; below 1 it makes a network surer.",
    source="Guo et al., arXiv:1706.04599; arXiv:2510.08023",
    scales={
        "quick": {
            "task": "digits",
            "seeds": 3,
            "images": IMAGES,
            "network": "mlp",
            "depth": 3,
            "widths": [32, 128, 512],
            "recipe": QUICK_RECIPE,
        },
        "paper": {
            "task": "cifar10",
            "seeds": 2,
            "images": None,
            "network": "resnet-layernorm",
            "depth": 3,
            "widths": [1, 4, 16],
            "recipe": PAPER_RECIPE,
        },
    },
    cells=_cells,
    measure=_measure,
    columns=(
        Column("width", "width", key=True),
        Column("model", "model", key=True),
        Column("error", "error", percent=True),
        Column("loss", "loss"),
        Column("ece", "calibration error"),
        Column("temperature", "best temperature"),
        Column("loss_tempered", "loss there"),
        Column("ece_tempered", "calibration error there"),
    ),
    findings=_findings,
    picture=Picture(
        x="width",
        x_label="width",
        y_label="expected calibration error",
        series=tuple(Series("ece", model, {"model": model}) for model in MODELS),
        log_x=True,
    ),
)
