"""Two exact solutions that no permutation connects."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias

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
)
from rebasin_hub.experiments.words import percent

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab

__all__ = ["COUNTEREXAMPLE", "grid", "solutions"]

Weights: TypeAlias = dict[str, NDArray[np.float32]]
Array: TypeAlias = NDArray[np.float64]

TASK = f"{Path(__file__).with_name('threshold.py')}:Threshold"
SHARPNESS = 1000.0
"""How steep both solutions are: they err only where an input is within 1/1000 of 0."""
SWAPS = {
    "none": (False, False),
    "first layer": (True, False),
    "second layer": (False, True),
    "both layers": (True, True),
}


def solutions() -> tuple[Weights, Weights]:
    """Return two networks of widths 2-2-2-1 whose output is above 0 where x > 0 and y > 0.

    The first one computes 1 − 1000·(relu(−x) + relu(−y)), and the second one, which is made of
    relu(u) − relu(u − v) for u = relu(x) and v = relu(y), 1000·min(u, v) − 1.

    Why nothing connects them: their first layers are −I and I without biases, so that at the
    midpoint the first layer is zero, or, with its units swapped, it is ±(x − y)/2. A function of
    nothing, or of x − y alone, is wrong on at least a quarter of the square [−1, 1]²: given x − y,
    both inputs are above 0 in at most half of the cases. This holds whatever the second layer's
    order is, and whatever follows the first layer.
    """
    eye, zero, steep = np.eye(2), np.zeros(2), SHARPNESS * np.ones(2)
    minimum = np.array([[1.0, 0.0], [1.0, -1.0]])
    first = _network((-eye, zero), (eye, zero), (-steep, 1.0))
    second = _network((eye, zero), (minimum, zero), (steep * [1, -1], -1.0))
    return first, second


def _network(*layers: tuple[Array, Any]) -> Weights:
    """Name the layers; the last one has one output."""
    *hidden, (weights, bias) = layers
    return {
        f"layers.{number}.{kind}": np.asarray(array, np.float32)
        for number, layer in enumerate([*hidden, (weights[None], np.array([bias]))])
        for kind, array in zip(("weight", "bias"), layer, strict=True)
    }


def grid(points: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the middles of points × points cells of [−1, 1]², and the class of each."""
    middles = (2 * np.arange(points) + 1) / points - 1
    inputs = np.stack(np.meshgrid(middles, middles, indexing="ij"), -1).reshape(-1, 2)
    positive = (inputs[:, 0] > 0) & (inputs[:, 1] > 0)
    return inputs.astype(np.float32), positive.astype(np.int64)


def _cells(settings: Settings) -> list[Cell]:
    return [{"swapped": swapped, "grid": settings["grid"]} for swapped in SWAPS]


def _measure(lab: Lab, cell: Cell) -> Facts:
    from rebasin_hub.experiments.data import write_npz
    from rebasin_hub.experiments.measure import Measurement, line
    from rebasin_hub.formats import save_safetensors
    from rebasin_hub.pipeline.matching import Matching

    inputs, labels = grid(cell["grid"])
    data = write_npz(
        lab.folder / "data" / f"quadrant-{cell['grid']}.npz",
        {"inputs_test": inputs, "labels_test": labels},
    )
    lab.tell("measuring")
    with TemporaryDirectory() as name:
        folder = Path(name)
        a, b = folder / "a.safetensors", folder / "b.safetensors"
        for path, weights in zip((a, b), solutions(), strict=True):
            save_safetensors(path, weights)
        permutations = _swap(b, folder / "swap.safetensors", SWAPS[cell["swapped"]])
        measurement = Measurement(
            TASK, data, Matching(device="cpu"), treatments=("as is",), both_splits=True
        )
        found = line(a, b, measurement, permutations=permutations)
    return {
        "error_a": found["error_a"],
        "error_b": found["error_b"],
        "midpoint_error": found["aligned_midpoint_error"],
        "error_barrier": found["aligned_error"],
    }


def _swap(model: Path, output: Path, swapped: Sequence[bool]) -> Path:
    """Write the permutation file that swaps the two units of some layers."""
    from rebasin_hub.pipeline.models import AUTOMATIC, open_model
    from rebasin_hub.pipeline.write import Found
    from rebasin_hub.rearrange import rearranged

    with open_model(model, AUTOMATIC) as opened:
        names = opened.binding.group.factors
        element = {
            name: np.array([1, 0] if swap else [0, 1])
            for name, swap in zip(names, swapped, strict=True)
        }
        renumbered = opened.digest(rearranged(opened.binding, element, opened.read))
        Found(element, "chosen").file(opened, opened.digest(), renumbered).save(output)
    return output


def _findings(rows: Sequence[Row], table: Sequence[Row]) -> list[str]:  # noqa: ARG001
    ends = max(max(row["error_a"], row["error_b"]) for row in rows)
    least = min(row["midpoint_error"] for row in rows)
    return [
        f"The two networks err on at most {percent(ends)} of the points. Whichever of the four "
        f"permutations is chosen, the midpoint errs on at least {percent(least)}."
    ]


COUNTEREXAMPLE = Experiment(
    name="counterexample",
    title="Two solutions that no permutation connects",
    question="Does some permutation always connect two networks that solve the same task?",
    protocol="Two networks with two inputs, two hidden layers of two units and one output are "
    "written down, not trained. Both tell the points of [−1, 1]² with x > 0 and y > 0 "
    "from all others by the sign of the output: one by 1 − 1000·(relu(−x) + "
    "relu(−y)), the other by 1000·min(relu(x), relu(y)) − 1. Their hidden units have "
    "four renumberings in all. For each of them the error is measured at 25 points of "
    "the straight line between the networks, on a regular grid of points. At the "
    "midpoint the first layer is zero, or knows x − y alone, and either leaves at "
    "least a quarter of the square wrong. Task, size and threshold are those of the "
    "published pair, which has other weights and leaky units (slope 0.01); these here "
    "are such that the bound can be proved, and not only be measured.",
    source="after Ainsworth et al., arXiv:2209.04836, section 6",
    scales={"quick": {"task": None, "grid": 100}, "paper": {"task": None, "grid": 400}},
    cells=_cells,
    measure=_measure,
    columns=(
        Column("swapped", "units swapped in", key=True),
        Column("error_a", "error of A", percent=True),
        Column("error_b", "error of B", percent=True),
        Column("midpoint_error", "error of the midpoint", percent=True),
        Column("error_barrier", "barrier of the error", percent=True),
    ),
    findings=_findings,
    version=2,
    picture=Picture(
        x="swapped",
        x_label="units swapped in",
        y_label="error rate",
        series=(
            Series("midpoint_error", "midpoint"),
            Series("error_a", "A"),
            Series("error_b", "B"),
        ),
    ),
)
