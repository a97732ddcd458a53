"""The barrier against training time."""

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
)
from rebasin_hub.experiments.lines import (
    BARRIER,
    COLUMNS,
    IMAGES,
    LINE,
    SERIES,
    SOURCE,
    snapshot_cells,
)
from rebasin_hub.experiments.words import nats

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab

__all__ = ["TRAINING_TIME"]


def _measure(lab: Lab, cell: Cell) -> Facts:
    kept = tuple(cell["snapshots"])
    a, b = (
        lab.network(cell, seed=seed, snapshots=kept).snapshots[cell["epoch"]]
        for seed in cell["seeds"]
    )
    return lab.line(a, b)


def _findings(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:  # noqa: ARG001
    first, last = table[0], table[-1]
    said = [
        f"From epoch {first['epoch']:g} to {last['epoch']:g} the mean barrier goes from "
        f"{nats(first['naive'])} to {nats(last['naive'])} as the networks are numbered, and from "
        f"{nats(first['aligned'])} to {nats(last['aligned'])} after matching."
    ]
    known = [row for row in table if row["aligned"] is not None]
    if known:
        worst = max(known, key=lambda row: row["aligned"])
        said.append(
            f"After matching it is highest at epoch {worst['epoch']:g}: {nats(worst['aligned'])}."
        )
    return said


TRAINING_TIME = Experiment(
    name="training-time",
    title="The barrier against training time",
    question="Are networks connected from the start, or only after a while of training?",
    protocol="Networks are trained from several seeds with a constant learning rate, and kept on "
    "the way; networks of the same age are paired, each with that of the next seed, and matched at "
    f"that age. Epoch 0 is the initialization. {LINE}",
    source=f"{SOURCE} (figure 5)",
    scales={
        "quick": {
            "task": "digits",
            "seeds": 3,
            "images": IMAGES,
            "network": "mlp",
            "depth": 3,
            "width": 128,
            "snapshots": [0, 0.25, 0.5, 1, 2, 4, 8, 16, 32, 64],
            "recipe": {"epochs": 64, "batch": 32},
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
        Column("error_a", "error of an end", percent=True),
        *COLUMNS,
    ),
    findings=_findings,
    picture=Picture(x="epoch", x_label="epoch", y_label=BARRIER, series=SERIES, log_x=True),
)
