"""Networks of two halves of the data, merged, beside everything simpler than merging."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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
from rebasin_hub.experiments.lines import IMAGES, PAPER_RECIPE, QUICK_RECIPE
from rebasin_hub.experiments.words import nats, percent

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab
    from rebasin_hub.training import Subset

__all__ = ["SPLIT", "corrected", "prior_of", "subset_of"]

END, CORRECTED = "an end", "an end, corrected"
ENSEMBLE, ENSEMBLE_CORRECTED = "ensemble", "ensemble, corrected"
NAIVE, MATCHED, ALL = "merge, naive", "merge, matched", "all data"
RECOMPUTED = "merge, matched, recomputed"
MERGES: Mapping[str, tuple[bool, str | None]] = {
    NAIVE: (False, None),
    f"{NAIVE}, REPAIR": (False, "repair"),
    MATCHED: (True, None),
    RECOMPUTED: (True, "recompute"),
    f"{MATCHED}, REPAIR": (True, "repair"),
}
"""Whether the second network is aligned, and how the mean is repaired."""
PLAIN = tuple(name for name in MERGES if name != RECOMPUTED)
"""Merges that every network has."""
WITH_STATISTICS = frozenset({"resnet", "vgg16"})
"""Networks that keep running statistics, which can be recomputed."""
UNSEEN = 0.5
"""Images that a class without any counts as: of a prior of zero there is no logarithm."""

Logits = NDArray[np.floating]
Labels = NDArray[np.int64]


def prior_of(labels: Labels, classes: int) -> NDArray[np.float64]:
    """Return the share of each class among labels, (classes,).

    A class without images counts as half an image, so that its logarithm is finite; the shares then
    sum to a little more than one, which no softmax sees.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    return np.where(counts == 0, UNSEEN, counts) / len(labels)


