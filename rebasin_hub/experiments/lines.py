"""What experiments on lines between pairs of networks share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rebasin_hub.experiments.experiment import (
    Cell,
    Column,
    Facts,
    Series,
    Settings,
    pairs,
)

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab

__all__ = [
    "BARRIER",
    "CLOSED",
    "COLUMNS",
    "IMAGES",
    "LINE",
    "PAPER_RECIPE",
    "QUICK_RECIPE",
    "SERIES",
    "SOURCE",
    "measure_pair",
    "snapshot_cells",
]

IMAGES = 5000
"""Images that the quick form trains on at most, whatever the data."""
QUICK_RECIPE = {"epochs": 20, "batch": 32}
PAPER_RECIPE: dict[str, Any] = {
    "epochs": 100,
    "batch": 256,
    "optimizer": "sgd",
    "rate": 0.2,
    "one_cycle": True,
    "augment": True,
}
LINE = (
    "The second network of a pair is aligned to the first by weight matching, and the loss on test "
    "images is measured at 25 points of the straight line between them, before and after. The "
    "barrier is that of Entezari et al.: the most by which the loss rises above the line between "
    "the ends' losses."
)
SOURCE = "Entezari et al., arXiv:2110.06296; Ainsworth et al., arXiv:2209.04836, section 5"
BARRIER = "barrier of the test loss (nats)"
CLOSED = 0.05
"""Nats; a barrier of no more is called closed."""
COLUMNS = (
    Column("loss_a", "loss of an end"),
    Column("naive", "barrier, naive"),
    Column("aligned", "barrier, matched"),
    Column("aligned_calibrated", "matched, calibrated"),
    Column("aligned_midpoint_error", "midpoint error, matched", percent=True),
    Column("ensemble_error", "ensemble error", percent=True),
)
SERIES = (
    Series("naive", "naive"),
    Series("aligned", "weight matching"),
    Series("aligned_calibrated", "weight matching, calibrated"),
)


def snapshot_cells(settings: Settings) -> list[Cell]:
    """Return a cell for each snapshot of each pair of networks, of one width."""
    return [
        {
            "network": settings["network"],
            "depth": settings["depth"],
            "width": settings["width"],
            "images": settings["images"],
            "snapshots": settings["snapshots"],
            "epoch": epoch,
            "seeds": pair,
            "recipe": settings["recipe"],
        }
        for epoch in settings["snapshots"]
        for pair in pairs(settings["seeds"])
    ]


def measure_pair(lab: Lab, cell: Cell) -> Facts:
    """Train the two networks of a cell (`seeds`), and measure the line between them."""
    a, b = (lab.network(cell, seed=seed).path for seed in cell["seeds"])
    return lab.line(a, b)
