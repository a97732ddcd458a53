"""All methods on the same pairs of networks, with the same time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
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
)
from rebasin_hub.experiments.lines import BARRIER, PAPER_RECIPE, QUICK_RECIPE
from rebasin_hub.experiments.words import nats

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab

__all__ = ["METHODS_COMPARED"]

METHODS = (
    *("identity", "random", "greedy", "weight", "frank-wolfe", "activation", "blend", "functional"),
    *("sinkhorn:loss=weights", "sinkhorn:loss=midpoint", "straight-through", "anneal"),
)
OWN = "its own"
"""A budget: whatever the method takes as it is."""
ENDLESS: Mapping[str, str] = {
    "weight": "weight",
    "frank-wolfe": "frank-wolfe",
    "sinkhorn:loss=midpoint": "sinkhorn:loss=midpoint,steps=1000000",
    "straight-through": "straight-through:steps=1000000",
    "anneal": "anneal:steps=1000000",
}
"""Methods that go on as long as they may, when they are asked to: with more steps, or restarts."""
RESTARTS = 1_000_000


def _cells(settings: Settings) -> list[Cell]:
    return [
        {
            "network": settings["network"],
            "depth": settings["depth"],
            "width": width,
            "seeds": pair,
            "recipe": settings["recipe"],
            "method": method,
            "budget": budget,
        }
        for width in settings["widths"]
        for pair in combinations(range(settings["seeds"]), 2)
        for budget in (OWN, f"{settings['limit']:g} s")
        for method in (METHODS if budget == OWN else ENDLESS)
    ]


def _measure(lab: Lab, cell: Cell) -> Facts:
    from rebasin_hub.experiments.aligning import aligned_line

    a, b = (lab.network(cell, seed=seed).path for seed in cell["seeds"])
    method, budget = cell["method"], cell["budget"]
    if budget == OWN:
        return aligned_line(lab, a, b, [method])
    limit = float(budget.removesuffix(" s"))
    return aligned_line(lab, a, b, [ENDLESS[method]], seconds=limit, restarts=RESTARTS)


def _findings(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:
    said = []
    for width in dict.fromkeys(row["width"] for row in table):
        here = [row for row in table if row["width"] == width and row["aligned"] is not None]
        own = {row["method"]: row for row in here if row["budget"] == OWN}
        said.append(
            f"At width {width} the networks as they are numbered have a mean barrier of "
            f"{nats(own['identity']['aligned'])}, and `weight` leaves "
            f"{nats(own['weight']['aligned'])}. {_best(own.values(), 'With its own time')}"
        )
        equal = [row for row in here if row["budget"] != OWN]
        if equal:
            said.append(_best(equal, f"With {equal[0]['budget']} for each"))
    worse = [row for row in rows if row["method"] != "random" and _worse_than_identity(row)]
    said.append(
        f"Of {len(rows)} runs {len(worse)} ended worse than the identity by their own measure"
        + (f" ({', '.join(sorted({row['method'] for row in worse}))})." if worse else ".")
    )
    return said


def _best(rows: Iterable[Row], when: str) -> str:
    best = min(rows, key=lambda row: row["aligned"])
    return f"{when} `{best['method']}` leaves the least, {nats(best['aligned'])}."


def _worse_than_identity(row: Row) -> bool:
    gain = row["goal_end"] - row["goal_identity"]
    tiny = 1e-9 * max(abs(row["goal_end"]), abs(row["goal_identity"]))
    return bool((gain if row["larger_is_better"] else -gain) < -tiny)


METHODS_COMPARED = Experiment(
    name="methods",
    title="All methods at equal time",
    question="Which method of aligning leaves the least barrier, when all have the same pairs and "
    "the same time?",
    protocol="Every pair of the networks of a width is aligned by every method, each with the "
    "settings that it has by default; and those that can go on, by more steps or more restarts, "
    "once more with the same time for each. Methods that look at data see the training split. The "
    "barrier (Entezari) is measured on test images. Each method has a measure of its own, in which "
    "it should not end worse than where the identity stands.",
    source="Ainsworth et al., arXiv:2209.04836, section 3; Entezari et al., arXiv:2110.06296; Peña "
    "et al., arXiv:2212.12042; Crisostomi et al., arXiv:2405.17897; He et al., arXiv:1805.11811",
    scales={
        "quick": {
            "task": "digits",
            "seeds": 4,
            "network": "mlp",
            "depth": 3,
            "widths": [64],
            "recipe": QUICK_RECIPE,
            "limit": 10.0,
        },
        "paper": {
            "task": "cifar10",
            "seeds": 4,
            "network": "resnet",
            "depth": 3,
            "widths": [1, 4],
            "recipe": PAPER_RECIPE,
            "limit": 600.0,
        },
    },
    cells=_cells,
    measure=_measure,
    columns=(
        Column("width", "width", key=True),
        Column("budget", "time", key=True),
        Column("method", "method", key=True),
        Column("cosine", "cosine of the weights"),
        Column("goal_identity", "own measure, identity"),
        Column("goal_end", "own measure, found"),
        Column("aligned", "barrier"),
        Column("aligned_midpoint_error", "midpoint error", percent=True),
        Column("seconds", "seconds"),
    ),
    findings=_findings,
    picture=Picture(
        x="method",
        x_label="method",
        y_label=BARRIER,
        series=(Series("aligned", "with its own time", {"budget": OWN}),),
    ),
)
