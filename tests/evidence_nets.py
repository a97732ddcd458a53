"""Runnable networks with a planted renumbering, for the methods that look at what they compute."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import repair_nets as nets
import torch
from torch import Generator, Tensor, nn

from rebasin_hub import zoo
from rebasin_hub.bind import Binding, bind
from rebasin_hub.evidence import NetworkEvidence
from rebasin_hub.permute import Index
from rebasin_hub.rearrange import Read, rearranged
from rebasin_hub.specfile import load_spec, parse_spec, shipped_specs
from rebasin_hub.tasks.network import Batch, TensorData, TorchNetwork
from rebasin_hub.tasks.task import Split
from rebasin_hub.tensors import TensorInfo, dtype_of

SAMPLES = 300
VOCABULARY = 23

LSTM = """
spec: 1
name: lstm
permutations:
  hidden:
tensors:
  lstm.weight_ih_l0: (4 hidden) input
  lstm.weight_hh_l0: (4 hidden) hidden
  lstm.bias_{ih,hh}_l0: (4 hidden)
  head.weight: classes hidden
  head.bias: classes
"""
GROUPED = """
spec: 1
name: grouped
sizes: {g: groups}
permutations:
  g:
  out: {within: g}
  in: {within: g}
tensors:
  stem.weight: (g in) rgb 3 3
  stem.bias: (g in)
  grouped.weight: (g out) in 3 3
  grouped.bias: (g out)
  head.weight: classes (g out 4)
  head.bias: classes
"""
ATTENTION = """
spec: 1
name: attention
sizes: {head: heads}
permutations:
  embed:
  head:
  vo: {within: head}
tensors:
  enter.weight: embed input
  enter.bias: embed
  attention.in_proj_weight: (head 3 + head 3 + head vo) embed
  attention.in_proj_bias: (head 3 + head 3 + head vo)
  attention.out_proj.weight: embed (head vo)
  attention.out_proj.bias: embed
  leave.weight: classes embed
  leave.bias: classes
"""
DEEP = """
spec: 1
name: deep
permutations:
  low, back:
  high, over:
tensors:
  lstm.weight_ih_l0: (4 low) input
  lstm.weight_hh_l0: (4 low) low
  lstm.bias_{ih,hh}_l0: (4 low)
  lstm.weight_ih_l0_reverse: (4 back) input
  lstm.weight_hh_l0_reverse: (4 back) back
  lstm.bias_{ih,hh}_l0_reverse: (4 back)
  lstm.weight_ih_l1: (4 high) (low + back)
  lstm.weight_hh_l1: (4 high) high
  lstm.bias_{ih,hh}_l1: (4 high)
  lstm.weight_ih_l1_reverse: (4 over) (low + back)
  lstm.weight_hh_l1_reverse: (4 over) over
  lstm.bias_{ih,hh}_l1_reverse: (4 over)
  head.weight: classes (high + over)
  head.bias: classes
""".replace("low, back:", "low:\n  back:").replace("high, over:", "high:\n  over:")
CONVOLVED = """
spec: 1
name: convolved
permutations:
  a:
  b:
tensors:
  enter.weight: a rgb 3 3
  enter.bias: a
  norm.{weight,bias}: a
  norm.running_{mean,var}: a
  norm.num_batches_tracked: scalar
  depthwise.weight: a 1 3 3
  depthwise.bias: a
  up.weight: a b 2 2
  up.bias: b
  leave.weight: classes b
  leave.bias: classes
