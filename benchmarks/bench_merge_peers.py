"""A linear merge by `rebasin-hub merge` is mergekit's up to rounding, in less time and memory.

Both programs run the same YAML recipe, without alignment, on the same two sharded Llama-shaped
checkpoints with random weights (seeds 0 and 1), as whole processes in turn. Seconds and peak memory
(ru_maxrss, with the imports) are those of the process. Each result is then given to mergekit as an
input, and loaded in transformers. mergekit lives in an environment of its own in the cache folder.

    python benchmarks/bench_merge_peers.py [--repeats N]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from _record import record
from data import cache
from numpy.typing import NDArray

from rebasin_hub.formats import open_checkpoint

MERGEKIT = "mergekit==0.1.5"
CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"
REPEATS = 5
SHAPE = {
    "vocab_size": 32000,
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 12,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": False,
}
CASES: Mapping[str, tuple[str, tuple[float, float]]] = {
    "float32, halves": ("float32", (0.5, 0.5)),
    "bfloat16, 0.7 and 0.3": ("bfloat16", (0.7, 0.3)),
}
WATCHED = (
    "import json, resource, subprocess, sys, time; start = time.perf_counter(); "
    "done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE); "
    "done.returncode and sys.exit(done.stderr.decode()[-2000:]); "
    "print(json.dumps({'seconds': time.perf_counter() - start, "
    "'peak_mb': resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1000}))"
)


def mergekit() -> Path:
    """Return mergekit's command, after making its environment if it is not there."""
    folder = cache() / "environments" / MERGEKIT.replace("==", "-")
    command = folder / "bin" / "mergekit-yaml"
    if not command.exists():
        venv.create(folder, clear=True, with_pip=True)
        install = ["-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS), MERGEKIT]
        subprocess.run([str(folder / "bin" / "python"), *install], check=True)
    return command


def models(dtype: str) -> list[Path]:
    """Return two checkpoints of random weights in several shards, made once."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folders = [cache() / "merge" / f"llama-{dtype}-s{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        if not (folder / "config.json").exists():
            torch.manual_seed(seed)
            model = LlamaForCausalLM(LlamaConfig(**SHAPE)).to(getattr(torch, dtype))
            model.save_pretrained(folder, max_shard_size="300MB")
    return folders


def recipe(path: Path, inputs: Sequence[Path], dtype: str, weights: Sequence[float]) -> Path:
    """Write what both programs read; mergekit passes over `rebasin`."""
    entries = [
        {"model": str(model.resolve()), "parameters": {"weight": weight}}
        for model, weight in zip(inputs, weights, strict=True)
    ]
    content = {
        "models": entries, "merge_method": "linear", "dtype": dtype, "rebasin": {"align": False},
    }  # fmt: skip
    path.write_text(json.dumps(content), encoding="utf-8")  # YAML holds JSON
    return path


def run(command: Sequence[str]) -> dict[str, float]:
    """Run a command; return its wall seconds and its peak memory in MB."""
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, *command],
        check=False, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def compared(ours: Path, theirs: Path) -> dict[str, object]:
    """Count the elements in which two checkpoints differ."""
    differing, largest, elements = 0, 0.0, 0
    with open_checkpoint(ours) as a, open_checkpoint(theirs) as b:
        for name in a.header:
            away = np.abs(_wide(a.read(name)) - _wide(b.read(name)))
            differing += int(np.count_nonzero(away))
            largest = max(largest, float(away.max()))
            elements += away.size
        same_names = set(a.header) == set(b.header)
    return {
        "same_names": same_names,
        "elements": elements,
        "differing": differing,
        "max_abs_difference": largest,
    }


def rounded(merged: Path, inputs: Sequence[Path], weights: Sequence[float]) -> dict[str, object]:
    """Count the elements of a merge that are not the nearest to the sum in float64."""
    off, largest = 0, 0.0
    with ExitStack() as stack:
        m, a, b = (stack.enter_context(open_checkpoint(path)) for path in (merged, *inputs))
        for name in m.header:
            found = m.read(name)
            exact = weights[0] * _wide(a.read(name)) + weights[1] * _wide(b.read(name))
            off += int(np.count_nonzero(found != exact.astype(found.dtype)))
            largest = max(largest, float(np.abs(_wide(found) - exact).max()))
    return {"not_nearest": off, "max_abs_error": largest}


def _wide(array: NDArray[np.generic]) -> NDArray[np.float64]:
    return array.astype(np.float64)


def loads(folder: Path) -> bool:
    """Tell whether transformers loads every weight of a directory, and adds none of its own."""
    from transformers import LlamaForCausalLM

    _, information = LlamaForCausalLM.from_pretrained(folder, output_loading_info=True)
    return not any(information.values())


def case(label: str, repeats: int, folder: Path) -> dict[str, object]:
    """Merge two models by both programs in turn, and compare what they wrote."""
    dtype, weights = CASES[label]
    inputs = models(dtype)
    folder.mkdir()
    ours, theirs, again = folder / "ours", folder / "theirs", folder / "again"
    content = str(recipe(folder / "recipe.yaml", inputs, dtype, weights))
    plain = ["--no-copy-tokenizer", "--no-write-model-card"]  # there is no tokenizer
    program = [sys.executable, "-m", "rebasin_hub"]
    commands = {
        "rebasin-hub": (ours, [*program, "merge", content, "-o", str(ours)]),
        "mergekit": (theirs, [str(mergekit()), content, str(theirs), *plain]),
    }
    measured: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, (out, command) in commands.items():
            shutil.rmtree(out, ignore_errors=True)
            measured[name].append(run(command))
    figures = {
        name: {
            key: statistics.median(figure[key] for figure in found)
            for key in ("seconds", "peak_mb")
        }
        for name, found in measured.items()
    }
    same = compared(ours, theirs)
    # All of ours and nothing of another one: mergekit refuses the same input twice.
    take_ours = str(recipe(folder / "again.yaml", (ours, inputs[0]), dtype, (1.0, 0.0)))
    run([str(mergekit()), take_ours, str(again), *plain])
    print(f"{label}: {figures}; {same}")
    return {
        "case": label,
        "gigabytes_each": sum(f.stat().st_size for f in inputs[0].iterdir()) / 1e9,
        "median": figures,
        "compared": same,
        "rounding": {name: rounded(out, inputs, weights) for name, (out, _) in commands.items()},
        "mergekit_takes_ours": compared(ours, again),
        "transformers_loads_ours": loads(ours),
        "repeats": measured,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    repeats = parser.parse_args().repeats
    mergekit()
    with tempfile.TemporaryDirectory(dir=cache()) as name:
        results = [case(label, repeats, Path(name) / label.split(",")[0]) for label in CASES]
    claim = str(__doc__).splitlines()[0]
    settings = {"mergekit": MERGEKIT, "shape": SHAPE, "seeds": [0, 1], "repeats": repeats}
    record("merge_peers", claim, {"settings": settings, "cases": results})


if __name__ == "__main__":
    main()
