"""Weight matching ends where the published algorithm does, the faster the more sweeps it takes.

Two models of random parameters (matrices and kernels Gaussian with variance 1 over their inputs,
vectors zero; seeds 0 and 1) of the networks of Git Re-Basin. `descent` is one descent from the
identity; `literal` is the algorithm as it was published, in NumPy and SciPy: every sweep computes
and solves the problem of each permutation anew, in the same order, until a sweep gains nothing.
`default` is `align` as users call it, with reading and three starts. On ResNet-18 the peer is
`rebasin` from PyPI, in an environment of its own in the cache folder; its models get the same
parameters. Seconds are of the process (`process_time`) and of the wall, all in turn within one run.

`lineage` is one family of two models of which one is a renumbered copy of the other with noise (in
units of the weights' standard deviation): `nearest` finds and proves the numbering, `product` is
the time of the matrix of all products that it does without.

    OMP_NUM_THREADS=1 python benchmarks/bench_weight_matching.py [--cases "MLP 3x512"] [--repeats 3]
    OMP_NUM_THREADS=2 python benchmarks/bench_weight_matching.py --ways descent

Cases that a run leaves out keep their figures of the same day. Runs with several threads have
results of their own; there the seconds of the wall count.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from _record import RESULTS, record
from data import cache
from numpy.typing import NDArray

from rebasin_hub.align import align
from rebasin_hub.align.backend import select
from rebasin_hub.align.family import Family, families, operand
from rebasin_hub.align.nearest import nearest
from rebasin_hub.align.problem import read_problem
from rebasin_hub.align.state import State
from rebasin_hub.align.weight import descend
from rebasin_hub.bind import Binding, bind
from rebasin_hub.specfile import find_spec
from rebasin_hub.tensors import TensorInfo

REBASIN = "rebasin==0.0.47"
CONSTRAINTS = Path(__file__).parent.parent / "constraints.txt"
SEED = 0
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M")
CASES: Mapping[str, tuple[str, str, dict[str, object]]] = {
    "MLP 3x512": ("mlp", "MLP", {"widths": [784, 512, 512, 512, 10]}),
    "ResNet20": ("resnet-cifar-layernorm", "CifarResNet", {"shortcut": "B", "norm": "layer"}),
    "ResNet20 x16": (
        "resnet-cifar-layernorm",
        "CifarResNet",
        {"shortcut": "B", "norm": "layer", "width": 16},
    ),
    "VGG16, 512 wide": ("vgg", "VGG", {"plan": VGG16, "pool": 1, "hidden": (512, 512)}),
    "VGG16, 4096 wide": ("vgg", "VGG", {"plan": VGG16, "pool": 1, "hidden": (4096, 4096)}),
    "ResNet-18": ("resnet", "ResNet", {"block": "BasicBlock", "depths": [2, 2, 2, 2]}),
}
PEER_CASE = "ResNet-18"
LINEAGE: Mapping[str, tuple[int, int]] = {
    f"lineage, {units} units of {width} numbers": (units, width)
    for units, width in ((4096, 12288), (11008, 12288))
}
NOISE = (0.02, 0.1, 0.3)

Weights = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Pair:
    """Two models of random parameters and what binds them."""

    binding: Binding
    a: Weights
    b: Weights

    def state(self) -> State:
        """Return a state at the identity."""
        return State(*read_problem(self.binding, self.read_a, self.read_b, select("cpu")))

    def read_a(self, name: str) -> NDArray[np.generic]:
        """Return a tensor of the reference."""
        return self.a[name]

    def read_b(self, name: str) -> NDArray[np.generic]:
        """Return a tensor of the model."""
        return self.b[name]


def pair(case: str) -> Pair:
    """Draw two models."""
    from rebasin_hub import zoo

    spec, kind, arguments = CASES[case]
    if "block" in arguments:
        arguments = arguments | {"block": getattr(zoo, str(arguments["block"]))}
    made = {name: x.numpy() for name, x in getattr(zoo, kind)(**arguments).state_dict().items()}
    kinds = {"float32": "F32", "int64": "I64"}
    header = {n: TensorInfo(kinds[str(x.dtype)], x.shape) for n, x in made.items()}
    return Pair(bind(find_spec(spec), header), *(drawn(made, seed) for seed in (0, 1)))


def drawn(made: Weights, seed: int) -> Weights:
    """Return a model of the same shapes with random matrices and kernels."""
    rng, model = np.random.default_rng(seed), {}
    for name, x in made.items():
        model[name] = np.zeros_like(x)
        if x.ndim > 1:
            scale = np.float32(1 / np.sqrt(x[0].size))
            model[name] = rng.standard_normal(x.shape, np.float32) * scale
    return model


def descent(state: State) -> tuple[float, int]:
    """Descend from the identity; the objective and the sweeps."""
    found = descend(state, families(state.problem), np.random.default_rng(SEED), max_sweeps=1000)
    return found.history[-1], len(found.history) - 1


def literal(state: State) -> tuple[float, int]:
    """Match as algorithm 1 of Git Re-Basin is written; the objective and the sweeps."""
    from scipy.optimize import linear_sum_assignment

    members, rng, sweeps, progress = families(state.problem), np.random.default_rng(SEED), 0, True
    while progress:
        progress, sweeps = False, sweeps + 1
        order = sorted(rng.permutation(len(members)), key=lambda n: _late(members[n], sweeps))
        for family in (members[number] for number in order):
            similarity = _similarity(state, family)
            index = linear_sum_assignment(similarity, maximize=True)[1]
            rows = np.arange(len(index))
            gained = float(similarity[rows, index].sum()) - float(np.trace(similarity))
            progress |= gained > 1e-5 * abs(float(np.trace(similarity)))
            state.step(family, {family.root: index})
    return state.objective, sweeps


def _late(family: Family, sweep: int) -> bool:
    """Tell whether others come first: in the first sweep, those that touch fixed axes."""
    return sweep == 1 and not family.touches_fixed


def _similarity(state: State, family: Family) -> NDArray[np.float32]:
    backend, total = state.problem.backend, np.zeros(())
    for view in family.views:
        a, b = state.problem.terms[view.term].a, state.b[view.term]
        total = total + operand(backend, a, view) @ operand(backend, b, view).T
    return total


def default(pair: Pair) -> tuple[float, int]:
    """Align as users do, reading included; the objective and the sweeps of the best start."""
    found = align(pair.binding, pair.read_a, pair.read_b)
    return found.objective, found.sweeps


WAYS: Mapping[str, Callable[[Any], tuple[float, int]]] = {
    "descent": descent,
    "literal": literal,
    "default": default,
}


def measured(pair: Pair, names: Sequence[str], repeats: int) -> dict[str, object]:
    """Return the seconds of some ways, in turn, and what they came to."""
    ways = {name: WAYS[name] for name in names}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    ends = {}
    for repeat in range(repeats):
        for name, run in ways.items():
            if name == "literal" and repeat and seconds[name][0][0] > SLOW:
                continue
            given = pair if name == "default" else pair.state()
            ends[name], taken = timed(run, given)
            seconds[name].append(taken)
    least = {name: min(x)[0] for name, x in seconds.items()}
    ratio = {"literal_over_descent": least["literal"] / least["descent"]} if len(ways) > 1 else {}
    return {
        "cpu_seconds": least,
        "wall_seconds": {name: min(wall for _, wall in x) for name, x in seconds.items()},
        **ratio,
        "objective": {name: end[0] for name, end in ends.items()},
        "sweeps": {name: end[1] for name, end in ends.items()},
        "repeats": seconds,
    }


SLOW = 20.0
"""Seconds above which the literal algorithm runs once."""


def rebasin() -> Path | None:
    """Return a Python that has `rebasin`, after making its environment; None if that fails."""
    folder = cache() / "environments" / REBASIN.replace("==", "-")
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        venv.create(folder, clear=True, with_pip=True)
        install = ["-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS), REBASIN]
        if subprocess.run([str(python), *install], check=False).returncode:
            return None
        (folder / "ready").touch()
    return python


PEER = """
import importlib.util, json, sys, time
import torch
from rebasin import PermutationCoordinateDescent
spec = importlib.util.spec_from_file_location("resnet", sys.argv[4])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
models = []
for path in sys.argv[1:3]:
    models.append(module.ResNet(block=module.BasicBlock, depths=[2, 2, 2, 2]).eval())
    models[-1].load_state_dict(torch.load(path))
