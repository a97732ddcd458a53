"""Small architectures, one for each kind of permutation that the spec language has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.bind import Binding, bind
from rebasin_hub.permute import Element, Index
from rebasin_hub.rearrange import Read, rearranged
from rebasin_hub.specfile import parse_spec
from rebasin_hub.tensors import TensorInfo

Weights = dict[str, NDArray[np.generic]]


def bound(text: str, shapes: dict[str, tuple[int, ...]], **sizes: int) -> Binding:
    header = {name: TensorInfo("F32", shape) for name, shape in shapes.items()}
    return bind(parse_spec(f"spec: 1\n{text}"), header, sizes=sizes)


def mlp(n: int = 8) -> Binding:
    text = """
name: mlp
permutations:
  hidden[layer]: {from: input, to: output}
tensors:
  "{layer}.weight": hidden hidden[<layer]
  "{layer}.bias?": hidden
"""
    shapes = {
        "0.weight": (n, 3),
        "0.bias": (n,),
        "2.weight": (n + 1, n),
        "2.bias": (n + 1,),
        "5.weight": (n, n + 1),
        "7.weight": (2, n),
    }
    return bound(text, shapes)


def residual(n: int = 8) -> Binding:
    """Return a residual network without fixed ends, biases or embeddings."""
    text = """
name: residual
permutations:
  stream:
  hidden[layer]:
tensors:
  "{layer}.up": hidden stream
  "{layer}.down": stream hidden
"""
    shapes = {f"{layer}.up": (2 * n, n) for layer in range(2)}
    return bound(text, shapes | {f"{layer}.down": (n, 2 * n) for layer in range(2)})


def lstm(n: int = 8) -> Binding:
    text = """
name: lstm
permutations:
  hidden:
tensors:
  ih: (4 hidden) input
  hh: (4 hidden) hidden
  bias: (4 hidden)
"""
    return bound(text, {"ih": (4 * n, 3), "hh": (4 * n, n), "bias": (4 * n,)})


def recurrent(n: int = 8) -> Binding:
    """Return a plain recurrent network whose inputs and outputs tell units apart hardly."""
    text = """
name: recurrent
permutations:
  hidden:
tensors:
  ih: hidden input
  hh: hidden hidden
  out: output hidden
"""
    return bound(text, {"ih": (n, 1), "hh": (n, n), "out": (1, n)})


def square(n: int = 7) -> Binding:
    text = """
name: square
permutations:
  stage:
tensors:
  "{block}.conv": stage stage 3 3
"""
    return bound(text, {"0.conv": (n, n, 3, 3), "1.conv": (n, n, 3, 3)})


def grouped(n: int = 3, groups: int = 3) -> Binding:
    """Return a grouped convolution: its input axis depends on the group on its output axis."""
    text = """
name: grouped
permutations:
  g:
  out: {within: g}
  in: {within: g}
sizes: {g: groups}
tensors:
  a: (g in) rgb 1 1
  b: (g out) in 3 3
  c: classes (g out) 1 1
"""
    out = groups * (n + 1)
    shapes = {"a": (groups * n, 3, 1, 1), "b": (out, n, 3, 3), "c": (5, out, 1, 1)}
    return bound(text, shapes, g=groups)


def llama(n: int = 8, kv: int = 2, group: int = 3, head: int = 4) -> Binding:
    text = """
name: llama
sizes: {kv: num_key_value_heads, rope: head_dim}
permutations:
  embed:
  kv[layer]:
  group[layer]: {within: kv}
  vo[layer]: {within: kv}
tensors:
  tokens: vocab embed
  "{layer}.norm": embed
  "{layer}.q": (kv group rope) embed
  "{layer}.k": (kv rope) embed
  "{layer}.v": (kv vo) embed
  "{layer}.o": embed (kv group vo)
