"""Figures of one step of two sequences of checkpoints, through the product's own pipeline."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rebasin_hub.experiments.experiment import Facts

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab
    from rebasin_hub.record.connect import StepRecord, TrajectoryRecord

__all__ = ["Step", "figures", "measure_step"]


@dataclass(frozen=True)
class Step:
    """A checkpoint of a sequence, with its mask file where it was pruned."""

    path: Path
    mask: Path | None = None


def measure_step(lab: Lab, step: tuple[Step, Step], last: tuple[Step, Step]) -> Facts:
    """Measure the line from A to B at one step, as `rebasin-hub connect --trajectory A B` does.

    Args:
        lab: where.
        step: of A, the reference, and of B.
        last: the steps from which the permutation is taken; with masks, if `step` has some.

    Returns the figures of `figures`.

    """
    from rebasin_hub.pipeline.connect import TrajectoryRequest, connect_trajectories
    from rebasin_hub.record.connect import TrajectoryRecord

    a, b = ([step[k], *([] if step == last else [last[k]])] for k in (0, 1))
    lab.tell(f"measuring {a[0].path.stem} against {b[0].path.stem}")
    how = lab.measurement()
    request = TrajectoryRequest(
        a=tuple(one.path for one in a),
        b=tuple(one.path for one in b),
        masks_a=tuple(one.mask for one in a if one.mask is not None),
        masks_b=tuple(one.mask for one in b if one.mask is not None),
        task=lab.task,
        options=how.options(),
        matching=how.matching,
        treatments=("as is",),
    )
    record = connect_trajectories(request, command="rebasin-hub connect --trajectory A B")
    assert isinstance(record, TrajectoryRecord)
    return figures(record)


def figures(record: TrajectoryRecord) -> Facts:
    """Return the figures of the first step of a record, flat; None for what is not finite.

    `loss_a`, `error_a`, `loss_b`, `error_b`: of the ends. By the name of each numbering, `naive`,
    `last` and `own`, its barrier in the loss (Entezari), and with `_midpoint_error` behind it the
    error of the mean of both. `agreement`: the share of units that have the same partner by `own`
    as by `last`. Then `sparsity`, the mean share of the weights that an end prunes; and, with the
    name of each numbering behind it, `cosine` of all weights, `overlap`, the weights that both keep
    as a share of those that either keeps, and `merged`, the share that is pruned in the mean of
    both. Where nothing is pruned the overlap is 1.
    """
    from rebasin_hub.experiments.measure import TEST
    from rebasin_hub.record.select import at_midpoint

    found = _of_step(record.steps[0])
    for curve in record.curves:
        if (curve.step, curve.split, curve.treatment) != (0, TEST, "as is"):
            continue
        name = curve.numbering
        found[name] = curve.entezari.loss.value
        found[f"{name}_midpoint_error"] = at_midpoint(record.lambdas, curve.error)
        if name == "naive":
            found |= {"loss_a": curve.loss[0], "loss_b": curve.loss[-1]}
            found |= {"error_a": curve.error[0], "error_b": curve.error[-1]}
    return found


def _of_step(step: StepRecord) -> dict[str, float | None]:
    masks = step.masks
    found: dict[str, float | None] = {"agreement": step.agreement}
    found["sparsity"] = (masks.sparsity_a + masks.sparsity_b) / 2 if masks else 0.0
    for name in step.cosine:
        found[f"cosine_{name}"] = step.cosine[name]
        found[f"overlap_{name}"] = masks.overlap[name] if masks else 1.0
        found[f"merged_{name}"] = masks.merged[name] if masks else 0.0
    return found