search = PermutationCoordinateDescent(*models, torch.randn(1, 3, 64, 64))
torch.manual_seed(0)
start = time.process_time(), time.perf_counter()
search.calculate_permutations(1000)
print(json.dumps([time.process_time() - start[0], time.perf_counter() - start[1]]))
search.apply_permutations()
torch.save(models[1].state_dict(), sys.argv[3])
"""


def peer(pair: Pair, python: Path) -> dict[str, object]:
    """Run `rebasin`'s descent alone; its seconds and the objective of what it returns."""
    import torch

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("a.pt", "b.pt", "moved.pt")]
        for path, weights in zip(files, (pair.a, pair.b), strict=False):
            torch.save({name: torch.from_numpy(x.copy()) for name, x in weights.items()}, path)
        network = Path(__file__).parent.parent / "rebasin_hub" / "zoo" / "resnet.py"
        done = subprocess.run(
            [str(python), "-c", PEER, *map(str, (*files, network))],
            check=True, capture_output=True, text=True, env=dict(os.environ),
        )  # fmt: skip
        moved = {name: x.numpy() for name, x in torch.load(files[2]).items()}
    state = Pair(pair.binding, pair.a, moved).state()
    return {
        "program": REBASIN,
        "seconds": json.loads(done.stdout.splitlines()[-1]),
        "objective": state.objective,
    }


