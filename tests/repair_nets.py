"""Networks with random weights and inputs, for the tests of repair."""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from rebasin_hub import zoo
from rebasin_hub.bind import bind
from rebasin_hub.rearrange import rearranged
from rebasin_hub.specfile import load_spec, shipped_specs
from rebasin_hub.tasks.network import Batch, TensorData, TorchNetwork
from rebasin_hub.tasks.task import Split
from rebasin_hub.tensors import TensorInfo, dtype_of

SAMPLES = 96
IMAGE = (3, 12, 12)

ZOO = {
    "mlp": (lambda: zoo.MLP([7, 12, 12, 12, 5]), (7,), "mlp"),
    "vgg": (lambda: zoo.VGG((6, "M", 8), pool=2, hidden=(9, 8), num_classes=5), IMAGE, "vgg"),
    "vgg-bn": (
        lambda: zoo.VGG((6, "M", 8), batch_norm=True, pool=1, hidden=(9,), num_classes=5),
        IMAGE,
        "vgg",
    ),
    "cifar-a": (lambda: zoo.CifarResNet(1, num_classes=5), IMAGE, "resnet-cifar-a"),
    "cifar-b": (lambda: zoo.CifarResNet(1, shortcut="B", num_classes=5), IMAGE, "resnet-cifar"),
    "cifar-ln": (
        lambda: zoo.CifarResNet(1, shortcut="B", norm="layer", num_classes=5),
        IMAGE,
        None,
    ),
    "resnext": (
        lambda: zoo.ResNet(
            zoo.Bottleneck, (1, 1), widths=(4, 8), groups=2, width_per_group=32, num_classes=5
        ),
        IMAGE,
        None,
    ),
}
WITH_NORMS = ["vgg-bn", "cifar-a", "cifar-b", "resnext"]
WITH_SPEC = [name for name, (_, _, spec) in ZOO.items() if spec]

GPT2 = {"vocab_size": 23, "n_positions": 8, "n_embd": 12, "n_layer": 2, "n_head": 2}
BERT = {
    "vocab_size": 23,
    "max_position_embeddings": 8,
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 20,
    "num_labels": 3,
}


def images(shape: tuple[int, ...], count: int = SAMPLES) -> Tensor:
    """Inputs that differ by sample, so that channels vary after pooling too."""
    generator = Generator().manual_seed(7)
    levels = torch.randn(count, *(1 for _ in shape), generator=generator)
    return torch.randn(count, *shape, generator=generator) + levels


def tokens(count: int = SAMPLES) -> Tensor:
    return torch.randint(23, (count, 8), generator=Generator().manual_seed(7))


def data(inputs: Tensor, name: str = "train") -> TensorData:
    split = Split(name, len(inputs), len(inputs), "0" * 64, "made up")
    return TensorData(split, (inputs,), torch.zeros(len(inputs), dtype=torch.int64))


def network(module: nn.Module, inputs: Tensor, batch: int = SAMPLES) -> TorchNetwork:
    """Wrap a module; by default statistics are measured in one batch, which is exact."""
    names = {name: name for name in untied(module)}
    return TorchNetwork(module, {"train": data(inputs)}, names, batch=batch)


def state(module: nn.Module, seed: int) -> dict[str, Tensor]:
    """Random weights of every kind, tied ones once."""
    zoo.randomize(module, Generator().manual_seed(seed))
    return {name: x.clone() for name, x in untied(module).items()}


def untied(module: nn.Module) -> dict[str, Tensor]:
    """A state dict with each tensor under its first name, as checkpoints store them."""
    first: dict[int, str] = {}
    found = module.state_dict(keep_vars=True)
    for name, tensor in found.items():
        first.setdefault(id(tensor), name)
    return {name: found[name].detach() for name in first.values()}


def made(name: str, batch: int = SAMPLES) -> tuple[TorchNetwork, dict[str, Tensor], dict]:
    """Return a network of the zoo or of transformers with two random states."""
    if name in ZOO:
        build, shape, _ = ZOO[name]
        module, inputs = build(), images(shape)
    else:
        module, inputs = transformer(name), tokens()
    a, b = state(module, 1), state(module, 2)
    return network(module, inputs, batch), a, b


def transformer(name: str) -> nn.Module:
    import transformers as t

    if name == "gpt2":
        return t.GPT2LMHeadModel(t.GPT2Config(**GPT2, use_cache=False))
    return t.BertForSequenceClassification(t.BertConfig(**BERT))


def renumbering(name: str, weights: dict[str, Tensor], seed: int):
    """Return what renumbers a state of a network of the zoo by a random element of its group."""
    header = {n: TensorInfo(dtype_of(x.numpy()), tuple(x.shape)) for n, x in weights.items()}
    binding = bind(load_spec(shipped_specs()[ZOO[name][2]]), header)
    element = binding.group.random(np.random.default_rng(seed))
    assert not binding.group.is_identity(element)

    def renumbered(values: dict[str, Tensor]) -> dict[str, Tensor]:
        read = rearranged(binding, element, lambda n: values[n].numpy())
        return {n: torch.from_numpy(read(n).copy()) for n in values}

    return renumbered


class Odd(nn.Module):
    """Layers of every kind, one after another: (batch, 4, 6) to (batch, 3)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(4, 6, 3, groups=2)
        self.conv2 = nn.Conv2d(1, 4, 3)
        self.up2 = nn.ConvTranspose2d(4, 6, 3, groups=2)
        self.conv3 = nn.Conv3d(1, 2, 3, bias=False)
        self.up1 = nn.ConvTranspose1d(2, 4, 2)
        self.bare = nn.Linear(4, 5, bias=False)
        self.twice = nn.Linear(5, 5)
        self.unused = nn.Linear(2, 2)
        self.tied = nn.Linear(5, 5)
        self.tied_too = nn.Linear(5, 5)
        self.tied_too.weight = self.tied.weight
        self.scaled = nn.utils.parametrizations.weight_norm(nn.Linear(5, 5))
        self.own = Standardized(5, 5)
        self.group = nn.GroupNorm(1, 5)
        self.plain = nn.BatchNorm1d(5, affine=False)
        self.untracked = nn.BatchNorm1d(5, track_running_stats=False)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(self.conv1(x)).unsqueeze(1)
        x = self.up2(functional.leaky_relu(self.conv2(x)))
        x = functional.leaky_relu(self.conv3(x.unsqueeze(1)))
        x = self.bare(self.up1(x.flatten(2)).mean(2))
        x = self.twice(functional.leaky_relu(self.twice(x)))
        x = self.own(self.scaled(self.tied_too(functional.leaky_relu(self.tied(x)))))
        return self.last(self.untracked(self.plain(functional.leaky_relu_(self.group(x)))))


class Standardized(nn.Linear):
    """A linear layer whose weight is standardized: scaling it does nothing."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that nn.Linear gives
        weight = self.weight / self.weight.norm(dim=1, keepdim=True)
        return functional.linear(input, weight, self.bias)


def batches_of(inputs: Tensor, sizes: list[int]) -> list[Batch]:
    parts = inputs.split(sizes)
    return [Batch((part,), torch.zeros(len(part), dtype=torch.int64)) for part in parts]
