"""Alignment leaves at most 0.05 of the test-loss barrier of MNIST MLPs from width 256 on.

Networks with three hidden layers of 16, 64, 256 and 512 units are trained on 5,000 images from
three seeds, ten at width 16, where pairs differ most; all pairs of each width, aligned by their
weights and by their activations, are measured on the 10,000 test images. `reference` are figures of
one trio of seeds, trained elsewhere by another recipe; `beyond` is by how much our mean is larger,
in nats: below zero it is better. `trios` is the share of our own trios of seeds whose mean is no
larger than the reference.

    python benchmarks/bench_mnist_width.py [--device cuda]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
from collections.abc import Sequence
from typing import Any

import torch
from _measure import column, figures, measured
from _record import record
from data import cache, data

from rebasin_hub.record import Record
from rebasin_hub.training import Classifier, Recipe, Trained

SEEDS = {16: range(3, 13), 64: range(3, 6), 256: range(3, 6), 512: range(3, 6)}
"""By width; the recipe was chosen by the barriers between seeds 0, 1 and 2."""
RECIPE = Recipe(epochs=20, batch=32)
METHODS = ("weight", "activation")
COLUMNS = ("naive", *METHODS)
REFERENCE = {
    16: (3.12, 0.91, 0.68),
    64: (1.87, 0.058, 0.129),
    256: (1.14, 0.0, 0.0),
    512: (0.66, 0.0, 0.0),
}
"""Barriers in the order of `COLUMNS`, by width."""


def classifier(width: int, seed: int) -> Classifier:
    widths = [784, width, width, width, 10]
    return Classifier(
        f"mnist-w{width}",
        "MLP",
        {"widths": widths},
        RECIPE,
        task="mnist",
        data=data("mnist-5000"),
        seed=seed,
    )


def pairs(width: int, trained: dict[int, Trained], device: str) -> list[dict[str, Any]]:
    """Measure every pair of one width."""
    found: list[dict[str, Any]] = []
    for i, j in itertools.combinations(trained, 2):
        lines = {
            method: measured(
                trained[i].path,
                trained[j].path,
                "mnist",
                data("mnist-5000"),
                method=method,
                device=device,
                treatments=("as is", "calibrated"),
                settings={"split": "test"},
            )
            for method in METHODS
        }
        barriers = {
            "naive": _barrier(lines["weight"], "naive"),
            **{method: _barrier(line, "aligned") for method, line in lines.items()},
        }
        print(f"width {width}, seeds {i} and {j}: {barriers}")
        found.append(
            {
                "width": width,
                "seeds": [i, j],
                **barriers,
                "seconds": {method: round(line.seconds, 2) for method, line in lines.items()},
                "columns": {method: figures(line) for method, line in lines.items()},
            }
        )
    return found


def _barrier(line: Record, numbering: str) -> float:
    return column(line, numbering, "as is").entezari.loss.value


def summary_of(width: int, of_width: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean barriers of a width beside the reference."""
    reference = dict(zip(COLUMNS, REFERENCE[width], strict=True))
    mean = {key: statistics.fmean(pair[key] for pair in of_width) for key in COLUMNS}
    beyond = {key: round(mean[key] - reference[key], 4) for key in COLUMNS}
    deviation = {key: statistics.stdev(pair[key] for pair in of_width) for key in COLUMNS}
    by_pair = {frozenset(pair["seeds"]): pair for pair in of_width}
    trios = [
        [by_pair[frozenset(pair)] for pair in itertools.combinations(trio, 2)]
        for trio in itertools.combinations(SEEDS[width], 3)
    ]
    reached = {
        key: statistics.fmean(
            statistics.fmean(pair[key] for pair in trio) <= reference[key] for trio in trios
        )
        for key in COLUMNS
    }
    return {
        "reference": reference,
        "mean": mean,
        "deviation": deviation,
        "beyond": beyond,
        "trios": reached,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    torch.set_num_threads(1)  # these networks are too small for more
    repeats: list[dict[str, Any]] = []
    summary, training = {}, []
    for width, seeds in SEEDS.items():
        store = cache() / "checkpoints"
        trained = {seed: classifier(width, seed).trained(store, device=device) for seed in seeds}
        training += [
            {"width": width, "seed": seed, "test": t.log["test"], "seconds": t.log["seconds"]}
            for seed, t in trained.items()
        ]
        of_width = pairs(width, trained, device)
        repeats += of_width
        summary[f"width {width}"] = summary_of(width, of_width)
        print(f"width {width}: {summary[f'width {width}']}")
    settings = {
        "seeds": {w: list(s) for w, s in SEEDS.items()},
        "recipe": vars(RECIPE),
        "device": device,
    }
    record(
        "mnist_width",
        str(__doc__).splitlines()[0],
        {"settings": settings, "summary": summary, "training": training, "repeats": repeats},
    )


if __name__ == "__main__":
    main()