"""


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Deep(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4, num_layers=2, bidirectional=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x.transpose(0, 1))[0].mean(0))


class Convolved(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, 6, 3)
        self.norm = nn.BatchNorm2d(6)
        self.depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
        self.up = nn.ConvTranspose2d(6, 5, 2)
        self.leave = nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.depthwise(self.norm(self.enter(x)).relu_()).relu()
        return self.leave(self.up(x).relu().mean((2, 3)))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3)
        self.grouped = nn.Conv2d(12, 9, 3, groups=3)
        self.head = nn.Linear(36, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.grouped(self.stem(x).relu()).relu().flatten(1))


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(5, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.leave = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        return self.leave((x + self.attention(x, x, x, need_weights=False)[0]).mean(1))


def images() -> Tensor:
    return nets.images(nets.IMAGE, SAMPLES)


def tokens() -> Tensor:
    return torch.randint(VOCABULARY, (SAMPLES, 8), generator=Generator().manual_seed(3))


def numbers(*shape: int) -> Tensor:
    return torch.randn(SAMPLES, *shape, generator=Generator().manual_seed(3))


def gpt2() -> nn.Module:
    return nets.transformer("gpt2")


def llama() -> nn.Module:
    import transformers as t

    config = t.LlamaConfig(
        hidden_size=16,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=20,
        num_hidden_layers=2,
        vocab_size=VOCABULARY,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
        use_cache=False,
    )
    return t.LlamaForCausalLM(config)


KINDS = {
    "mlp": (lambda: zoo.MLP([7, 16, 16, 16, 5]), lambda: numbers(7), "mlp", {}),
    "vgg": (nets.ZOO["vgg"][0], images, "vgg", {}),
    "vgg-bn": (nets.ZOO["vgg-bn"][0], images, "vgg", {}),
    "resnet": (nets.ZOO["cifar-b"][0], images, "resnet-cifar", {}),
    "resnet-a": (nets.ZOO["cifar-a"][0], images, "resnet-cifar-a", {}),
    "gpt2": (gpt2, tokens, "gpt2", {"head": 2}),
    "llama": (llama, tokens, "llama", {"kv": 2}),
    "lstm": (Recurrent, lambda: numbers(6, 3), LSTM, {}),
    "deep": (Deep, lambda: numbers(6, 3), DEEP, {}),
    "convolved": (Convolved, lambda: numbers(3, 6, 6), CONVOLVED, {}),
    "grouped": (Grouped, lambda: numbers(3, 6, 6), GROUPED, {"g": 3}),
    "attention": (Attending, lambda: numbers(6, 5), ATTENTION, {"head": 2}),
}


@dataclass(frozen=True)
class Planted:
    """Model A, and model B, which is A renumbered; `element` brings B back."""

    binding: Binding
    evidence: NetworkEvidence
    network: TorchNetwork
    read_a: Read
    read_b: Read
    element: dict[str, Index]


def planted(kind: str, seed: int = 0, *, batch: int = 64) -> Planted:
    build, inputs, spec, sizes = KINDS[kind]
    torch.manual_seed(seed)
    module = build()
    weights = nets.state(module, seed + 1)
    binding = bound(spec, weights, sizes)
    rng = np.random.default_rng(seed)
    element = binding.group.random(rng)

    def read_a(name: str):
        return weights[name].numpy()

    read_b = rearranged(binding, binding.group.invert(element), read_a)
    network = wrapped(module, inputs(), batch)
    evidence = NetworkEvidence(network, binding, loss="cross-entropy")
    return Planted(binding, evidence, network, read_a, read_b, element)


def bound(spec: str, weights: dict[str, Tensor], sizes: dict[str, int]) -> Binding:
    header = {n: TensorInfo(dtype_of(x.numpy()), tuple(x.shape)) for n, x in weights.items()}
    text = parse_spec(spec) if "\n" in spec else load_spec(shipped_specs()[spec])
    return bind(text, header, sizes=sizes)


def wrapped(module: nn.Module, inputs: Tensor, batch: int, split: str = "train") -> TorchNetwork:
    targets = torch.randint(4, (len(inputs),), generator=Generator().manual_seed(5))
    if not inputs.is_floating_point():
        targets = inputs.roll(-1, 1)
    data = TensorData(
        Split(split, len(inputs), len(inputs), "0" * 64, "made up"), (inputs,), targets
    )
    names = {name: name for name in nets.untied(module)}
    return TorchNetwork(module, {split: data}, tied_names(module, names), batch=batch)


def tied_names(module: nn.Module, names: dict[str, str]) -> dict[str, str]:
    """Give tied tensors the name that is stored, as `names_of` does."""
    found = module.state_dict(keep_vars=True)
    first = {id(found[name]): name for name in names}
    return {name: first[id(tensor)] for name, tensor in found.items() if id(tensor) in first}


@dataclass(frozen=True)
class Masked:
    """Texts with the mask of their padding."""

    data: TensorData
    mask: Tensor

    @property
    def split(self) -> Split:
        return self.data.split

    def batches(self, size: int) -> Iterator[Batch]:
        for start, batch in enumerate(self.data.batches(size)):
            mask = self.mask[start * size : start * size + len(batch)]
            inputs = {"input_ids": batch.inputs[0], "attention_mask": mask}
            yield Batch(inputs, torch.zeros(len(batch), dtype=torch.int64))


@dataclass(frozen=True)
class Ragged:
    """Texts that are shorter in every other batch."""

    data: TensorData

    @property
    def split(self) -> Split:
        return self.data.split

    def batches(self, size: int) -> Iterator[Batch]:
        for number, batch in enumerate(self.data.batches(size)):
            end = 5 + 3 * (number % 2)
            yield Batch((batch.inputs[0][:, :end],), batch.targets[:, :end])