"""
    shapes: dict[str, tuple[int, ...]] = {"tokens": (5, n)}
    for layer in range(2):
        shapes |= {
            f"{layer}.norm": (n,),
            f"{layer}.q": (kv * group * head, n),
            f"{layer}.k": (kv * head, n),
            f"{layer}.v": (kv * head, n),
            f"{layer}.o": (n, kv * group * head),
        }
    return bound(text, shapes, kv=kv, rope=head)


def experts(n: int = 6, count: int = 3, ff: int = 4) -> Binding:
    """Return a mixture of experts whose permutation acts on tensor names."""
    text = """
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
    shapes: dict[str, tuple[int, ...]] = {"tokens": (5, n), "0.router": (count, n)}
    for expert in range(count):
        shapes |= {f"0.experts.{expert}.w1": (ff, n), f"0.experts.{expert}.w2": (n, ff)}
    return bound(text, shapes)


def padded(n: int = 4) -> Binding:
    """Return a stage whose channels lie between the two parts of another permutation."""
    text = """
name: padded
permutations:
  stage:
  pad: {parts: [low, high]}
tensors:
  a: stage rgb
  b: classes (low + stage + high)
  c: (low + stage + high) (low + stage + high)
"""
    return bound(text, {"a": (n, 3), "b": (5, n + 4), "c": (n + 4, n + 4)})


def dense(n: int = 5) -> Binding:
    text = """
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
    shapes = {
        "stem": (n, 3),
        "1.norm": (n,),
        "1.conv": (4, n),
        "2.norm": (n + 4,),
        "2.conv": (4, n + 4),
        "head": (5, n + 8),
    }
    return bound(text, shapes)


def deep(n: int = 3) -> Binding:
    """Return permutations three deep, with two that share a block."""
    text = """
name: deep
sizes: {a: outer, b: inner}
permutations:
  a:
  b: {within: a}
  c: {within: b}
  d: {within: a}
tensors:
  x: (a b c) input
  y: output (a b c)
  z: (a b) d
  w: (a d) more
"""
    shapes = {"x": (4 * n, 4), "y": (3, 4 * n), "z": (4, n), "w": (2 * n, 2)}
    return bound(text, shapes, a=2, b=2)


def mixing(n: int = 3) -> Binding:
    """Return dependent permutations that stand twice on one tensor with their parent."""
    text = """
name: mixing
sizes: {head: heads}
permutations:
  head:
  inner: {within: head}
tensors:
  mix: (head inner) (head inner)
"""
    return bound(text, {"mix": (4 * n, 4 * n)}, head=4)


KINDS: dict[str, Callable[..., Binding]] = {
    make.__name__: make
    for make in (mlp, residual, lstm, recurrent, square, grouped, llama, experts, padded, dense)
} | {"deep": deep, "mixing": mixing}


def random_weights(binding: Binding, rng: np.random.Generator, dtype: str = "f4") -> Weights:
    return {
        name: rng.normal(size=info.shape).astype(dtype) for name, info in binding.header.items()
    }


def planted(
    binding: Binding, rng: np.random.Generator, noise: float = 0.0
) -> tuple[Weights, Weights, dict[str, Index]]:
    """Return random weights A, a renumbered and noisy copy B, and the element from B to A."""
    a = random_weights(binding, rng)
    element = binding.group.random(rng)
    read = rearranged(binding, binding.group.invert(element), a.__getitem__)
    b = {k: read(k) + (noise * rng.normal(size=a[k].shape)).astype(a[k].dtype) for k in a}
    return a, b, element


def literal_objective(binding: Binding, element: Element, a: Weights, read_b: Read) -> float:
    """Sum the inner products tensor by tensor, in float64, with `rearranged` alone."""
    read = rearranged(binding, element, read_b)
    products = (
        np.vdot(a[name].astype("f8"), read(name).astype("f8"))
        for tensor in binding.tensors
        if not tensor.statistic
        for name in tensor.names.flat
    )
    return float(sum(products))
