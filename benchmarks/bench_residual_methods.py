"""Which method of aligning gives the best midpoint of two narrow ResNet-20 with BatchNorm.

Two networks from two seeds on CIFAR-10, of widths 1, 2 or 4, where weight matching alone fails.
`quick` trains each for four to ten epochs (about an hour of one core) and measures some thousand
test images; `paper` for a hundred, on a GPU, and measures all. Methods are chained: each starts
where the one before ended. They see training images only, and so does what follows: the chain with
the least loss on 1,000 of them, at the midpoint, is given a λ for each layer, learned on training
images with a mean of one half. The midpoint is measured with BatchNorm's statistics recomputed,
and with REPAIR, on statistics of training images; with statistics as they are, nothing is left of
it. Features are collected once; seconds are those of the processor on a CPU.

    python benchmarks/bench_residual_methods.py [--width N] [--scale paper] [--device cuda]
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import torch
from _record import record
from data import cache, data

from rebasin_hub.align import RESTARTS, Evidence, Features, Watch
from rebasin_hub.evidence import evidence_of
from rebasin_hub.permute import Element
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.pipeline.merging.layerwise import Layered, select_layers
from rebasin_hub.pipeline.merging.measured import Measured, Meter
from rebasin_hub.pipeline.models import AUTOMATIC, Model, open_like, open_model
from rebasin_hub.rearrange import Read, rearranged
from rebasin_hub.repair import (
    StatisticsBatches,
    Targets,
    measure,
    recomputed,
    repaired,
    statistics_batches,
)
from rebasin_hub.tasks import Options, State
from rebasin_hub.tasks.find import find_task
from rebasin_hub.tasks.network import TorchNetwork
from rebasin_hub.training import Classifier, Recipe


@dataclass(frozen=True)
class Chain:
    """Methods one after another; `restarts` of those that have some."""

    methods: tuple[str, ...]
    restarts: int = RESTARTS

    def __str__(self) -> str:
        many = f", best of {self.restarts} starts" if self.restarts != RESTARTS else ""
        return " → ".join(self.methods) + many


MANY = 30
CORE = (Chain(("weight",)), Chain(("activation",)), Chain(("blend",), MANY))
SHORT = (
    Chain(("identity",)),
    *CORE,
    Chain(("blend",)),
    Chain(("frank-wolfe", "blend")),
)
LONG = (
    *SHORT,
    Chain(("activation", "blend")),
    Chain(("weight",), MANY),
    Chain(("frank-wolfe",)),
    Chain(("activation:similarity=inner",)),
    Chain(("functional",)),
    Chain(("blend:share=0.2",)),
    Chain(("blend:share=0.8",)),
    Chain(("activation", "weight")),
    Chain(("activation", "straight-through:steps=60,batch=128")),
    Chain(("activation", "sinkhorn:loss=midpoint,steps=60,batch=128")),
)


@dataclass(frozen=True)
class Effort:
    """What a run takes.

    limit: images of each split, None for all; samples: those that statistics are measured on.
    steps: of the search for λ.
    """

    limit: int | None = None
    samples: int = 5000
    steps: int = 60
    chains: tuple[Chain, ...] = LONG


QUICK_EFFORT = {
    1: Effort(5000, samples=2000, chains=SHORT),
    2: Effort(3000, samples=2000, steps=50, chains=CORE),
    4: Effort(1000, samples=1000, steps=30, chains=CORE),
}
"""What two cores take most of an hour for; a pass over 5,000 images takes 6, 15 and 50 seconds."""
ONE_CYCLE = {"optimizer": "sgd", "rate": 0.2, "one_cycle": True, "augment": True}
QUICK = {
    1: Recipe(epochs=10, **ONE_CYCLE),
    2: Recipe(epochs=10, precision="bfloat16", **ONE_CYCLE),
    4: Recipe(epochs=3, precision="bfloat16", **ONE_CYCLE),
}
"""What two cores train in an hour, by width: those with AMX are four times as fast in bfloat16."""
PAPER = Recipe(epochs=100, batch=256, optimizer="sgd", rate=0.2, one_cycle=True, augment=True)
PUBLISHED = {1: 0.676, 2: 0.855, 4: 0.921, 8: 0.944, 16: 0.954, 32: 0.960}
"""Midpoint accuracies after activation matching and REPAIR, by width (arXiv:2211.08403)."""
FIXED = 1000
"""Training images that chains are compared on."""
HALF = (0.5, 0.5)
Clock: TypeAlias = Callable[[], float]


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


class Remembering:
    """Evidence that keeps features: all chains look at the same, of both networks as stored."""

    def __init__(self, evidence: Evidence, clock: Clock) -> None:
        self._evidence, self._clock = evidence, clock
        self._known: dict[tuple[object, ...], tuple[Features, ...]] = {}
        self.seconds = 0.0

    def features(
        self, read_a: Read, read_b: Read, *, samples: int, seed: int, within: bool = False
    ) -> tuple[Features, ...]:
        """Return what is known, or collect it now."""
        key = (samples, seed, within)
        if key not in self._known:
            started = self._clock()
            self._known[key] = self._evidence.features(
                read_a, read_b, samples=samples, seed=seed, within=within
            )
            self.seconds += self._clock() - started
        return self._known[key]

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the rest of the evidence
        return getattr(self._evidence, name)


@dataclass(frozen=True, eq=False)
class Pair:
    """Two open networks with what is measured of them."""

    a: Model
    b: Model
    meter: Meter
    samples: int
    device: str

    @property
    def clock(self) -> Clock:
        """What seconds are: the processor's where it does the work, which is shared."""
        return time.process_time if self.device == "cpu" else time.perf_counter

    @property
    def network(self) -> TorchNetwork:
        """What runs both."""
        assert isinstance(self.meter.network, TorchNetwork)
        return self.meter.network

    @cached_property
    def evidence(self) -> Remembering:
        """What methods look at."""
        found = evidence_of(self.network, self.meter.task, self.b.binding)
        return Remembering(found, self.clock)

    @cached_property
    def batches(self) -> StatisticsBatches:
        """The images that statistics are measured on."""
        return statistics_batches(self.network, self.samples, seed=0)

    @cached_property
    def state_a(self) -> State:
        """The reference."""
        return self.network.state(self.a.read)

    @cached_property
    def targets_a(self) -> Targets:
        """What the reference's channels have."""
        return measure(self.network, self.state_a, self.batches)

    def ends(self) -> list[float]:
        """Return the accuracy of both."""
        return [self.accuracy(self.state_a), self.accuracy(self.network.state(self.b.read))]

    def accuracy(self, state: State) -> float:
        """Return the share of test images that a state gets right."""
        (scores,) = self.network.score([state], "test", calibrate=False)
        return round(1 - scores.error, 4)

    def align(self, chain: Chain) -> tuple[Element, list[float]]:
        """Return the element that a chain finds, and the seconds of each method."""
        element, seconds = None, []
        for method in chain.methods:
            started, collecting = self.clock(), self.evidence.seconds
            found = Matching(method, self.device).search(
                self.b.binding,
                self.a.read,
                self.b.read,
                evidence=self.evidence,
                watch=Watch(),
                start=element,
                restarts=chain.restarts,
            )
            element = found.element
            collected = self.evidence.seconds - collecting
            seconds.append(round(self.clock() - started - collected, 2))
        assert element is not None
        return element, seconds

    def moved(self, element: Element) -> Read:
        """Read the second network renumbered."""
        return rearranged(self.b.binding, element, self.b.read)

    def training_loss(self, element: Element) -> float:
        """Return the loss at the midpoint, normalized by the statistics of each batch."""
        state = self.network.mix([self.state_a, self.network.state(self.moved(element))], HALF)
        fixed = self.evidence.fixed(FIXED)
        with torch.no_grad():
            total = sum(len(x) * float(self.evidence.loss(state, x)) for x in fixed)
        return round(total / sum(map(len, fixed)), 4)

    def layered(self, element: Element, steps: int) -> Layered:
        """Find a λ for each layer."""
        readers = (self.a.read, self.moved(element))
        return select_layers(self.meter, self.a, readers, steps=steps)

    def accuracies(
        self, element: Element, weights: Mapping[str, tuple[float, ...]] | None = None
    ) -> dict[str, float]:
        """Return the accuracy of the mix under each treatment; of the midpoint by default."""
        network, b = self.network, self.network.state(self.moved(element))
        weights = weights or dict.fromkeys(b, HALF)
        mixed = {
            name: network.mix([{name: self.state_a[name]}, {name: b[name]}], weights[name])[name]
            for name in b
        }
        targets = [self.targets_a, measure(network, b, self.batches)]
        return {
            "recomputed": self.accuracy(recomputed(network, mixed, self.batches)),
            "repair": self.accuracy(repaired(network, mixed, targets, weights, self.batches)),
        }


