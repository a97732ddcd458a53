"""How long workers take to align all pairs of 8 models; all of them find the same bytes.

`rebasin-hub align-many --strategy pairwise` with 8 multilayer perceptrons of random weights, as
whole processes in turn: by this process (no option), by one worker, by two, and where ray is
installed on a Ray cluster of this machine. Every folder of permutation files is compared with the
first one, byte by byte.

    python benchmarks/bench_spread.py [--width 512] [--repeats 3]
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _record import record

from rebasin_hub.formats import save_safetensors

MODELS = 8
WAYS = {
    "one process": (),
    "1 worker": ("--engine", "local", "--workers", "1"),
    "2 workers": ("--workers", "2"),
    "ray, 2 CPUs": ("--engine", "ray", "--workers", "2"),
}


def mlp(width: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = [64, width, width, width, 10]
    tensors: dict[str, np.ndarray] = {}
    for layer, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        matrix = rng.standard_normal((outputs, inputs)) / np.sqrt(inputs)
        tensors[f"layers.{layer}.weight"] = matrix.astype(np.float32)
        tensors[f"layers.{layer}.bias"] = rng.standard_normal(outputs).astype(np.float32)
    return tensors


def align(models: list[Path], output: Path, options: tuple[str, ...]) -> float:
    command = [sys.executable, "-m", "rebasin_hub", "align-many", *map(str, models)]
    begin = time.perf_counter()
    subprocess.run(
        [*command, "--strategy", "pairwise", "--device", "cpu", "-o", str(output), *options],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    return time.perf_counter() - begin


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    ways = dict(WAYS)
    if importlib.util.find_spec("ray") is None:
        del ways["ray, 2 CPUs"]
    repeats: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        models = [folder / f"m{seed}.safetensors" for seed in range(MODELS)]
        for seed, path in enumerate(models):
            save_safetensors(path, mlp(options.width, seed))
        for repeat in range(options.repeats):
            for way, arguments in ways.items():
                output = folder / f"{way} {repeat}"
                seconds = align(models, output, arguments)
                same = contents(output) == contents(folder / "one process 0")
                load = round(os.getloadavg()[0], 1)
                repeats.append(
                    {"way": way, "repeat": repeat, "seconds": seconds, "same": same, "load": load}
                )
                print(f"{way}: {seconds:.2f} s, same bytes: {same}, load {load}", flush=True)
    median = {
        way: statistics.median(float(str(r["seconds"])) for r in repeats if r["way"] == way)
        for way in ways
    }
    ratios = {f"1 worker / {way}": median["1 worker"] / median[way] for way in ways}
    record(
        "spread",
        str(__doc__).splitlines()[0],
        {
            "settings": {**vars(options), "models": MODELS, "seed": "0 to 7"},
            "median_seconds": median,
            "ratios": ratios,
            "repeats": repeats,
        },
    )


if __name__ == "__main__":
    main()
