"""One permutation for a whole training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rebasin_hub.experiments.experiment import (
    Cell,
    Column,
    Experiment,
    Facts,
    Picture,
    Row,
    Series,
)
from rebasin_hub.experiments.lines import BARRIER, CLOSED, IMAGES, snapshot_cells
from rebasin_hub.experiments.words import first_below, nats, percent

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab

__all__ = ["TRAJECTORY"]


def _measure(lab: Lab, cell: Cell) -> Facts:
    from rebasin_hub.experiments.steps import Step, measure_step

    kept = tuple(cell["snapshots"])
    a, b = (lab.network(cell, seed=seed, snapshots=kept).snapshots for seed in cell["seeds"])
    epoch, last = cell["epoch"], kept[-1]
    return measure_step(lab, (Step(a[epoch]), Step(b[epoch])), (Step(a[last]), Step(b[last])))


def _findings(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:  # noqa: ARG001
    final = table[-1]
    said = [
        f"The permutation of epoch {final['epoch']:g} takes the mean barrier there from "
        f"{nats(final['naive'])} to {nats(final['last'])}."
    ]
    known = [row for row in table if None not in (row["last"], row["own"], row["naive"])]
    if not known:
        return said
    worst = max(known, key=lambda row: row["last"])
    said.append(
        f"Of all steps it leaves the most at epoch {worst['epoch']:g}: {nats(worst['last'])}, "
        f"where the networks have {nats(worst['naive'])} as numbered, and {nats(worst['own'])} "
        "with that step's own permutation."
    )
    said.append(_connected(table))
    gaps = [row["own"] - row["last"] for row in known[:-1]]
    said.append(
        f"Of {len(gaps)} earlier steps the last permutation leaves less than the step's own at "
        f"{_counted(gaps)}, and more at {_counted([-gap for gap in gaps])}."
    )
    first = known[0]
    said.append(
        f"{percent(first['agreement'])} of the units have the same partner by the permutation of "
        f"epoch {first['epoch']:g} as by the last one, and "
        f"{percent(known[-2]['agreement'] if len(known) > 1 else first['agreement'])} by that of "
        f"epoch {known[-2 if len(known) > 1 else 0]['epoch']:g}."
    )
    return said


def _counted(gaps: Sequence[float]) -> str:
    above = [gap for gap in gaps if gap > 0]
    return f"{len(above)} (by {nats(max(above))} at most)" if above else "none"


def _connected(table: Sequence[Row]) -> str:
    since = first_below(table, "epoch", "last", CLOSED)
    if since is None:
        return f"Even at the last step it leaves a mean barrier above {CLOSED}."
    if since == table[0]["epoch"]:
        return f"At no step does it leave a mean barrier above {CLOSED}."
    return f"From epoch {since:g} on it leaves no mean barrier above {CLOSED}."


TRAJECTORY = Experiment(
    name="trajectory",
    title="One permutation for a whole training",
    question="Does the permutation that connects two trained networks connect them at every moment "
    "of their training?",
    protocol="Networks are trained from several seeds with a constant learning rate, and kept on "
    "the way; each is paired with that of the next seed. The permutation that brings the last "
    "weights of the second to those of the first (weight matching) is applied to every earlier "
    "step of it. The barrier (Entezari) of the loss on test images is measured at 25 points of the "
    "line between both at the same step: as numbered, with the last permutation, and with one of "
    "that step's own weights. Epoch 0 is the initialization.",
    source="Sharma et al., arXiv:2404.06498",
    scales={
        "quick": {
            "task": "digits",
            "seeds": 3,
            "images": IMAGES,
            "network": "mlp",
            "depth": 3,
            "width": 128,
            "snapshots": [0, 0.25, 0.5, 1, 2, 4, 8, 16, 32],
            "recipe": {"epochs": 32, "batch": 32},
        },
        "paper": {
            "task": "cifar10",
            "seeds": 2,
            "images": None,
            "network": "resnet-layernorm",
            "depth": 3,
            "width": 8,
            "snapshots": [0, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 100],
            "recipe": {"epochs": 100, "batch": 128, "rate": 1e-3, "augment": True},
        },
    },
    cells=snapshot_cells,
    measure=_measure,
    columns=(
        Column("epoch", "epoch", key=True),
        Column("loss_a", "loss of an end"),
        Column("error_a", "error of an end", percent=True),
        Column("naive", "barrier, naive"),
        Column("last", "barrier, last permutation"),
        Column("own", "barrier, its own"),
        Column("last_midpoint_error", "midpoint error, last", percent=True),
        Column("own_midpoint_error", "midpoint error, its own", percent=True),
        Column("agreement", "same partners", percent=True),
    ),
    findings=_findings,
    picture=Picture(
        x="epoch",
        x_label="epoch",
        y_label=BARRIER,
        series=(
            Series("naive", "naive"),
            Series("last", "permutation of the last weights"),
            Series("own", "permutation of the step's own weights"),
        ),
        log_x=True,
    ),
)
