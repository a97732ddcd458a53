"""A universe brings 3 to 7 MLPs nearer together on average than merge-many, without cycle error.

Networks of one hidden size are trained on the digits that come with the program, from one seed
each. Each strategy aligns them; measured are how far they are from their mean, the barrier of that
mean (its loss above the mean loss of the members), and the mean of all pairs' midpoint barriers,
on the test split. `copies` are renumbered copies of one network, which have to come back exactly.

    python benchmarks/bench_many.py [--widths 32 128] [--counts 3 5 7] [--repeats 3]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack

import numpy as np
import torch
from _record import record
from data import cache

from rebasin_hub.align.many import Aligner, align_many, pairwise, spread
from rebasin_hub.bind import Binding
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.pipeline.merging.joint import aligner
from rebasin_hub.pipeline.models import AUTOMATIC, Model, open_like, open_model
from rebasin_hub.rearrange import Read, rearranged
from rebasin_hub.tasks import Options
from rebasin_hub.tasks.find import find_task
from rebasin_hub.tasks.task import Network
from rebasin_hub.training import Classifier, Recipe

STRATEGIES = ("naive", "reference", "hierarchical", "merge-many", "universe")
RECIPE = Recipe(epochs=40, batch=64)
TASK = "digits"


def classifier(width: int, seed: int) -> Classifier:
    widths = {"widths": [64, width, width, width, 10]}
    return Classifier(f"digits-w{width}", "MLP", widths, RECIPE, task=TASK, seed=seed)


def weight_matching(binding: Binding, seed: int) -> Aligner:
    return aligner(binding, Matching(device="cpu", seed=seed), None)


def barriers(network: Network, reads: Sequence[Read]) -> dict[str, float]:
    """Return the barrier of the mean of all models, and the mean of their pairs' midpoints."""
    states = [network.state(read) for read in reads]

    def losses(mixed: Sequence[object]) -> list[float]:
        return [scores.loss for scores in network.score(mixed, "test", calibrate=False)]

    ends = losses(states)
    pairs = list(itertools.combinations(range(len(states)), 2))
    middles = losses([network.mix([states[p], states[q]], [0.5, 0.5]) for p, q in pairs])
    whole = network.mix(states, [1 / len(states)] * len(states))
    (scores,) = network.score([whole], "test", calibrate=False)
    return {
        "mean_barrier": scores.loss - statistics.fmean(ends),
        "mean_error": scores.error,
        "pair_barrier": statistics.fmean(
            middle - (ends[p] + ends[q]) / 2 for middle, (p, q) in zip(middles, pairs, strict=True)
        ),
    }


def measure(models: Sequence[Model], network: Network, seed: int) -> list[dict[str, object]]:
    """Align models by every strategy, and all pairs on their own."""
    binding, reads = models[0].binding, [model.read for model in models]
    rows: list[dict[str, object]] = []
    for strategy in STRATEGIES:
        begin, cycle, moved = time.perf_counter(), None, reads
        if strategy != "naive":
            joint = align_many(
                binding, reads, weight_matching(binding, seed), strategy=strategy, seed=seed
            )
            cycle = joint.cycle_error
            moved = [
                rearranged(binding, element, read)
                for element, read in zip(joint.elements, reads, strict=True)
            ]
        seconds = round(time.perf_counter() - begin, 3)
        found = {"spread": spread(binding, moved), **barriers(network, moved)}
        rows.append({"strategy": strategy, "cycle_error": cycle, "seconds": seconds, **found})
    pairs = pairwise(binding, reads, weight_matching(binding, seed))
    rows.append({"strategy": "pairwise", "cycle_error": pairs.cycle_error})
    return rows


def copies_recovered(model: Model, count: int, seed: int) -> bool:
    """Tell whether a universe of renumbered copies leads back to the model bit by bit."""
    binding, rng = model.binding, np.random.default_rng(seed)
    reads = [model.read] + [
        rearranged(binding, binding.group.random(rng), model.read) for _ in range(count - 1)
    ]
    joint = align_many(
        binding, reads, weight_matching(binding, seed), strategy="universe", seed=seed
    )
    return all(
        rearranged(binding, element, read)(name).tobytes() == model.read(name).tobytes()
        for element, read in zip(joint.elements, reads, strict=True)
        for name in binding.header
    )


def condition(width: int, count: int, repeat: int) -> list[dict[str, object]]:
    """Train the models of one repeat and measure them."""
    seeds = range(repeat * count, (repeat + 1) * count)
    paths = [classifier(width, seed).trained(cache() / "checkpoints").path for seed in seeds]
    with ExitStack() as stack:
        first = stack.enter_context(open_model(paths[0], AUTOMATIC))
        models = [first, *(stack.enter_context(open_like(path, first)) for path in paths[1:])]
        network = find_task(TASK, Options()).network(first.subject, "cpu")
        rows = measure(models, network, repeat)
        exact = copies_recovered(first, count, repeat)
    common = {"width": width, "models": count, "repeat": repeat}
    return [*({**common, **row} for row in rows), {**common, "strategy": "copies", "exact": exact}]


def summarized(rows: Sequence[dict[str, object]]) -> dict[str, dict[str, float]]:
    """Return the mean of every figure over the repeats, for each strategy."""
    summary: dict[str, dict[str, float]] = {}
    for strategy in dict.fromkeys(str(row["strategy"]) for row in rows):
        own = [row for row in rows if row["strategy"] == strategy]
        keys = own[0].keys() - {"width", "models", "repeat", "strategy"}
        summary[strategy] = {
            key: statistics.fmean(float(row[key]) for row in own)  # type: ignore[arg-type]
            for key in sorted(keys)
            if own[0][key] is not None
        }
    return summary


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 128])
    parser.add_argument("--counts", type=int, nargs="+", default=[3, 5, 7])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)  # these networks are too small for more
    repeats: list[dict[str, object]] = []
    summary: dict[str, object] = {}
    for width, count in itertools.product(options.widths, options.counts):
        rows = [row for r in range(options.repeats) for row in condition(width, count, r)]
        repeats += rows
        summary[f"width {width}, {count} models"] = of_strategy = summarized(rows)
        for strategy, figures in of_strategy.items():
            shown = ", ".join(f"{key} {value:.4g}" for key, value in figures.items())
            print(f"width {width}, {count} models, {strategy}: {shown}", flush=True)
    settings = {**vars(options), "recipe": vars(RECIPE), "seed": "repeat"}
    record(
        "many",
        str(__doc__).splitlines()[0],
        {"settings": settings, "summary": summary, "repeats": repeats},
    )


if __name__ == "__main__":
    main()
