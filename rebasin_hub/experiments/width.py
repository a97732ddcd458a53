"""The barrier against width."""

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
    CLOSED,
    COLUMNS,
    IMAGES,
    LINE,
    PAPER_RECIPE,
    QUICK_RECIPE,
    SERIES,
    SOURCE,
    measure_pair,
)
from rebasin_hub.experiments.words import first_below, nats

__all__ = ["WIDTH"]


def _cells(settings: Settings) -> list[Cell]:
    return [
        {
            "network": settings["network"],
            "depth": settings["depth"],
            "width": width,
            "images": settings["images"],
            "seeds": pair,
            "recipe": settings["recipe"],
        }
        for width in settings["widths"]
        for pair in pairs(settings["seeds"])
    ]


def _findings(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:  # noqa: ARG001
    first, last = table[0], table[-1]
    said = [
        f"From width {first['width']} to {last['width']} the mean barrier goes from "
        f"{nats(first['naive'])} to {nats(last['naive'])} as the networks are numbered, and from "
        f"{nats(first['aligned'])} to {nats(last['aligned'])} after matching."
    ]
    closed = first_below(table, "width", "aligned", CLOSED)
    said.append(
        f"After matching no mean barrier is above {CLOSED} from width {closed} on."
        if closed is not None
        else f"After matching the widest networks still have a mean barrier above {CLOSED}."
    )
    return said


WIDTH = Experiment(
    name="width",
    title="The barrier against width",
    question="Do wider networks of different seeds lie closer together, as they are numbered and "
    "after matching their weights?",
    protocol="Networks of every width are trained from several seeds; each is paired with the next "
    f"one. {LINE}",
    source=SOURCE,
    scales={
        "quick": {
            "task": "digits",
            "seeds": 3,
            "images": IMAGES,
            "network": "mlp",
            "depth": 3,
            "widths": [8, 16, 32, 64, 128, 256, 512],
            "recipe": QUICK_RECIPE,
        },
        "paper": {
            "task": "cifar10",
            "seeds": 2,
            "images": None,
            "network": "resnet-layernorm",
            "depth": 3,
            "widths": [1, 2, 4, 8, 16, 32],
            "recipe": PAPER_RECIPE,
        },
    },
    cells=_cells,
    measure=measure_pair,
    columns=(Column("width", "width", key=True), *COLUMNS),
    findings=_findings,
    picture=Picture(x="width", x_label="width", y_label=BARRIER, series=SERIES, log_x=True),
)
