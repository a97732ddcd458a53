"""One permutation, of the dense networks, for all that iterative magnitude pruning leaves."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rebasin_hub.errors import OutputError
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
from rebasin_hub.experiments.lines import BARRIER, CLOSED, IMAGES, QUICK_RECIPE
from rebasin_hub.experiments.steps import Step, measure_step
from rebasin_hub.experiments.words import first_below, nats, percent

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab

__all__ = ["PRUNING", "levels_of"]


def levels_of(lab: Lab, cell: Cell, seed: int) -> list[Step]:
    """Train a network, and prune it and train it again and again.

    Args:
        lab: where trained networks and masks are kept.
        cell: with `level`, the rounds of pruning; `share`, of the weights that are left, that each
            takes away; and `rewind`, the epoch of the dense training to whose weights every round
            goes back.
        seed: of the network and of the order of images in every training.

    Returns the dense network first.

    """
    rewind = cell["rewind"]
    dense = lab.network(cell, seed=seed, snapshots=(rewind,))
    levels = [Step(dense.path, _mask(lab, dense.path, share=0.0))]
    for _ in range(cell["level"]):
        before = levels[-1]
        mask = _mask(lab, before.path, share=cell["share"], before=before.mask)
        start = dense.snapshots[rewind]
        trained = lab.network(cell, seed=seed, start=start, mask=mask)
        levels.append(Step(trained.path, mask))
    return levels


def _mask(lab: Lab, path: Path, *, share: float, before: Path | None = None) -> Path:
    """Prune a network of the store, once: its folder names all that decides its weights."""
    from rebasin_hub.experiments.data import make_folder
    from rebasin_hub.training.masks import prune

    mask = lab.folder / "masks" / f"{path.parent.name}-{share:g}.mask.safetensors"
    if not mask.exists():
        make_folder(mask.parent)
        try:
            prune(path, mask, share=share, before=before)
        except OutputError:
            if not mask.exists():  # else another process has just made the same
                raise
    return mask


def _cells(settings: Settings) -> list[Cell]:
    share = settings["share"]
    return [
        {
            "network": settings["network"],
            "depth": settings["depth"],
            "width": settings["width"],
            "images": settings["images"],
            "share": share,
            "rewind": settings["rewind"],
            "level": level,
            "left": round((1 - share) ** level, 4),
            "seeds": pair,
            "recipe": settings["recipe"],
        }
        for level in range(settings["levels"] + 1)
        for pair in pairs(settings["seeds"])
    ]


def _measure(lab: Lab, cell: Cell) -> Facts:
    a, b = (levels_of(lab, cell, seed) for seed in cell["seeds"])
    return measure_step(lab, (a[-1], b[-1]), (a[0], b[0]))


def _findings(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:  # noqa: ARG001
    first, last = table[0], table[-1]
    said = [
        f"The permutation of the dense networks takes their mean barrier from "
        f"{nats(first['naive'])} to {nats(first['last'])}; with {percent(last['sparsity'])} of "
        f"the weights pruned the same one takes it from {nats(last['naive'])} to "
        f"{nats(last['last'])}, and one of the sparse weights' own to {nats(last['own'])}.",
        f"At that level the masks of both networks overlap by {percent(last['overlap_naive'])} as "
        f"numbered, by {percent(last['overlap_last'])} after the dense networks' permutation, and "
        f"by {percent(last['overlap_own'])} after their own; of their mean "
        f"{percent(last['merged_last'])} is pruned.",
        _connected(table),
    ]
    known = [row for row in table[1:] if None not in (row["last"], row["naive"])]
    helped = [row for row in known if row["last"] < row["naive"]]
    said.append(
        f"It lowers the mean barrier at {len(helped)} of {len(known)} "
        f"sparse levels. An end's error goes from {percent(first['error_a'])} to "
        f"{percent(last['error_a'])}."
    )
    return said


def _connected(table: Sequence[Row]) -> str:
    """Say how far down the dense networks' permutation connects."""
    if table[0]["last"] is None or table[0]["last"] > CLOSED:
        return f"The permutation leaves a mean barrier above {CLOSED} even between the dense ones."
    left = first_below(list(table)[::-1], "left", "last", CLOSED)
    sparsest = next(row for row in table if row["left"] == left)
    return (
        f"The dense networks' permutation leaves no mean barrier above {CLOSED} up to "
        f"{percent(sparsest['sparsity'])} of the weights pruned."
    )


PRUNING = Experiment(
    name="pruning",
    title="One permutation for all levels of pruning",
    question="Does the permutation that connects two dense networks connect what iterative "
    "magnitude pruning makes of them, and their masks?",
    protocol="Networks of several seeds are trained; then, in every round, a share of the weights "
    "that are left, the smallest by magnitude over all tensors, is pruned, the others go back to "
    "what they were at the given epoch of the dense training, and are trained again. Each network "
    "is paired with that of the next seed. One permutation, from weight matching of the dense "
    "networks, is applied to the second one at every level, mask and all. The barrier (Entezari) "
    "of the loss on test images is measured at 25 points of the line between both at the same "
    "level: as numbered, with the dense networks' permutation, and with one of that level's own "
    "weights. The overlap of two masks is the share of the weights that either keeps that both "
    "keep.",
    source="Frankle and Carbin, arXiv:1803.03635; Sharma et al., arXiv:2404.06498",
    scales={
        "quick": {
            "task": "digits",
            "seeds": 3,
            "images": IMAGES,
            "network": "mlp",
            "depth": 2,
            "width": 128,
            "share": 0.4,
            "levels": 6,
            "rewind": 0,
            "recipe": QUICK_RECIPE,
        },
        "paper": {
            "task": "mnist",
            "seeds": 3,
            "images": None,
            "network": "mlp",
            "depth": 3,
            "width": 512,
            "share": 0.2,
            "levels": 15,
            "rewind": 0,
            "recipe": {"epochs": 20, "batch": 128},
        },
    },
    cells=_cells,
    measure=_measure,
    columns=(
        Column("left", "share that is left", key=True),
        Column("sparsity", "pruned", percent=True),
        Column("error_a", "error of an end", percent=True),
        Column("loss_a", "loss of an end"),
        Column("naive", "barrier, naive"),
        Column("last", "barrier, dense permutation"),
        Column("own", "barrier, its own"),
        Column("last_midpoint_error", "midpoint error, dense", percent=True),
        Column("overlap_naive", "overlap, naive", percent=True),
        Column("overlap_last", "overlap, dense", percent=True),
        Column("overlap_own", "overlap, its own", percent=True),
        Column("merged_last", "pruned in the mean, dense", percent=True),
    ),
    findings=_findings,
    picture=Picture(
        x="left",
        x_label="share of the weights that is left",
        y_label=BARRIER,
        series=(
            Series("naive", "naive"),
            Series("last", "permutation of the dense networks"),
            Series("own", "permutation of the sparse networks"),
        ),
        log_x=True,
    ),
)
