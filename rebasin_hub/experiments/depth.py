"""The barrier against depth."""

from __future__ import annotations

from collections.abc import Sequence

from rebasin_hub.experiments.experiment import (
    Cell,
    Column,
    Experiment,
    Picture,
    Row,
    Settings,
    pairs,
)
from rebasin_hub.experiments.lines import (
    BARRIER,
    COLUMNS,
    IMAGES,
    LINE,
    PAPER_RECIPE,
    QUICK_RECIPE,
    SERIES,
    SOURCE,
    measure_pair,
)
from rebasin_hub.experiments.words import nats

__all__ = ["DEPTH"]


def _cells(settings: Settings) -> list[Cell]:
    return [
        {
            "network": settings["network"],
            "depth": depth,
            "width": settings["width"],
            "images": settings["images"],
            "seeds": pair,
            "recipe": settings["recipe"],
        }
        for depth in settings["depths"]
        for pair in pairs(settings["seeds"])
    ]


def _findings(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:
    first, last = table[0], table[-1]
    said = [
        f"At width {rows[0]['width']}, from depth {first['depth']} to {last['depth']}, the mean "
        f"barrier goes from {nats(first['naive'])} to {nats(last['naive'])} as the networks are "
        f"numbered, and from {nats(first['aligned'])} to {nats(last['aligned'])} after matching."
    ]
    known = [row for row in table if row["aligned"] is not None]
    if known:
        worst = max(known, key=lambda row: row["aligned"])
        said.append(
            f"After matching depth {worst['depth']} has the highest mean barrier, "
            f"{nats(worst['aligned'])}."
        )
    return said


DEPTH = Experiment(
    name="depth",
    title="The barrier against depth",
    question="Do deeper networks of the same width lie further apart?",
    protocol="Networks of every depth (hidden layers of an MLP, blocks in each stage of a ResNet) "
    f"are trained from several seeds; each is paired with the next one. {LINE}",
    source=SOURCE,
    scales={
        "quick": {
            "task": "digits",
            "seeds": 3,
            "images": IMAGES,
            "network": "mlp",
            "width": 64,
            "depths": [1, 2, 3, 4, 6, 8],
            "recipe": QUICK_RECIPE,
        },
        "paper": {
            "task": "cifar10",
            "seeds": 2,
            "images": None,
            "network": "resnet-layernorm",
            "width": 4,
            "depths": [1, 2, 3, 5, 7],
            "recipe": PAPER_RECIPE,
        },
    },
    cells=_cells,
    measure=measure_pair,
    columns=(Column("depth", "depth", key=True), *COLUMNS),
    findings=_findings,
    picture=Picture(x="depth", x_label="depth", y_label=BARRIER, series=SERIES),
)
