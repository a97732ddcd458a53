"""Random permutations of one solution against real pairs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
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
from rebasin_hub.experiments.lines import BARRIER, IMAGES, LINE, PAPER_RECIPE, QUICK_RECIPE
from rebasin_hub.experiments.words import nats

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab

__all__ = ["OUR_MODEL"]

REAL, MODEL = "two trainings", "one, renumbered"


def _cells(settings: Settings) -> list[Cell]:
    return [
        {
            "network": settings["network"],
            "depth": settings["depth"],
            "width": width,
            "images": settings["images"],
            "ends": ends,
            "seeds": pair,
            "recipe": settings["recipe"],
        }
        for width in settings["widths"]
        for ends in (REAL, MODEL)
        for pair in pairs(settings["seeds"])
    ]


def _measure(lab: Lab, cell: Cell) -> Facts:
    first, second = cell["seeds"]
    a = lab.network(cell, seed=first).path
    if cell["ends"] == REAL:
        return lab.line(a, lab.network(cell, seed=second).path)
    with TemporaryDirectory() as folder:
        return lab.line(a, _renumbered(a, Path(folder), seed=second))


def _renumbered(path: Path, folder: Path, *, seed: int) -> Path:
    """Write a checkpoint renumbered by an element drawn uniformly from its group."""
    from rebasin_hub.pipeline.apply import apply_file
    from rebasin_hub.pipeline.matching import Matching, align_models

    permutations, renumbered = folder / "random.safetensors", folder / f"{path.stem}-renumbered"
    renumbered = renumbered.with_suffix(path.suffix)
    align_models(path, path, permutations, matching=Matching("random", "cpu", seed))
    apply_file(permutations, path, renumbered)
    return renumbered


def _findings(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:  # noqa: ARG001
    said = []
    for width in dict.fromkeys(row["width"] for row in table):
        real, model = (
            next(row for row in table if (row["width"], row["ends"]) == (width, ends))
            for ends in (REAL, MODEL)
        )
        said.append(
            f"At width {width} two trainings have a mean barrier of {nats(real['naive'])}, and one "
            f"solution renumbered at random {nats(model['naive'])}; after matching "
            f"{nats(real['aligned'])} and {nats(model['aligned'])}."
        )
    return said


OUR_MODEL = Experiment(
    name="our-model",
    title="Random permutations of one solution against real pairs",
    question="Is the barrier between two trained networks what the numbering of units alone makes "
    "of it?",
    protocol="Two kinds of ends are compared: networks of two trainings, and one network beside a "
    "copy of itself in which every permutation was drawn uniformly (the same function). If "
    "trainings differed in their numbering alone, both kinds would have the same barriers. "
    f"{LINE}",
    source="Entezari et al., arXiv:2110.06296, section 4",
    scales={
        "quick": {
            "task": "digits",
            "seeds": 3,
            "images": IMAGES,
            "network": "mlp",
            "depth": 3,
            "widths": [16, 64, 256, 512],
            "recipe": QUICK_RECIPE,
        },
        "paper": {
            "task": "cifar10",
            "seeds": 3,
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
        Column("ends", "ends", key=True),
        Column("naive", "barrier, naive"),
        Column("naive_midpoint_error", "midpoint error, naive", percent=True),
        Column("aligned", "barrier, matched"),
        Column("aligned_midpoint_error", "midpoint error, matched", percent=True),
        Column("cosine", "cosine, matched"),
    ),
    findings=_findings,
    picture=Picture(
        x="width",
        x_label="width",
        y_label=BARRIER,
        series=(
            Series("naive", f"{REAL}, naive", {"ends": REAL}),
            Series("naive", f"{MODEL}, naive", {"ends": MODEL}),
            Series("aligned", f"{REAL}, matched", {"ends": REAL}),
            Series("aligned", f"{MODEL}, matched", {"ends": MODEL}),
        ),
        log_x=True,
    ),
)
