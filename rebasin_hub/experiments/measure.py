"""Figures of the line between two checkpoints, through the product's own pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.barrier import POINTS
from rebasin_hub.experiments.experiment import Facts
from rebasin_hub.pipeline.barrier import Request, measure_barrier
from rebasin_hub.pipeline.matching import WEIGHT_MATCHING, Matching
from rebasin_hub.record import Record
from rebasin_hub.record.model import CurveRecord
from rebasin_hub.record.select import at_midpoint
from rebasin_hub.tasks import Options

__all__ = ["TEST", "Measurement", "figures", "line", "logits_of"]

TEST = "test"


@dataclass(frozen=True)
class Measurement:
    """How lines are measured.

    task, data: as `--task` and `--data` take them.
    treatments: of the barrier's columns; as is and calibrated by default, all with None.
    both_splits: whether the train split is read too: `recomputed` and `repair` then take their
        statistics from it, not from test images.
    limit: images of each split that are measured.
    settings: more settings of the task, such as `activation`.
    """

    task: str
    data: Path | None = None
    matching: Matching = WEIGHT_MATCHING
    treatments: tuple[str, ...] | None = ("as is", "calibrated")
    both_splits: bool = False
    points: int = POINTS
    limit: int | None = None
    settings: Mapping[str, Any] | None = None

    def options(self) -> Options:
        """Return what the task is told."""
        settings = {**(self.settings or {}), **({} if self.both_splits else {"split": TEST})}
        return Options(data=self.data, limit=self.limit, settings=settings)


def line(
    a: Path,
    b: Path,
    measurement: Measurement,
    *,
    permutations: Path | None = None,
    align: bool = True,
) -> Facts:
    """Measure the line from A to B on test images, as `rebasin-hub barrier A B` does.

    Args:
        a: the reference.
        b: the other end, which is aligned.
        measurement: how.
        permutations: a permutation file to use instead of aligning.
        align: whether B is aligned at all.

    Returns the figures of `figures`.

    """
    request = Request(
        models=(a, b),
        task=measurement.task,
        options=measurement.options(),
        matching=measurement.matching,
        permutations=permutations,
        align=align,
        points=measurement.points,
        treatments=measurement.treatments,
    )
    record = measure_barrier(request, command=f"rebasin-hub barrier {a.name} {b.name}")
    assert isinstance(record, Record)
    return figures(record)


def figures(record: Record, split: str = TEST) -> Facts:
    """Return the figures of a record on one split, flat; None for what is not finite.

    `loss_a`, `error_a`, `loss_b`, `error_b`, `ensemble`, `ensemble_error`: of the ends and the
    mean of their logits. For each column, named `naive`, `aligned`, `naive_calibrated`,
    `aligned_repair` and so on: under this name its barrier in the loss (Entezari), with `_error`
    its barrier in the error rate, with `_midpoint` and `_midpoint_error` loss and error rate of
    the mean of both models, with `_temperature` (calibrated only) the temperature there. `cosine`
    is that of all weights after aligning.
    """
    found: dict[str, float | None] = {}
    for baseline in record.baselines:
        if baseline.split == split:
            end = baseline.name.lower()
            loss = end if end == "ensemble" else f"loss_{end}"
            error = "ensemble_error" if end == "ensemble" else f"error_{end}"
            found |= {loss: baseline.loss, error: baseline.error}
    for curve in record.curves:
        if curve.split == split:
            found |= _of_curve(record.lambdas, curve)
    if "B" in record.alignments:
        found["cosine"] = record.alignments["B"].cosine
    return found


def _of_curve(lambdas: Sequence[float], curve: CurveRecord) -> dict[str, float | None]:
    treated = "" if curve.treatment == "as is" else f"_{curve.treatment}"
    name = f"{curve.numbering}{treated}"
    found = {
        name: curve.entezari.loss.value,
        f"{name}_error": curve.entezari.error.value,
        f"{name}_midpoint": at_midpoint(lambdas, curve.loss),
        f"{name}_midpoint_error": at_midpoint(lambdas, curve.error),
    }
    if curve.temperature is not None:
        found[f"{name}_temperature"] = at_midpoint(lambdas, curve.temperature)
    return found


def logits_of(
    models: Sequence[Path], measurement: Measurement, split: str = TEST
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the mean of the logits of some models, and the labels of the samples.

    Args:
        models: checkpoints of one architecture.
        measurement: whose task they are run on, device and all.
        split: of the task.

    Returns (samples, classes) float32 and (samples,) int64, in the order of the split.

    """
    from rebasin_hub.pipeline.models import AUTOMATIC, open_model
    from rebasin_hub.tasks import Subject, find_task
    from rebasin_hub.tasks.network import TorchNetwork

    task = find_task(measurement.task, measurement.options())
    total: list[NDArray[np.float32]] = []
    for path in models:
        with open_model(path, AUTOMATIC) as model:
            opened = model.checkpoint
            subject = Subject(opened.path, model.binding, opened.config, opened.tied)
            network = task.network(subject, measurement.matching.device)
            assert isinstance(network, TorchNetwork)
            inner = network.inner(network.state(model.read))
            batches = [batch.to(network.device) for batch in network.data[split].batches(256)]
        outputs = [network.logits(network.forward(inner, batch)) for batch in batches]
        total.append(np.concatenate([x.float().cpu().numpy() for x in outputs]))
        labels = np.concatenate([batch.targets.cpu().numpy() for batch in batches])
    return np.mean(total, axis=0, dtype=np.float32), labels