def lineage(units: int, width: int, repeats: int) -> dict[str, object]:
    """Match renumbered copies with noise; the seconds, and those of the product of all pairs."""
    backend, rng = select("cpu"), np.random.default_rng(SEED)
    a = rng.standard_normal((units, width), np.float32)
    b, product = np.empty_like(a), np.zeros((units, units), np.float32)
    found: dict[str, object] = {}
    for noise in NOISE:
        planted = rng.permutation(units)
        for row, place in enumerate(planted):
            b[place] = a[row] + np.float32(noise) * rng.standard_normal(width, np.float32)
        seconds = []
        for _ in range(repeats):
            index, taken = timed(nearest, backend, [(a, b)])
            assert index is not None, "no numbering was proven"
            assert np.array_equal(index, planted), "another numbering was found"
            seconds.append(taken)
        found[f"noise {noise}"] = seconds
    # As in a descent, into memory that has been used before.
    product[:] = 1
    found["product"] = [timed(backend.add_product, product, a, b)[1]]
    found["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return found


def timed(run: Callable[..., Any], *given: object) -> tuple[Any, tuple[float, float]]:
    """Return what a function returns, and its seconds: of the process, and of the wall."""
    start = time.process_time(), time.perf_counter()
    result = run(*given)
    return result, (time.process_time() - start[0], time.perf_counter() - start[1])


def earlier(name: str) -> dict[str, object]:
    """Return the figures of all cases that have been measured on this day."""
    path = RESULTS / f"{datetime.now(UTC):%Y-%m-%d}-{name}.json"
    if not path.exists():
        return {}
    known = (*CASES, *LINEAGE, f"{PEER_CASE}, {REBASIN}")
    return {key: x for key, x in json.loads(path.read_text()).items() if key in known}


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    names = [*CASES, *LINEAGE]
    parser.add_argument("--cases", nargs="*", default=names, choices=names)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--ways", nargs="*", default=[*WAYS], choices=[*WAYS])
    options = parser.parse_args()
    threads = os.environ.get("OMP_NUM_THREADS")
    name = "weight_matching" if threads == "1" else f"weight_matching_{threads or 'all'}_threads"
    descent(pair("MLP 3x512").state())  # modules are loaded now
    figures = earlier(name) | {"settings": {"seed": SEED, "threads": threads}}
    for case in options.cases:
        if case in LINEAGE:
            figures[case] = lineage(*LINEAGE[case], options.repeats)
            print(case, figures[case], flush=True)
            continue
        models = pair(case)
        figures[case] = found = measured(models, options.ways, options.repeats)
        print(case, found["cpu_seconds"], found["objective"], found["sweeps"], flush=True)
        if case == PEER_CASE and len(options.ways) > 1:
            python = rebasin()
            if python is None:
                print(f"{REBASIN} cannot be installed here and is left out", flush=True)
                continue
            figures[f"{case}, {REBASIN}"] = theirs = peer(models, python)
            print(theirs, flush=True)
        record(name, str(__doc__).splitlines()[0], figures)
    record(name, str(__doc__).splitlines()[0], figures)


if __name__ == "__main__":
    main()
