"""Small bindings, one for each kind of permutation, and the law that canonical order keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.bind import Binding, bind
from rebasin_hub.canonical import Canonical, canonical_order
from rebasin_hub.rearrange import rearranged
from rebasin_hub.specfile import parse_spec
from rebasin_hub.tensors import TensorInfo, dtype_of

Weights = dict[str, NDArray[np.generic]]
Shapes = Mapping[str, tuple[int, ...]]


def bound(text: str, shapes: Shapes, sizes: Mapping[str, int] | None = None) -> Binding:
    header = {name: TensorInfo("F32", shape) for name, shape in shapes.items()}
    return bind(parse_spec(f"spec: 1\n{text}"), header, sizes=sizes)


def renumbered(
    binding: Binding, element: Mapping[str, NDArray[np.int64]], weights: Weights
) -> Weights:
    read = rearranged(binding, element, weights.__getitem__)
    return {name: np.ascontiguousarray(read(name)) for name in weights}


TWO = """
name: two
permutations:
  row:
  column:
tensors:
  weight: row column
  before: column inputs
  after: classes row
"""
CHAIN = """
name: chain
permutations:
  hidden[layer]: {from: input, to: output}
tensors:
  "{layer}.weight": hidden hidden[<layer]
  "{layer}.bias?": hidden
statistics:
  "{layer}.mean?": hidden
"""
RESIDUAL = """
name: residual
permutations:
  stream:
  hidden[layer]:
tensors:
  "{layer}.up": hidden stream
  "{layer}.down": stream hidden 3 3
"""
HEADS = """
name: heads
sizes: {head: num_attention_heads}
permutations:
  embed:
  head:
  qk: {within: head}
  vo: {within: head}
tensors:
  tokens: vocab embed
  attn: embed (head qk + head qk + head vo)
  bias: (head qk + head qk + head vo)
  proj: (head vo) embed
"""
LLAMA = """
name: llama
sizes: {kv: num_key_value_heads, rope: head_dim}
permutations:
  embed:
  kv[layer]:
  group[layer]: {within: kv}
  vo[layer]: {within: kv}
tensors:
  "{layer}.q": (kv group rope) embed
  "{layer}.k": (kv rope) embed
  "{layer}.v": (kv vo) embed
  "{layer}.o": embed (kv group vo)
"""
LSTM = """
name: lstm
permutations:
  hidden:
tensors:
  ih: (4 hidden) input
  hh: (4 hidden) hidden
  bias: (4 hidden)
"""
GROUPED = """
name: grouped
sizes: {g: groups}
permutations:
  g:
  out: {within: g}
  in: {within: g}
tensors:
  a: (g in) rgb 1 1
  b: (g out) in 3 3
  c: classes (g out) 1 1
  d: in (g out)
"""
EXPERTS = """
name: experts
permutations:
  embed:
  expert[layer]:
  ff[layer]: {within: expert}
tensors:
  "{layer}.experts.{expert}.w1": ff embed
  "{layer}.experts.{expert}.w2": embed ff
  "{layer}.router": expert embed
  tokens: vocab embed
"""
PADDED = """
name: padded
permutations:
  stage:
  pad: {parts: [low, high]}
tensors:
  a: stage rgb
  b: classes (low + stage + high)
  c: (low + stage + high) (low + stage + high)
"""
DENSE = """
name: dense
permutations:
  stem:
  new[layer]:
tensors:
  stem: stem rgb
  "{layer}.norm": (stem + new[:layer])
  "{layer}.conv": new (stem + new[:layer])
  head: classes (stem + new[:])
"""
NESTED = """
name: nested
sizes: {a: 2, b: 3}
permutations:
  a:
  b: {within: a}
  c: {within: b}
  d: {within: a}
tensors:
  x: (a b c) input
  y: output (a b c)
  z: (a b) d
  w: (a d) input