@contextmanager
def opened(paths: Sequence[Path], effort: Effort, device: str) -> Iterator[Pair]:
    with open_model(paths[0], AUTOMATIC) as a, open_like(paths[1], a) as b:
        measured = Measured("cifar10", Options(data=data("cifar10"), limit=effort.limit))
        task = find_task(measured.task, measured.options)
        meter = Meter(measured, task, task.network(a.subject, device))
        yield Pair(a, b, meter, effort.samples, device)


def chains(pair: Pair, effort: Effort) -> Iterator[dict[str, Any]]:
    """Yield a row for each chain, and one for the best of them with a λ for each layer."""
    tried: list[tuple[float, Chain, Element]] = []
    for one in effort.chains:
        element, seconds = pair.align(one)
        tried.append((pair.training_loss(element), one, element))
        yield {
            **asdict(one),
            "training_loss": tried[-1][0],
            **pair.accuracies(element),
            "seconds": seconds,
        }
    _, one, element = min(tried, key=lambda row: row[0])
    started = pair.clock()
    layered = pair.layered(element, effort.steps)
    seconds = [round(pair.clock() - started, 2)]
    yield {
        **asdict(one),
        "layerwise": {
            "steps": effort.steps,
            "mean": layered.mean,
            "history": [round(x, 4) for x in layered.history],
            "shares": {layer: round(x, 3) for layer, x in layered.shares.items()},
        },
        **pair.accuracies(element, layered.weights(pair.a.header)),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--scale", choices=("quick", "paper"), default="quick")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, choices=tuple(PUBLISHED), default=1)
    arguments = parser.parse_args()
    scale, device, width = arguments.scale, arguments.device, arguments.width
    if scale == "quick" and width not in QUICK:
        parser.error(f"--width {width} takes --scale paper; quick has {', '.join(map(str, QUICK))}")
    if device == "cpu":
        torch.set_num_threads(1)  # the order of sums, and with it the result, depends on it
    networks = [classifier(scale, width, seed) for seed in (0, 1)]
    trained = [one.trained(cache() / "checkpoints", device=device) for one in networks]
    effort = QUICK_EFFORT[width] if scale == "quick" else Effort()
    rows = []
    with opened([one.path for one in trained], effort, device) as pair:
        ends = pair.ends()
        for row in chains(pair, effort):
            print(row, flush=True)
            rows.append(row)
    best = max(rows, key=lambda row: row["repair"])
    record(
        f"residual_methods_w{width}" + ("" if scale == "quick" else f"_{scale}"),
        str(__doc__).splitlines()[0],
        {
            "scale": scale,
            "width": width,
            "epochs": networks[0].recipe.epochs,
            "seeds": [0, 1],
            "device": device,
            "images": effort.limit or "all",
            "samples": effort.samples,
            "features_seconds": round(pair.evidence.seconds, 2),
            "ends": ends,
            "published": PUBLISHED[width],
            "best": {key: best[key] for key in ("methods", "restarts", "repair")}
            | {"layerwise": "layerwise" in best},
            "beyond": round(best["repair"] - PUBLISHED[width], 4),
            "midpoint_accuracy": rows,
        },
    )


if __name__ == "__main__":
    main()
