"""Which method of aligning gives the best midpoint of two narrow ResNet-20 with BatchNorm.

Two networks from two seeds on CIFAR-10, of width 1, where weight matching alone fails. `quick`
trains each for ten epochs (most of an hour of one core) and measures 5,000 test images; `paper`
for a hundred, on a GPU, and measures all. Methods are chained: each starts where the one before
ended, and sees training images only. The midpoint is measured as is, with BatchNorm's statistics
recomputed, and with REPAIR, on statistics of 5,000 training images.

    python benchmarks/bench_residual_methods.py [--scale paper] [--device cuda] [--width N]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from _record import record
from data import cache, data

from rebasin_hub.align import RESTARTS, Watch
from rebasin_hub.pipeline.barrier.repairs import Repairs
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.pipeline.models import AUTOMATIC, Model, open_like, open_model
from rebasin_hub.rearrange import rearranged
from rebasin_hub.tasks import Network, Options, State
from rebasin_hub.tasks.find import find_task
from rebasin_hub.training import Classifier, Recipe

CHAINS: tuple[tuple[str, ...], ...] = (
    ("identity",),
    ("weight",),
    ("frank-wolfe",),
    ("activation",),
    ("activation:similarity=inner",),
    ("blend:share=0.2",),
    ("blend",),
    ("blend:share=0.8",),
    ("activation", "weight"),
    ("activation", "straight-through:steps=60,batch=128"),
    ("activation", "sinkhorn:loss=midpoint,steps=60,batch=128"),
)
ONE_CYCLE = {"optimizer": "sgd", "rate": 0.2, "one_cycle": True, "augment": True}
QUICK = {
    1: Recipe(epochs=10, **ONE_CYCLE),
    2: Recipe(epochs=10, precision="bfloat16", **ONE_CYCLE),
    4: Recipe(epochs=6, precision="bfloat16", **ONE_CYCLE),
}
"""What two cores train in an hour, by width: those with AMX are four times as fast in bfloat16."""
PAPER = Recipe(epochs=100, batch=256, optimizer="sgd", rate=0.2, one_cycle=True, augment=True)
LIMIT = {"quick": 5000, "paper": None}
PUBLISHED = {1: 0.676, 2: 0.855, 4: 0.921, 8: 0.944, 16: 0.954, 32: 0.960}
"""Midpoint accuracies after activation matching and REPAIR, by width (arXiv:2211.08403)."""
SAMPLES = 5000


def classifier(scale: str, width: int, seed: int) -> Classifier:
    return Classifier(
        "cifar10-resnet20" + (f"-x{width}" if width > 1 else ""),
        "CifarResNet",
        {"depth": 3, "width": width, "shortcut": "B"},
        QUICK[width] if scale == "quick" else PAPER,
        task="cifar10",
        data=data("cifar10"),
        seed=seed,
    )


def chain(
    a: Model, b: Model, methods: Sequence[str], seen: tuple, device: str
) -> tuple[dict, list[float]]:
    """Return the element that a chain of methods finds, and the seconds of each."""
    element, seconds = None, []
    for method in methods:
        matching = Matching(method, device)
        started = time.perf_counter()
        found = matching.search(
            b.binding,
            a.read,
            b.read,
            evidence=matching.evidence(b, seen),
            watch=Watch(),
            start=element,
            restarts=RESTARTS,
        )
        element = found.element
        seconds.append(round(time.perf_counter() - started, 2))
    assert element is not None
    return element, seconds


def accuracies(network: Network, repairs: Repairs, ends: Sequence[State]) -> Iterator[tuple]:
    half = [0.5, 0.5]
    treated = {
        "as is": lambda: network.mix(ends, half),
        "recomputed": lambda: repairs.recompute(ends, half),
        "repair": lambda: repairs.repair(ends, half),
    }
    for name, state in treated.items():
        (scores,) = network.score([state()], "test", calibrate=False)
        yield name, round(1 - scores.error, 4)


def run(paths: Sequence[Path], scale: str, device: str) -> tuple[list[dict], list[float]]:
    with ExitStack() as stack:
        a = stack.enter_context(open_model(paths[0], AUTOMATIC))
        b = stack.enter_context(open_like(paths[1], a))
        task = find_task("cifar10", Options(data=data("cifar10"), limit=LIMIT[scale]))
        network = task.network(a.subject, device)
        repairs = Repairs(network, SAMPLES, seed=0)
        state_a, state_b = network.state(a.read), network.state(b.read)
        scored = network.score([state_a, state_b], "test", calibrate=False)
        ends = [round(1 - scores.error, 4) for scores in scored]
        rows = []
        for methods in CHAINS:
            element, seconds = chain(a, b, methods, (task, network), device)
            moved = network.state(rearranged(b.binding, element, b.read))
            row = {"methods": methods, **dict(accuracies(network, repairs, [state_a, moved]))}
            rows.append({**row, "seconds": seconds})
            print(rows[-1], flush=True)
    return rows, ends


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--scale", choices=("quick", "paper"), default="quick")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, choices=tuple(PUBLISHED), default=1)
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)  # the order of sums, and with it the result, depends on it
    store = cache() / "checkpoints"
    trained = [
        classifier(arguments.scale, arguments.width, seed).trained(store, device=arguments.device)
        for seed in (0, 1)
    ]
    rows, ends = run([one.path for one in trained], arguments.scale, arguments.device)
    best = max(rows, key=lambda row: row["repair"])
    record(
        "residual_methods",
        str(__doc__).splitlines()[0],
        {
            "scale": arguments.scale,
            "width": arguments.width,
            "seeds": [0, 1],
            "device": arguments.device,
            "test_images": LIMIT[arguments.scale] or 10_000,
            "samples": SAMPLES,
            "ends": ends,
            "published": PUBLISHED[arguments.width],
            "best": {"methods": best["methods"], "repair": best["repair"]},
            "missing": round(PUBLISHED[arguments.width] - best["repair"], 4),
            "midpoint_accuracy": rows,
        },
    )


if __name__ == "__main__":
    main()
