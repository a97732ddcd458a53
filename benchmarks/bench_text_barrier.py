"""Perplexity on the line between two small GPT-2 from different seeds: alignment lowers its peak.

Both have four layers of 128 dimensions and contexts of 128 tokens, and the same tokenizer; they
are trained on the King James Bible in a few minutes of one core each, and measured on 250
windows of the parts of it that neither has seen.

    python benchmarks/bench_text_barrier.py [--device cuda]
"""

from __future__ import annotations

import argparse
import math

import torch
from _measure import column, figures, measured
from _record import record
from data import data
from language import LanguageModel

SEEDS = (0, 1)
WINDOWS = 250
"""Of 128 tokens, drawn from the test part."""
SHAPE = {"n_layer": 4, "n_embd": 128, "n_head": 4, "n_positions": 128}


def language_model(seed: int) -> LanguageModel:
    return LanguageModel(
        "kjv-gpt2", "kjv", SHAPE, vocabulary=1024, epochs=2, batch=16, rate=2e-3, seed=seed
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--device", default="cpu")
    device = parser.parse_args().device
    if device == "cpu":
        torch.set_num_threads(1)  # the order of sums, and with it the weights, depends on it
    trained = [language_model(seed).trained(device) for seed in SEEDS]
    a, b = (one.path for one in trained)
    line = measured(
        a, b, "text", data("kjv") / "test.txt", device=device, limit=WINDOWS, samples=WINDOWS
    )
    curves = {
        numbering: [
            None if loss is None else round(math.exp(loss), 3)
            for loss in column(line, numbering, "as is").loss
        ]
        for numbering in ("naive", "aligned")
    }
    for numbering, perplexity in curves.items():
        print(f"{numbering}: {' '.join(f'{p:.1f}' for p in perplexity if p is not None)}")
    print(line.verdict)
    record(
        "text_barrier",
        str(__doc__).splitlines()[0],
        {
            "settings": {
                **vars(language_model(0)),
                "seed": list(SEEDS),
                "windows": WINDOWS,
                "device": device,
            },
            "training": [{"test": t.log["test"], "seconds": t.log["seconds"]} for t in trained],
            "lambdas": line.lambdas,
            "perplexity": curves,
            "columns": figures(line),
            "verdict": line.verdict,
            "seconds": round(line.seconds, 2),
        },
    )


if __name__ == "__main__":
    main()
