"""Inference without its certificate takes time in proportion to the number of operators.

GPT-2 decoders that differ in their number of layers alone are exported by torch.export, labels flow
through the operators, and the spec is written; each stage in seconds of processor time, the middle
one of the repeats. `export` is torch's part; `rules`, `layout` and `text` are ours. `exponent` is
the slope of our part against the operators on a logarithmic scale, from the second smallest model
to the largest: 1 is proportional.

    OMP_NUM_THREADS=1 python benchmarks/bench_inference.py [--layers 4 12 36 100]
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import transformers
from _record import record

from rebasin_hub.infer import find_layout, run_rules
from rebasin_hub.infer.exported import export_module, graph_of
from rebasin_hub.infer.fold import fold
from rebasin_hub.infer.text import write_spec

LAYERS = (4, 12, 36, 100)
REPEATS = 3
SEED = 0


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def model(layers: int) -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    """Return a narrow decoder and its tokens."""
    torch.manual_seed(SEED)
    config = transformers.GPT2Config(
        n_embd=12,
        n_head=3,
        n_inner=17,
        n_layer=layers,
        n_positions=11,
        vocab_size=19,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
        attn_implementation="eager",
    )
    tokens = torch.randint(19, (2, 9), generator=torch.Generator().manual_seed(SEED))
    return transformers.GPT2LMHeadModel(config).eval(), {"input_ids": tokens}


def measured(layers: int) -> dict[str, object]:
    module, inputs = model(layers)
    export, program = timed(lambda: export_module(module, inputs, "gpt2"))
    graph = graph_of(program, module.state_dict(keep_vars=True), "gpt2")
    times: dict[str, list[float]] = {"rules": [], "layout": [], "text": []}
    for _ in range(REPEATS):
        seconds, flow = timed(lambda: run_rules(graph))
        times["rules"].append(seconds)
        seconds, layout = timed(lambda flow=flow: find_layout(flow))
        times["layout"].append(seconds)
        seconds, written = timed(lambda it=layout: write_spec(it, fold(it), "gpt2", "gpt2"))
        times["text"].append(seconds)
    return {
        "layers": layers,
        "operators": len(graph.nodes),
        "permutations": len(layout.groups),
        "lines": len(written.folded.lines),
        "export": export,
        **{stage: statistics.median(found) for stage, found in times.items()},
        "ours": sum(statistics.median(found) for found in times.values()),
        "repeats": times,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--layers", type=int, nargs="+", default=LAYERS)
    rows: list[dict[str, Any]] = []
    for layers in parser.parse_args().layers:
        rows.append(measured(layers))
        print({k: v for k, v in rows[-1].items() if k != "repeats"}, file=sys.stderr)
    small, large = rows[min(1, len(rows) - 1)], rows[-1]
    growth = math.log(large["operators"] / small["operators"])
    exponent = math.log(large["ours"] / small["ours"]) / growth if growth else None
    settings = {"seed": SEED, "repeats": REPEATS, "exponent": exponent}
    print(record("inference", str(__doc__).splitlines()[0], {**settings, "curve": rows}))


if __name__ == "__main__":
    main()
