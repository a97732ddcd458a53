"""A planted renumbering of a residual network is found in 50 of 50, without fixed ends too."""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping

import numpy as np
from _record import record
from numpy.typing import NDArray

from rebasin_hub.align import Alignment, align
from rebasin_hub.bind import Binding, bind
from rebasin_hub.rearrange import Read, rearranged
from rebasin_hub.specfile import parse_spec
from rebasin_hub.tensors import TensorInfo

STREAM, HIDDEN, OUTER = 30, 50, 10
SEEDS = range(50)

SPEC = """
spec: 1
name: residual-toy
permutations:
  stream:
  hidden[layer]:
{outer}
tensors:
  encode: stream outer
  "{{layer}}.up": hidden stream
  "{{layer}}.down": stream hidden
  decode: outer stream
"""

Method = Callable[[Binding, Read, Read, int], Alignment]


def from_identity(binding: Binding, a: Read, b: Read, seed: int) -> Alignment:
    identity = binding.group.identity()
    return align(binding, a, b, seed=seed, restarts=1, start=identity)


def best_of_ten_random(binding: Binding, a: Read, b: Read, seed: int) -> Alignment:
    rng = np.random.default_rng(seed)
    ends = [
        align(binding, a, b, seed=seed, restarts=1, start=binding.group.random(rng))
        for _ in range(10)
    ]
    return max(ends, key=lambda end: end.objective)


def one_descent(binding: Binding, a: Read, b: Read, seed: int) -> Alignment:
    return align(binding, a, b, seed=seed, restarts=1)


def default(binding: Binding, a: Read, b: Read, seed: int) -> Alignment:
    return align(binding, a, b, seed=seed)


def frank_wolfe(binding: Binding, a: Read, b: Read, seed: int) -> Alignment:
    return align(binding, a, b, method="frank-wolfe", seed=seed, restarts=1)


def frank_wolfe_at_random(binding: Binding, a: Read, b: Read, seed: int) -> Alignment:
    return align(binding, a, b, method="frank-wolfe:starts=random", seed=seed, restarts=3)


METHODS: Mapping[str, Method] = {
    "one descent from the identity (Git Re-Basin)": from_identity,
    "best of ten descents from random elements": best_of_ten_random,
    "rebasin-hub without restarts": one_descent,
    "rebasin-hub by default": default,
    "Frank-Wolfe from the center alone": frank_wolfe,
    "Frank-Wolfe, best of three random starts": frank_wolfe_at_random,
}


def network(*, fixed_ends: bool, layers: int) -> Binding:
    """Bind the toy; without fixed ends its inputs and outputs can be renumbered together."""
    header = {"encode": TensorInfo("F32", (STREAM, OUTER))}
    for layer in range(layers):
        header[f"{layer}.up"] = TensorInfo("F32", (HIDDEN, STREAM))
        header[f"{layer}.down"] = TensorInfo("F32", (STREAM, HIDDEN))
    header["decode"] = TensorInfo("F32", (OUTER, STREAM))
    return bind(parse_spec(SPEC.format(outer="" if fixed_ends else "  outer:")), header)


def measure(binding: Binding, noise: float, method: Method) -> dict[str, list[float]]:
    """Plant a random element between two random networks and look for it, once for each seed."""
    rows: dict[str, list[float]] = {"recovered": [], "cosine": [], "sweeps": [], "seconds": []}
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        a = {name: _normal(rng, info.shape) for name, info in binding.header.items()}
        element = binding.group.random(rng)
        read = rearranged(binding, binding.group.invert(element), a.__getitem__)
        b = {name: read(name) + np.float32(noise) * _normal(rng, a[name].shape) for name in a}
        begin = time.perf_counter()
        found = method(binding, a.__getitem__, b.__getitem__, seed)
        rows["seconds"].append(round(time.perf_counter() - begin, 5))
        rows["recovered"].append(int(binding.group.equal(found.element, element)))
        rows["cosine"].append(round(found.cosine, 6))
        rows["sweeps"].append(found.sweeps)
    return rows


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
    return rng.normal(size=shape).astype(np.float32)


def main() -> None:
    repeats: list[dict[str, object]] = []
    summary: dict[str, str] = {}
    conditions = itertools.product((3, 8), (True, False), (0.0, 0.1, 1.0), METHODS)
    for blocks, fixed_ends, noise, name in conditions:
        rows = measure(network(fixed_ends=fixed_ends, layers=blocks), noise, METHODS[name])
        ends = "fixed ends" if fixed_ends else "no fixed ends"
        condition = f"{blocks} blocks, {ends}, noise {noise}: {name}"
        summary[condition] = f"{sum(rows['recovered'])} of {len(SEEDS)}"
        seconds = statistics.median(rows["seconds"])
        print(f"{condition}: {summary[condition]}, median {1000 * seconds:.1f} ms")
        repeats.append(
            {"blocks": blocks, "fixed_ends": fixed_ends, "noise": noise, "method": name, **rows}
        )
    settings = {"stream": STREAM, "hidden": HIDDEN, "outer": OUTER, "seeds": list(SEEDS)}
    measured = {"settings": settings, "summary": summary, "repeats": repeats}
    record("planted_recovery", str(__doc__), measured)


if __name__ == "__main__":
    main()
