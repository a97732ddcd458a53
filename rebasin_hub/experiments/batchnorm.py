"""Narrow residual networks with BatchNorm: the hard case."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from rebasin_hub.experiments.lines import PAPER_RECIPE
from rebasin_hub.experiments.words import percent

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab

__all__ = ["BATCHNORM"]

METHODS: tuple[tuple[str, ...], ...] = (
    ("weight",),
    ("activation",),
    ("blend",),
    ("activation", "blend"),
    ("activation", "straight-through"),
    ("blend", "straight-through"),
)
"""Each is a chain, of which every method starts where the one before ended."""

PUBLISHED: Mapping[int, float] = {1: 0.676, 2: 0.855, 4: 0.921, 8: 0.944, 16: 0.954, 32: 0.960}
"""Midpoint accuracies of ResNet-20 on CIFAR-10 after activation matching and statistics repaired
(Jordan et al., arXiv:2211.08403), by width."""


def _cells(settings: Settings) -> list[Cell]:
    return [
        {
            "network": "resnet",
            "depth": settings["depth"],
            "width": width,
            "seeds": pair,
            "recipe": settings["recipe"],
            "methods": list(methods),
            "limit": settings["limit"],
            "images": settings["images"],
        }
        for width in settings["widths"]
        for pair in pairs(settings["seeds"])
        for methods in METHODS
    ]


def _measure(lab: Lab, cell: Cell) -> Facts:
    from rebasin_hub.experiments.aligning import aligned_line

    a, b = (lab.network(cell, seed=seed).path for seed in cell["seeds"])
    found = aligned_line(
        lab,
        a,
        b,
        cell["methods"],
        seconds=cell["limit"],
        treatments=None,
        both_splits=True,
        points=3,
        limit=cell["images"],
    )
    return {
        "method": " → ".join(cell["methods"]),
        "cosine": found["cosine"],
        "seconds": found["seconds"],
        "ends": 1 - (found["error_a"] + found["error_b"]) / 2,
        "ensemble": 1 - found["ensemble_error"],
        "naive": 1 - found["naive_midpoint_error"],
        "naive_repair": 1 - found["naive_repair_midpoint_error"],
        **{
            name: 1 - found[f"{name}_midpoint_error"]
            for name in ("aligned", "aligned_recomputed", "aligned_repair")
        },
        "published": PUBLISHED.get(cell["width"]) if _is_published(lab, cell) else None,
    }


def _is_published(lab: Lab, cell: Cell) -> bool:
    return lab.task == "cifar10" and cell["depth"] == 3  # noqa: PLR2004


def _findings(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:
    said = []
    for width in dict.fromkeys(row["width"] for row in table):
        here = [row for row in table if row["width"] == width]
        best = max(here, key=lambda row: row["aligned_repair"])
        published = next((row["published"] for row in rows if row["width"] == width), None)
        plain = next(row for row in here if row["method"] == "weight")
        text = (
            f"Width {width}: ends {percent(best['ends'])}; the best midpoint with REPAIR is that "
            f"of `{best['method']}`, {percent(best['aligned_repair'])}; weight matching gives "
            f"{percent(plain['aligned_repair'])}, and {percent(plain['aligned'])} with statistics "
            f"as they are; REPAIR without aligning {percent(plain['naive_repair'])}."
        )
        if published is not None:
            gap = best["aligned_repair"] - published
            text += (
                f" Published for this width, with longer training: {percent(published)}, "
                f"from which this is {100 * gap:+.1f} points."
            )
        said.append(text)
    return said


BATCHNORM = Experiment(
    name="batchnorm",
    title="Narrow residual networks with BatchNorm",
    question="How good is the midpoint of two narrow residual networks with BatchNorm, by which "
    "method of aligning, and with which treatment of the statistics?",
    protocol="Two networks from different seeds are aligned by chains of methods, each of which "
    "starts where the one before ended. The accuracy on test images is measured at the midpoint: "
    "as is, with BatchNorm's statistics recomputed, and with REPAIR; statistics come from training "
    "images.",
    source="Jordan et al., arXiv:2211.08403; Ainsworth et al., arXiv:2209.04836",
    scales={
        "quick": {
            "task": "digits",
            "seeds": 3,
            "depth": 1,
            "widths": [1, 2],
            "recipe": {
                "epochs": 10,
                "batch": 64,
                "optimizer": "sgd",
                "rate": 0.1,
                "one_cycle": True,
            },
            "limit": 20.0,
            "images": None,
        },
        "paper": {
            "task": "cifar10",
            "seeds": 2,
            "depth": 3,
            "widths": [1, 2, 4, 8, 16, 32],
            "recipe": PAPER_RECIPE,
            "limit": 900.0,
            "images": None,
        },
    },
    cells=_cells,
    measure=_measure,
    columns=(
        Column("width", "width", key=True),
        Column("method", "method", key=True),
        Column("ends", "ends", percent=True),
        Column("ensemble", "ensemble", percent=True),
        Column("naive", "naive", percent=True),
        Column("naive_repair", "naive, REPAIR", percent=True),
        Column("aligned", "aligned", percent=True),
        Column("aligned_recomputed", "aligned, recomputed", percent=True),
        Column("aligned_repair", "aligned, REPAIR", percent=True),
        Column("seconds", "seconds"),
    ),
    findings=_findings,
    picture=Picture(
        x="width",
        x_label="width",
        y_label="accuracy of the midpoint",
        series=(
            Series("naive", "naive", {"method": "weight"}),
            Series("aligned_repair", "weight, REPAIR", {"method": "weight"}),
            Series("aligned_repair", "activation, REPAIR", {"method": "activation"}),
            Series("aligned_repair", "blend, REPAIR", {"method": "blend"}),
        ),
        log_x=True,
    ),
)