"""


def kinds() -> dict[str, Binding]:
    expert = {
        f"0.experts.{e}.{w}": shape
        for e in range(3)
        for w, shape in (("w1", (5, 6)), ("w2", (6, 5)))
    }
    llama = {"0.q": (24, 8), "0.k": (8, 8), "0.v": (6, 8), "0.o": (8, 18)}
    return {
        "chain": bound(
            CHAIN, {"0.weight": (6, 3), "0.bias": (6,), "0.mean": (6,), "3.weight": (2, 6)}
        ),
        "residual": bound(RESIDUAL, {"0.up": (7, 5), "0.down": (5, 7, 3, 3)}),
        "heads": bound(
            HEADS,
            {"tokens": (4, 6), "attn": (6, 36), "bias": (36,), "proj": (12, 6)},
            {"head": 3},
        ),
        "llama": bound(LLAMA, llama, {"kv": 2, "rope": 4}),
        "lstm": bound(LSTM, {"ih": (32, 3), "hh": (32, 8), "bias": (32,)}),
        "grouped": bound(
            GROUPED,
            {"a": (12, 3, 1, 1), "b": (15, 4, 3, 3), "c": (5, 15, 1, 1), "d": (4, 15)},
            {"g": 3},
        ),
        "experts": bound(EXPERTS, {"tokens": (5, 6), "0.router": (3, 6), **expert}),
        "padded": bound(PADDED, {"a": (4, 3), "b": (5, 8), "c": (8, 8)}),
        "dense": bound(
            DENSE,
            {
                "stem": (5, 3),
                "1.norm": (5,),
                "1.conv": (4, 5),
                "2.norm": (9,),
                "2.conv": (4, 9),
                "head": (5, 13),
            },
        ),
        "nested": bound(NESTED, {"x": (18, 4), "y": (3, 18), "z": (6, 3), "w": (6, 4)}),
    }


def two(weight: NDArray[Any]) -> tuple[Binding, Weights]:
    """Return a matrix between two permutations, and the zeros beside it that a model needs."""
    rows, columns = weight.shape
    before, after = (np.zeros(shape, weight.dtype) for shape in ((columns, 1), (1, rows)))
    weights: Weights = {"weight": weight, "before": before, "after": after}
    header = {name: TensorInfo(dtype_of(array), array.shape) for name, array in weights.items()}
    return bind(parse_spec(f"spec: 1\n{TWO}"), header), weights


def canonical_bytes(binding: Binding, weights: Weights) -> tuple[dict[str, bytes], Canonical]:
    found = canonical_order(binding, weights.__getitem__)
    binding.group.check(found.element)
    ordered = renumbered(binding, found.element, weights)
    return {name: array.tobytes() for name, array in ordered.items()}, found


def check_law(binding: Binding, weights: Weights, seeds: range = range(3)) -> Canonical:
    """Canonical bytes of renumbered copies are equal; what is canonical stays so."""
    expected, first = canonical_bytes(binding, weights)
    for seed in seeds:
        element = binding.group.random(np.random.default_rng(seed))
        found, copy = canonical_bytes(binding, renumbered(binding, element, weights))
        assert found == expected
        assert (copy.exact, copy.tied_units) == (first.exact, first.tied_units)
    ordered = renumbered(binding, first.element, weights)
    again, _ = canonical_bytes(binding, ordered)
    assert again == expected
    return first


def draw_weights(binding: Binding, seed: int, values: str) -> Weights:
    rng = np.random.default_rng(seed)
    draw: dict[str, Callable[[tuple[int, ...]], np.ndarray]] = {
        "normal": lambda shape: rng.normal(size=shape),
        "signs": lambda shape: rng.choice([-1.0, 1.0], size=shape),
        "sparse": lambda shape: rng.choice([0.0, 0.0, 0.0, 1.0], size=shape),
        "zeros": np.zeros,
        "strange": lambda shape: rng.choice([np.nan, np.inf, -np.inf, -0.0, 0.0, 1.0], size=shape),
    }
    return {name: draw[values](info.shape).astype("f4") for name, info in binding.header.items()}
