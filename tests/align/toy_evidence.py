"""A network that is made of functions, and an `Evidence` for it: what methods need and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from align_kinds import Weights, bound
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy

from rebasin_hub.align import align
from rebasin_hub.bind import Binding
from rebasin_hub.rearrange import Read, rearranged

INPUTS, CLASSES = 6, 4
Forward = Callable[[Mapping[str, Tensor], Tensor], Tensor]


@dataclass(frozen=True)
class Samples:
    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)


class Toy:
    """Evidence for a function of weights and inputs, with a loss of its outputs and targets."""

    notes = ()
    loss_name = "cross-entropy (toy)"

    def __init__(self, forward: Forward, data: Samples, loss=cross_entropy) -> None:
        self.forward, self.data, self._loss = forward, data, loss
        self.calls = 0

    def features(self, *args, **kwargs):
        raise NotImplementedError

    def tensors(self, read: Read) -> dict[str, Tensor]:
        names = self.names
        return {name: torch.from_numpy(np.array(read(name), dtype="f4")) for name in names}

    names: Sequence[str] = ()

    def minibatches(self, size: int, seed: int) -> Iterator[Samples]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            for part in torch.split(torch.randperm(len(self.data), generator=generator), size):
                yield Samples(self.data.x[part], self.data.y[part])

    def fixed(self, samples: int) -> Sequence[Samples]:
        half = min(samples, len(self.data)) // 2
        parts = (slice(0, half), slice(half, min(samples, len(self.data))))
        return [Samples(self.data.x[p], self.data.y[p]) for p in parts if p.stop > p.start]

    def loss(self, tensors: Mapping[str, Tensor], batch: Samples) -> Tensor:
        self.calls += 1
        return self._loss(self.forward(tensors, batch.x), batch.y)


def mlp_binding(width: int) -> Binding:
    text = """
name: mlp
permutations:
  hidden[layer]: {from: input, to: output}
tensors:
  "{layer}.weight": hidden hidden[<layer]
  "{layer}.bias?": hidden
"""
    shapes = {"0.weight": (width, INPUTS), "0.bias": (width,)}
    shapes |= {"1.weight": (width, width), "1.bias": (width,)}
    return bound(text, shapes | {"2.weight": (CLASSES, width), "2.bias": (CLASSES,)})


def mlp_forward(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    x = torch.relu(x @ w["0.weight"].T + w["0.bias"])
    x = torch.relu(x @ w["1.weight"].T + w["1.bias"])
    return x @ w["2.weight"].T + w["2.bias"]


def heads_binding(heads: int = 3, dims: int = 4, stream: int = 6) -> Binding:
    """Return mixtures of heads on a residual stream: dependent permutations, and a recurrence."""
    text = """
name: heads
sizes: {head: heads}
permutations:
  head:
  inner: {within: head}
  stream:
tensors:
  embed: stream input
  up: (head inner) stream
  down: stream (head inner)
  mix: stream stream
  out: classes stream
"""
    width = heads * dims
    shapes = {"embed": (stream, INPUTS), "up": (width, stream), "down": (stream, width)}
    return bound(text, shapes | {"mix": (stream, stream), "out": (CLASSES, stream)}, head=heads)


def heads_forward(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    x = x @ w["embed"].T
    x = x + torch.relu(x @ w["up"].T) @ w["down"].T
    return torch.tanh(x @ w["mix"].T) @ w["out"].T


def conv_binding(width: int = 6) -> Binding:
    text = """
name: conv
permutations:
  a:
  b:
tensors:
  one: a rgb 3 3
  two: b a 3 3
  out: classes (b 2 2)
"""
    shapes = {"one": (width, 1, 3, 3), "two": (width, width, 3, 3), "out": (CLASSES, width * 4)}
    return bound(text, shapes)


def conv_forward(w: Mapping[str, Tensor], x: Tensor) -> Tensor:
    x = torch.relu(conv2d(x, w["one"]))
    return torch.relu(conv2d(x, w["two"])).flatten(1) @ w["out"].T


def points(count: int = 256, seed: int = 3) -> Samples:
    """Return points whose class is that of the nearest of a few centres."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, INPUTS)).astype("f4")
    centres = rng.normal(size=(3 * CLASSES, INPUTS)).astype("f4")
    y = ((x[:, None] - centres) ** 2).sum(-1).argmin(1) % CLASSES
    return Samples(torch.from_numpy(x), torch.from_numpy(y))


def toy(binding: Binding, forward: Forward, data: Samples | None = None, loss=cross_entropy) -> Toy:
    evidence = Toy(forward, data or points(), loss)
    evidence.names = tuple(binding.header)
    return evidence


def trained(evidence: Toy, binding: Binding, seed: int, steps: int = 150) -> Weights:
    """Train from random weights, by Adam on all samples."""
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: torch.randn(info.shape, generator=generator) / info.shape[-1] ** 0.5
        for name, info in binding.header.items()
    }
    leaves = [w.requires_grad_() for w in weights.values()]
    optimizer = torch.optim.Adam(leaves, lr=2e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        evidence.loss(weights, evidence.data).backward()
        optimizer.step()
    return {name: w.detach().numpy() for name, w in weights.items()}


@cache
def mlp_pair(width: int = 12) -> tuple[Binding, Toy, Weights, Weights]:
    """Return two MLPs trained apart: what every method is tried on."""
    binding = mlp_binding(width)
    evidence = toy(binding, mlp_forward)
    return binding, evidence, trained(evidence, binding, 1), trained(evidence, binding, 2)


@cache
def heads_pair() -> tuple[Binding, Toy, Weights, Weights]:
    binding = heads_binding()
    evidence = toy(binding, heads_forward)
    return binding, evidence, trained(evidence, binding, 1), trained(evidence, binding, 2)


@cache
def conv_pair() -> tuple[Binding, Toy, Weights, Weights]:
    binding = conv_binding()
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.normal(size=(128, 1, 6, 6)).astype("f4"))
    data = Samples(images, torch.from_numpy(rng.integers(0, CLASSES, 128)))
    evidence = toy(binding, conv_forward, data)
    return binding, evidence, trained(evidence, binding, 1, 60), trained(evidence, binding, 2, 60)


def loss_between(pair, element, shares=(0.5,), samples=256) -> float:
    """Return the mean loss between A and the renumbered B, computed with `rearranged` alone."""
    binding, evidence, a, b = pair
    read = rearranged(binding, element, b.__getitem__)
    part = Samples(evidence.data.x[:samples], evidence.data.y[:samples])
    total = 0.0
    for share in shares:
        point = {name: torch.from_numpy((1 - share) * a[name] + share * read(name)) for name in a}
        with torch.no_grad():
            total += float(evidence.loss({n: x.float() for n, x in point.items()}, part))
    return total / len(shares)


class Failing(Toy):
    """Evidence whose loss is NaN in every call after some."""

    def __init__(self, sound: Toy, after: int) -> None:
        super().__init__(sound.forward, sound.data)
        self.names, self.after = sound.names, after

    def loss(self, tensors, batch):
        loss = super().loss(tensors, batch)
        return loss * float("nan") if self.calls > self.after else loss


def aligned(pair, method, **options):
    """Align a pair with its evidence."""
    binding, evidence, a, b = pair
    options = {"evidence": evidence, "restarts": 1} | options
    return align(binding, a.__getitem__, b.__getitem__, method=method, **options)


PAIRS = {"mlp": mlp_pair, "heads": heads_pair, "conv": conv_pair}