def corrected(
    logits: Logits, trained: NDArray[np.float64], tested: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the logits of a network under another class prior.

    By Bayes's rule p(y|x) ∝ p(x|y)·p(y), so that logits z of a network trained under the prior
    `trained` become z − log trained + log tested.

    Args:
        logits: (samples, classes).
        trained: (classes,), above zero.
        tested: (classes,), above zero.

    Source: Saerens et al., Neural Computation 14 (2002), eq. 2.4.

    """
    return np.asarray(logits, np.float64) - np.log(trained) + np.log(tested)


def subset_of(cell: Cell, number: int, classes: int) -> Subset:
    """Return what half `number` of a cell is: half 0 favours the first half of the classes.

    Of `images` in all each half has as many as the other at most.
    """
    from rebasin_hub.training import Half, Subset

    half = Half(number, tuple(range(classes // 2)), cell["share"])
    most = cell["images"]
    return Subset(half=half, first=None if most is None else most // 2, seed=cell["seeds"][0])


def _cells(settings: Settings) -> list[Cell]:
    network = settings["network"]
    models = [END, CORRECTED, *MERGES, ENSEMBLE, ENSEMBLE_CORRECTED, ALL]
    if network not in WITH_STATISTICS:
        models.remove(RECOMPUTED)
    return [
        {
            "network": network,
            "depth": settings["depth"],
            "width": settings["width"],
            "images": settings["images"],
            "share": share,
            "model": model,
            "seeds": pair,
            **({} if number is None else {"half": number}),
            "recipe": settings["recipe"],
        }
        for share in settings["shares"]
        for model in models
        for pair in pairs(settings["seeds"])
        for number in ((0, 1) if model in {END, CORRECTED} else (None,))
    ]


def _measure(lab: Lab, cell: Cell) -> Facts:
    from rebasin_hub.experiments.merges import merged, score_of

    model = cell["model"]
    if model == ALL:
        return score_of(lab, [lab.network(cell, seed=cell["seeds"][0]).path])
    ends = _ends(lab, cell)
    lab.tell(f"measuring {model}")
    if model in MERGES:
        align, repair = MERGES[model]
        with TemporaryDirectory() as folder:
            output = Path(folder) / "merged.safetensors"
            return score_of(lab, [merged(lab, ends, output, align=align, repair=repair)])
    numbers = [cell["half"]] if "half" in cell else [0, 1]
    if model in {CORRECTED, ENSEMBLE_CORRECTED}:
        return _score_corrected(lab, cell, ends, numbers)
    return score_of(lab, [ends[number] for number in numbers])


def _ends(lab: Lab, cell: Cell) -> list[Path]:
    """Train both ends: each half has a seed of its own."""
    return [
        lab.network(cell, seed=seed, subset=subset_of(cell, number, lab.classes)).path
        for number, seed in enumerate(cell["seeds"])
    ]


def _score_corrected(lab: Lab, cell: Cell, ends: Sequence[Path], numbers: Sequence[int]) -> Facts:
    """Score the mean of the corrected logits of some ends."""
    from rebasin_hub.experiments.measure import logits_of
    from rebasin_hub.experiments.merges import score
    from rebasin_hub.training.images import read_samples

    all_labels = read_samples(lab.task, lab.data)["train"].labels
    found = []
    for number in numbers:
        logits, labels = logits_of([ends[number]], lab.measurement())
        _, seen = subset_of(cell, number, lab.classes).choose(all_labels)
        trained, tested = prior_of(seen, lab.classes), prior_of(labels, lab.classes)
        found.append(corrected(logits, trained, tested))
    return score(np.mean(found, axis=0), labels)


def _findings(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:  # noqa: ARG001
    said = []
    for share in dict.fromkeys(row["share"] for row in table):
        here = {row["model"]: row for row in table if row["share"] == share}
        merge = _best(here[name] for name in MERGES if name in here)
        said.append(
            f"{_described(share)} an end has a mean loss of {_both(here[END])}, and corrected for "
            f"its class prior {_both(here[CORRECTED])}; the naive merge has {_both(here[NAIVE])}, "
            f"the matched one {_both(here[MATCHED])}, the ensemble {_both(here[ENSEMBLE])} "
            f"(corrected {_both(here[ENSEMBLE_CORRECTED])}), and one network of all data "
            f"{_both(here[ALL])}. {_verdict(merge, here)} {_aligning(here)}"
        )
    return said


def _described(share: float) -> str:
    if share == 1:
        return "With halves that have no class in common"
    return f"With {round(100 * share)}/{round(100 * (1 - share))} halves"


def _both(row: Row) -> str:
    return f"{nats(row['loss'])} ({percent(row['error'])} error)"


def _best(rows: Iterable[Row], name: str = "loss") -> Row:
    return min(rows, key=lambda row: float("inf") if row[name] is None else row[name])


def _verdict(merge: Row, here: Mapping[str, Row]) -> str:
    """Say whether the best merge is worth it: against the ends, the correction, the ensemble."""
    others = (
        (END, "the ends as they are"),
        (CORRECTED, "a mere correction of one end's prior"),
        (ENSEMBLE, "the ensemble"),
    )
    parts = [f"{_compared(merge, here[name])} {words}" for name, words in others]
    return f"The best merge, `{merge['model']}` with {_both(merge)}, is {', '.join(parts)}."


def _compared(one: Row, other: Row) -> str:
    better = [_less(one[name], other[name]) for name in ("loss", "error")]
    if better == [True, False]:
        return "better in the loss alone than"
    if better == [False, True]:
        return "better in the error alone than"
    return "better than" if all(better) else "not better than"


def _aligning(here: Mapping[str, Row]) -> str:
    """Say what matching is worth: without REPAIR, and with it."""
    plain, repaired = (
        _compared(here[f"{MATCHED}{repair}"], here[f"{NAIVE}{repair}"])
        for repair in ("", ", REPAIR")
    )
    return f"The matched merge is {plain} the naive one, and with REPAIR {repaired} it."


def _less(one: float | None, other: float | None) -> bool:
    return one is not None and (other is None or one < other)


SPLIT = Experiment(
    name="split",
    title="Two halves of the data",
    question="Is a merge of two networks that have seen different data better than what costs less "
    "than merging: one of them corrected for its class prior?",
    protocol="The training images are dealt into two halves: the first one has the given share of "
    "the images of the first half of the classes, and the rest of the others, so that 0.5 favours "
    "none and with 1 they have no class in common. A network of its own seed is trained on each, "
    "and one on all images (as many epochs, thus twice the steps). On test images of all classes "
    "are measured: each end; each end corrected for its class prior (its logits less the logarithm "
    "of the shares of the classes in its training images, plus that of their shares in the test "
    "images, both counted exactly; a class that it has never seen counts as half an image); the "
    "merges with equal weights as numbered and after weight matching of the second to the first, "
    "as they are and with statistics recomputed or REPAIR, measured on training images of both "
    "halves; the ensemble (mean of the logits), of the ends and of the corrected ends; and the "
    "network of all data.",
    source="Ainsworth et al., arXiv:2209.04836, section 5.4; Jordan et al., arXiv:2211.08403",
    scales={
        "quick": {
            "task": "digits",
            "seeds": 3,
            "images": IMAGES,
            "network": "mlp",
            "depth": 3,
            "width": 256,
            "shares": [0.5, 0.8, 1.0],
            "recipe": QUICK_RECIPE,
        },
        "paper": {
            "task": "cifar10",
            "seeds": 2,
            "images": None,
            "network": "resnet",
            "depth": 3,
            "width": 8,
            "shares": [0.5, 0.8, 1.0],
            "recipe": PAPER_RECIPE,
        },
    },
    cells=_cells,
    measure=_measure,
    columns=(
        Column("share", "share of a half's own classes", key=True),
        Column("model", "model", key=True),
        Column("loss", "loss"),
        Column("error", "error", percent=True),
        Column("temperature", "best temperature"),
        Column("loss_tempered", "loss there"),
    ),
    findings=_findings,
    picture=Picture(
        x="share",
        x_label="share of the images of a half's own classes that it has",
        y_label="test loss (nats)",
        series=tuple(
            Series("loss", model, {"model": model})
            for model in (END, CORRECTED, *PLAIN, ENSEMBLE, ALL)
        ),
        log_y=True,
    ),
)
