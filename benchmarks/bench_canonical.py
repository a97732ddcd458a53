"""Canonical order of GPT-2 small takes at most four times as long as its SHA-256, on one core.

Random weights in GPT-2's shapes, float32 and bfloat16, in memory, as they are and with one
feed-forward unit of twenty dead (ties). `order` and `digest` are canonical order and canonical
digest, `sha256` is hashlib over the same bytes in the same run, in seconds and in GB/s of stored
bytes; `extra_mib` is the peak memory of the order beyond the weights.

    OMP_NUM_THREADS=1 python benchmarks/bench_canonical.py
"""

from __future__ import annotations

import hashlib
import time
import tracemalloc
from collections.abc import Callable

import ml_dtypes
import numpy as np
from _record import record
from numpy.typing import NDArray

from rebasin_hub.bind import Binding, bind
from rebasin_hub.canonical import canonical_order
from rebasin_hub.digest import canonical_digest
from rebasin_hub.rearrange import rearranged
from rebasin_hub.specfile import parse_spec
from rebasin_hub.tensors import TensorInfo

SEED = 0
REPEATS = 5
SPEC = """
spec: 1
name: gpt2
sizes: {head: n_head}
permutations:
  embed:
  head[layer]:
  qk[layer]: {within: head}
  vo[layer]: {within: head}
  ff[layer]:
tensors:
  wte: vocab embed
  wpe: position embed
  "h.{layer}.ln_{1,2}.{weight,bias}": embed
  "h.{layer}.attn.c_attn.weight": embed (head qk + head qk + head vo)
  "h.{layer}.attn.c_attn.bias": (head qk + head qk + head vo)
  "h.{layer}.attn.c_proj.weight": (head vo) embed
  "h.{layer}.attn.c_proj.bias": embed
  "h.{layer}.mlp.c_fc.weight": embed ff
  "h.{layer}.mlp.c_fc.bias": ff
  "h.{layer}.mlp.c_proj.weight": ff embed
  "h.{layer}.mlp.c_proj.bias": embed
  "ln_f.{weight,bias}": embed
"""
Weights = dict[str, NDArray[np.generic]]


def shapes() -> dict[str, tuple[int, ...]]:
    d = 768
    layer = {
        "ln_1.weight": (d,),
        "ln_1.bias": (d,),
        "attn.c_attn.weight": (d, 3 * d),
        "attn.c_attn.bias": (3 * d,),
        "attn.c_proj.weight": (d, d),
        "attn.c_proj.bias": (d,),
        "ln_2.weight": (d,),
        "ln_2.bias": (d,),
        "mlp.c_fc.weight": (d, 4 * d),
        "mlp.c_fc.bias": (4 * d,),
        "mlp.c_proj.weight": (4 * d, d),
        "mlp.c_proj.bias": (d,),
    }
    layers = {f"h.{n}.{name}": shape for n in range(12) for name, shape in layer.items()}
    return {
        "wte": (50257, d),
        "wpe": (1024, d),
        **layers,
        "ln_f.weight": (d,),
        "ln_f.bias": (d,),
    }


def weights_of(dtype: str) -> Weights:
    rng = np.random.default_rng(SEED)
    kind = {"F32": np.dtype(np.float32), "BF16": np.dtype(ml_dtypes.bfloat16)}[dtype]
    return {
        name: rng.standard_normal(shape, dtype=np.float32).astype(kind)
        for name, shape in shapes().items()
    }


def with_dead_units(weights: Weights) -> Weights:
    """Return a copy in which one feed-forward unit of twenty is zero in every layer."""
    dead = {name: array.copy() for name, array in weights.items()}
    for n in range(12):
        dead[f"h.{n}.mlp.c_fc.weight"][:, ::20] = 0
        dead[f"h.{n}.mlp.c_fc.bias"][::20] = 0
        dead[f"h.{n}.mlp.c_proj.weight"][::20] = 0
    return dead


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measured(binding: Binding, weights: Weights) -> dict[str, object]:
    read = weights.__getitem__
    nbytes = sum(array.nbytes for array in weights.values())
    found = canonical_order(binding, read)
    stages: dict[str, Callable[[], object]] = {
        "order": lambda: canonical_order(binding, read),
        "digest": lambda: canonical_digest(binding, found.element, read),
        "sha256": lambda: [hashlib.sha256(array.view(np.uint8)) for array in weights.values()],
    }
    times: dict[str, list[float]] = {stage: [] for stage in stages}
    for _ in range(REPEATS):
        for stage, work in stages.items():
            times[stage].append(seconds(work))
    tracemalloc.start()
    canonical_order(binding, read)
    extra = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    speed = {stage: nbytes / 1e9 / float(np.median(t)) for stage, t in times.items()}
    return {
        "bytes": nbytes,
        "seconds": times,
        "gb_per_s": speed,
        "extra_mib": extra,
        "passes": found.passes,
        "tied_units": found.tied_units,
        "exact": found.exact,
        "same_for_a_copy": same_for_a_copy(binding, weights),
    }


def same_for_a_copy(binding: Binding, weights: Weights) -> bool:
    copy = rearranged(
        binding, binding.group.random(np.random.default_rng(SEED)), weights.__getitem__
    )
    digests = {
        canonical_digest(binding, canonical_order(binding, read).element, read)
        for read in (weights.__getitem__, copy)
    }
    return len(digests) == 1


def main() -> None:
    figures: dict[str, object] = {"seed": SEED, "repeats": REPEATS}
    for dtype in ("F32", "BF16"):
        header = {name: TensorInfo(dtype, shape) for name, shape in shapes().items()}
        binding = bind(parse_spec(SPEC), header, sizes={"head": 12})
        weights = weights_of(dtype)
        for label, variant in ((dtype, weights), (f"{dtype} dead", with_dead_units(weights))):
            figures[label] = result = measured(binding, variant)
            print(label, {k: v for k, v in result.items() if k != "seconds"})
    print(record("canonical", str(__doc__).splitlines()[0], figures))


if __name__ == "__main__":
    main()
