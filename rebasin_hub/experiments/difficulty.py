"""The barrier against the difficulty of the task."""

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
    Settings,
    pairs,
)
from rebasin_hub.experiments.lines import (
    BARRIER,
    COLUMNS,
    LINE,
    PAPER_RECIPE,
    QUICK_RECIPE,
    SOURCE,
)
from rebasin_hub.experiments.words import nats

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab

__all__ = ["DIFFICULTY"]

CLASSES, NOISE = "classes", "random labels"


def _cells(settings: Settings) -> list[Cell]:
    levels = [(CLASSES, number) for number in settings["classes"]]
    levels += [(NOISE, share) for share in settings["noise"]]
    return [
        {
            "network": settings["network"],
            "depth": settings["depth"],
            "width": settings["width"],
            "images": settings["images"],
            "harder": harder,
            "level": level,
            "seeds": pair,
            "recipe": settings["recipe"],
        }
        for harder, level in levels
        for pair in pairs(settings["seeds"])
    ]


def _measure(lab: Lab, cell: Cell) -> Facts:
    from rebasin_hub.experiments.data import with_classes
    from rebasin_hub.training import Subset

    if cell["harder"] == CLASSES:
        lab = lab.on("images", with_classes(lab.task, lab.data, cell["level"], lab.folder / "data"))
        subset = Subset(first=cell["images"])
    else:
        subset = Subset(first=cell["images"], noise=cell["level"])
    a, b = (lab.network(cell, seed=seed, subset=subset) for seed in cell["seeds"])
    return {
        **lab.line(a.path, b.path),
        "train_accuracy": a.log["train"]["accuracy"],
        "place": f"{cell['level']}" if cell["harder"] == CLASSES else f"{cell['level']:.0%}",
    }


def _findings(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:  # noqa: ARG001
    said = []
    for harder in (CLASSES, NOISE):
        places = [row for row in table if row["harder"] == harder]
        if len(places) < 2:  # noqa: PLR2004
            continue
        first, last = places[0], places[-1]
        span = f"From {_level(first)} to {_level(last)} {harder}"
        said.append(
            f"{span} the mean barrier goes from {nats(first['naive'])} to {nats(last['naive'])} as "
            f"the networks are numbered, and from {nats(first['aligned'])} to "
            f"{nats(last['aligned'])} after matching."
        )
    return said


def _level(row: Row) -> str:
    return f"{100 * row['level']:.0f} %" if row["harder"] == NOISE else str(row["level"])


DIFFICULTY = Experiment(
    name="difficulty",
    title="The barrier against the difficulty of the task",
    question="Do networks lie further apart when their task is harder: with more classes, or with "
    "labels of which some are drawn at random?",
    protocol="Networks are trained on as many images of the first classes of the data only, which "
    "then are the only ones of the test split as well; and on as many images of all classes, a "
    "share of whose labels was drawn anew, each class as likely (the test labels stay). Other "
    f"data are given with --task. {LINE}",
    source=SOURCE,
    scales={
        "quick": {
            "task": "digits",
            "seeds": 3,
            "images": 280,
            "network": "mlp",
            "depth": 3,
            "width": 64,
            "classes": [2, 4, 6, 8, 10],
            "noise": [0.1, 0.2, 0.4, 0.8],
            "recipe": {**QUICK_RECIPE, "epochs": 60},
        },
        "paper": {
            "task": "cifar10",
            "seeds": 2,
            "images": 10000,
            "network": "resnet-layernorm",
            "depth": 3,
            "width": 4,
            "classes": [2, 4, 6, 8, 10],
            "noise": [0.1, 0.2, 0.4, 0.8],
            "recipe": PAPER_RECIPE,
        },
    },
    cells=_cells,
    measure=_measure,
    columns=(
        Column("harder", "harder by", key=True),
        Column("level", "level", key=True),
        Column("train_accuracy", "accuracy in training", percent=True),
        Column("error_a", "error of an end", percent=True),
        *COLUMNS,
    ),
    findings=_findings,
    picture=Picture(
        x="place",
        x_label="classes, or share of random labels",
        y_label=BARRIER,
        series=(
            Series("naive", "classes, naive", {"harder": CLASSES}),
            Series("aligned", "classes, weight matching", {"harder": CLASSES}),
            Series("naive", "random labels, naive", {"harder": NOISE}),
            Series("aligned", "random labels, weight matching", {"harder": NOISE}),
        ),
    ),
)
