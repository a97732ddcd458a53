"""Three networks: the simplex between them, and strong against weak connectivity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rebasin_hub.errors import InputError
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
from rebasin_hub.experiments.lines import BARRIER, CLOSED, IMAGES, PAPER_RECIPE, QUICK_RECIPE
from rebasin_hub.experiments.words import first_below, nats

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab
    from rebasin_hub.record.connect import ConnectRecord

__all__ = ["SIMPLEX", "figures"]

CORNERS = 3


def _cells(settings: Settings) -> list[Cell]:
    seeds = settings["seeds"]
    if seeds < CORNERS:
        raise InputError(f"seeds is {seeds}; a simplex takes {CORNERS} networks or more")
    return [
        {
            "network": settings["network"],
            "depth": settings["depth"],
            "width": width,
            "images": settings["images"],
            "seeds": [(first + step) % seeds for step in range(CORNERS)],
            "recipe": settings["recipe"],
        }
        for width in settings["widths"]
        for first in range(seeds)
    ]


def _measure(lab: Lab, cell: Cell) -> Facts:
    from rebasin_hub.pipeline.connect import ConnectRequest, connect_models
    from rebasin_hub.record.connect import ConnectRecord

    models = tuple(lab.network(cell, seed=seed).path for seed in cell["seeds"])
    lab.tell("connecting three networks")
    how = lab.measurement()
    request = ConnectRequest(
        models=models,
        task=lab.task,
        options=how.options(),
        matching=how.matching,
        treatments=("as is",),
    )
    record = connect_models(request, command="rebasin-hub connect A B C")
    assert isinstance(record, ConnectRecord)
    return figures(record)


def figures(record: ConnectRecord) -> Facts:
    """Return the figures of three networks A, B and C, None for what is not finite.

    `naive`, `direct`, `through`, `universe`: barriers of the loss from B to C, as numbered, aligned
    to one another, each aligned to A, and by one permutation each that were found together; `gap`
    and `gap_universe`: what the latter two have more than `direct`. `to_reference`: the mean of the
    barriers from A to B and from A to C. `simplex_naive`, `simplex` (through A) and
    `simplex_universe`: the barrier of the simplex of all three. `loss`: the mean of their own.
    """
    from rebasin_hub.experiments.measure import TEST

    lines = {
        (pair.first, pair.second, pair.strategy): pair.entezari.loss.value
        for pair in record.pairs
        if (pair.split, pair.treatment) == (TEST, "as is")
    }
    simplices = {
        one.strategy: one.barrier.loss.value for one in record.simplices if one.split == TEST
    }
    ends = [end.loss for end in record.ends if (end.split, end.treatment) == (TEST, "as is")]
    naive, direct, through, universe = (
        lines["B", "C", strategy] for strategy in ("naive", "pairwise", "reference", "universe")
    )
    return {
        "loss": _mean(ends),
        "naive": naive,
        "direct": direct,
        "through": through,
        "universe": universe,
        "gap": _less(through, direct),
        "gap_universe": _less(universe, direct),
        "to_reference": _mean([lines["A", "B", "reference"], lines["A", "C", "reference"]]),
        "simplex_naive": simplices["naive"],
        "simplex": simplices["reference"],
        "simplex_universe": simplices["universe"],
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _less(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one - other


def _findings(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:
    said = [_of_width(row, rows) for row in table]
    said.append(_closed(table, "gap", "the gap between strong and weak connectivity"))
    said.append(_closed(table, "simplex", "the barrier of the simplex through the first network"))
    known = [row for row in table if None not in (row["through"], row["universe"])]
    better = [str(row["width"]) for row in known if row["universe"] < row["through"]]
    said.append(
        f"Permutations that were found together leave less between the second and the third than "
        f"those through the first network at {len(better)} of {len(known)} widths"
        + (f" ({', '.join(better)})." if better else ".")
    )
    return said


def _of_width(row: Row, rows: Sequence[Row]) -> str:
    here = [one for one in rows if one["width"] == row["width"] and one["gap"] is not None]
    larger = sum(one["gap"] > 0 for one in here)
    return (
        f"At width {row['width']} the second and the third network have a mean barrier of "
        f"{nats(row['naive'])} as numbered, {nats(row['direct'])} aligned to one another, and "
        f"{nats(row['through'])} both aligned to the first ({nats(row['universe'])} by "
        f"permutations found together): a gap of {nats(row['gap'])}, positive in {larger} of "
        f"{len(here)} triples. The barrier of the simplex goes from "
        f"{nats(row['simplex_naive'])} to {nats(row['simplex'])}."
    )


def _closed(table: Sequence[Row], name: str, what: str) -> str:
    words = f"{what[0].upper()}{what[1:]}"
    known = [row for row in table if row[name] is not None]
    if known and all(row[name] <= CLOSED for row in known):
        return f"{words} is not seen here: at no width is its mean above {CLOSED}."
    width = first_below(table, "width", name, CLOSED)
    if width is None:
        return f"{words} is still above {CLOSED} at the largest width."
    worst = max(known, key=lambda row: row[name])
    return (
        f"{words} is largest at width {worst['width']}, {nats(worst[name])}, and no more than "
        f"{CLOSED} from width {width} on."
    )


SIMPLEX = Experiment(
    name="simplex",
    title="Three networks at once",
    question="Does one permutation for each of three networks connect all of them, or does every "
    "pair need its own, and how does that depend on width?",
    protocol="Three networks of every width, from three seeds, each in turn the first one: the "
    "second and the third are aligned to the first by weight matching, and to one another; and all "
    "three are brought into one numbering together (universe). Barriers (Entezari) are those of "
    "the loss on test images at 25 points of the line between the second and the third. Weak "
    "connectivity is that with a permutation for the pair, strong connectivity that with one for "
    "each network; the gap is what the way through the first one has more than the direct one. The "
    "barrier of the simplex is the most by which the loss of a weighted mean of all three exceeds "
    "the mean of their losses with the same weights, on a grid of 12 intervals along each edge.",
    source="Sharma et al., arXiv:2404.06498; Crisostomi et al., arXiv:2405.17897",
    scales={
        "quick": {
            "task": "digits",
            "seeds": 3,
            "images": IMAGES,
            "network": "mlp",
            "depth": 3,
            "widths": [16, 32, 64, 128, 256],
            "recipe": QUICK_RECIPE,
        },
        "paper": {
            "task": "cifar10",
            "seeds": 3,
            "images": None,
            "network": "resnet-layernorm",
            "depth": 3,
            "widths": [1, 2, 4, 8, 16, 32],
            "recipe": PAPER_RECIPE,
        },
    },
    cells=_cells,
    measure=_measure,
    columns=(
        Column("width", "width", key=True),
        Column("loss", "loss of an end"),
        Column("naive", "B to C, naive"),
        Column("direct", "B to C, direct"),
        Column("through", "B to C, through A"),
        Column("universe", "B to C, universe"),
        Column("gap", "gap through A"),
        Column("gap_universe", "gap, universe"),
        Column("to_reference", "A to B and C"),
        Column("simplex_naive", "simplex, naive"),
        Column("simplex", "simplex, through A"),
        Column("simplex_universe", "simplex, universe"),
    ),
    findings=_findings,
    picture=Picture(
        x="width",
        x_label="width",
        y_label=BARRIER,
        series=(
            Series("naive", "B to C, naive"),
            Series("direct", "B to C, direct"),
            Series("through", "B to C, through A"),
            Series("universe", "B to C, universe"),
            Series("simplex", "simplex, through A"),
        ),
        log_x=True,
    ),
)
