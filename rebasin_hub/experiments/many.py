"""Merging many networks."""

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
)
from rebasin_hub.experiments.lines import IMAGES, PAPER_RECIPE, QUICK_RECIPE
from rebasin_hub.experiments.words import nats, percent

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab

__all__ = ["MANY", "groups"]

BEST, ENSEMBLE, NAIVE = "best single", "ensemble", "naive"
STRATEGIES = ("reference", "hierarchical", "merge-many", "universe")
MODELS = (BEST, ENSEMBLE, NAIVE, *STRATEGIES)


def groups(seeds: int, count: int) -> list[list[int]]:
    """Return groups of so many of the networks 0 … seeds − 1.

    Neighbours in a circle, beginning at every second network: the first is the reference. Where a
    group holds all networks the groups differ in their order, which the strategies go by.
    """
    return [[(start + step) % seeds for step in range(count)] for start in range(0, seeds, 2)]


def _cells(settings: Settings) -> list[Cell]:
    seeds = settings["seeds"]
    return [
        {
            "network": settings["network"],
            "depth": settings["depth"],
            "width": settings["width"],
            "images": settings["images"],
            "count": count,
            "model": model,
            "seeds": group,
            "recipe": settings["recipe"],
        }
        for count in settings["counts"]
        if count <= seeds
        for model in MODELS
        for group in groups(seeds, count)
    ]


def _measure(lab: Lab, cell: Cell) -> Facts:
    from rebasin_hub.experiments.merges import merged, renumbered, score_of

    models = [lab.network(cell, seed=seed).path for seed in cell["seeds"]]
    lab.tell(f"measuring {cell['model']}")
    model = cell["model"]
    if model == BEST:
        # By the same images: whoever has to choose without them does not get all of this.
        return _plain(min((score_of(lab, [one]) for one in models), key=_loss))
    if model == ENSEMBLE:
        return _plain(score_of(lab, models))
    with TemporaryDirectory() as name:
        folder = Path(name)
        if model != NAIVE:
            models = renumbered(lab, models, folder, model)
        plain = merged(lab, models, folder / "plain.safetensors", align=False)
        better = folder / "repaired.safetensors"
        merged(lab, models, better, align=False, repair="repair")
        return {**score_of(lab, [plain]), **_repaired(score_of(lab, [better]))}


def _loss(facts: Facts) -> float:
    return float(facts["loss"])


def _plain(facts: Facts) -> Facts:
    """Take what is no mean of weights for its own repair: its statistics are what they should."""
    return {**facts, **_repaired(facts)}


def _repaired(facts: Facts) -> Facts:
    return {f"{name}_repair": facts[name] for name in ("loss", "error")}


def _findings(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:  # noqa: ARG001
    counts = list(dict.fromkeys(row["count"] for row in table))
    said = [_of_count(count, table) for count in counts]
    if len(counts) > 1:
        said.append(_trend(counts, table))
    return said


def _at(table: Sequence[Row], count: int, model: str) -> Row:
    return next(row for row in table if (row["count"], row["model"]) == (count, model))


def _best(table: Sequence[Row], count: int) -> Row:
    known = [row for row in (_at(table, count, s) for s in STRATEGIES) if row["loss"] is not None]
    return min(known, key=_loss) if known else _at(table, count, STRATEGIES[0])


def _of_count(count: int, table: Sequence[Row]) -> str:
    best = _best(table, count)
    others = ", ".join(
        f"`{name}` {nats(_at(table, count, name)['loss'])}"
        for name in STRATEGIES
        if name != best["model"]
    )
    single, ensemble, naive = (_at(table, count, model) for model in (BEST, ENSEMBLE, NAIVE))
    who = (
        "any strategy (for two they are the same)" if count == 2 else f"`{best['model']}`"  # noqa: PLR2004
    )
    return (
        f"The mean of {count}, as numbered, has a loss of {_both(naive)}; the least after aligning "
        f"is that of {who}, {_both(best)}{'' if count == 2 else f' ({others})'}. "  # noqa: PLR2004
        f"With REPAIR it has {nats(best['loss_repair'])} "
        f"({percent(best['error_repair'])} error), with the best temperature "
        f"{nats(best['loss_tempered'])}. The ensemble has {_both(ensemble)} and the best single "
        f"network {_both(single)}."
    )


def _both(row: Row) -> str:
    return f"{nats(row['loss'])} ({percent(row['error'])} error)"


def _trend(counts: Sequence[int], table: Sequence[Row]) -> str:
    first, last = _best(table, counts[0]), _best(table, counts[-1])
    by = [
        f"`{name}` from {nats(_at(table, counts[0], name)['loss'])} to "
        f"{nats(_at(table, counts[-1], name)['loss'])}"
        for name in STRATEGIES
    ]
    worse = last["loss"] is None or (first["loss"] is not None and last["loss"] > first["loss"])
    beaten = [
        str(count)
        for count in counts
        if (loss := _best(table, count)["loss"]) is not None
        and loss < _loss(_at(table, count, BEST))
    ]
    better = (
        f"The best merge has a lower loss than the best single network with {', '.join(beaten)} "
        "networks."
        if beaten
        else "No merge has a lower loss than the best single network."
    )
    return (
        f"From {counts[0]} to {counts[-1]} networks the loss of the mean goes, by strategy, "
        f"{', '.join(by)}: merging more makes the best merge {'worse' if worse else 'no worse'}. "
        f"{better}"
    )


MANY = Experiment(
    name="many",
    title="Merging many networks",
    question="What becomes of the mean of two, three and more networks, by each way of bringing "
    "all of them into one numbering?",
    protocol="Groups of networks of different seeds, neighbours in a circle, are averaged with "
    "equal weights: as they are numbered, with each aligned to the first (reference), in pairs and "
    "pairs of pairs (hierarchical), each in turn to the mean of the others (merge-many), and all "
    "at once (universe), always by weight matching. The loss on test images is measured as is, at "
    "the best of 25 temperatures (chosen on nine tenths of the samples, used on the others), and "
    "after REPAIR, whose statistics come from training images; what is no mean of weights has "
    "nothing to repair. Beside them stand the ensemble of the group (mean of the logits), and its "
    "best network by its loss on the same test images.",
    source="Ainsworth et al., arXiv:2209.04836, section 5.3; Crisostomi et al., arXiv:2405.17897; "
    "arXiv:2510.09174",
    scales={
        "quick": {
            "task": "digits",
            "seeds": 6,
            "images": IMAGES,
            "network": "mlp",
            "depth": 3,
            "width": 128,
            "counts": [2, 3, 4, 5, 6],
            "recipe": QUICK_RECIPE,
        },
        "paper": {
            "task": "cifar10",
            "seeds": 6,
            "images": None,
            "network": "resnet-layernorm",
            "depth": 3,
            "width": 8,
            "counts": [2, 3, 4, 5, 6],
            "recipe": PAPER_RECIPE,
        },
    },
    cells=_cells,
    measure=_measure,
    columns=(
        Column("count", "networks", key=True),
        Column("model", "model", key=True),
        Column("loss", "loss"),
        Column("error", "error", percent=True),
        Column("loss_tempered", "loss, best temperature"),
        Column("loss_repair", "loss, REPAIR"),
        Column("error_repair", "error, REPAIR", percent=True),
    ),
    findings=_findings,
    picture=Picture(
        x="count",
        x_label="networks",
        y_label="test loss (nats)",
        series=tuple(Series("loss", model, {"model": model}) for model in MODELS),
        log_y=True,
    ),
)
