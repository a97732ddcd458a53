"""Build the network that runs a checkpoint, from its names and shapes alone."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from rebasin_hub.bind import Binding
from rebasin_hub.errors import InputError
from rebasin_hub.tensors import Header
from rebasin_hub.zoo.mlp import MLP
from rebasin_hub.zoo.resnet import BasicBlock, Bottleneck, ResNet
from rebasin_hub.zoo.resnet_cifar import CifarResNet
from rebasin_hub.zoo.vgg import VGG, Plan

__all__ = ["Activation", "build"]

Activation: TypeAlias = Callable[[Tensor], Tensor]
Renamed: TypeAlias = Mapping[str, str]
"""From layers of the module to those of the checkpoint, where they differ."""
Built: TypeAlias = tuple[nn.Module, Renamed]
Builder: TypeAlias = Callable[[Binding, Activation], Built]

BLOCK = re.compile(r"layer(\d+)\.(\d+)\.conv1\.weight")
NUMBERED = re.compile(r"(features|classifier)\.(\d+)\.weight")
STEMS = {7: (2, 3), 3: (1, 1)}
"""Stride and padding of a ResNet's first convolution by its kernel."""
POOL_STEPS = 2
"""A convolution and its ReLU: the least distance of two convolutions in an `nn.Sequential`."""


def build(
    binding: Binding, *, activation: Activation | None = None
) -> tuple[nn.Module, dict[str, str]]:
    """Build the network of a bound checkpoint of one of the shipped image specs.

    Returns the module, whose values are all zero, and from the names in its state dict to the
    checkpoint's. The law: with the checkpoint's tensors under these names, it computes the
    function that the checkpoint was made for, as far as names and shapes tell it. They do not tell

    - the activation: ReLU, unless `activation` says otherwise (`mlp` and `vgg` only);
    - pooling. In `vgg` a gap in the numbers of the convolutions is a 2 × 2 max pooling, and one
      more stands behind the last convolution, as in torchvision; in `resnet` a 3 × 3 first
      convolution has stride 1 and no max pooling behind it, a 7 × 7 one has both;
    - strides: every stage of a ResNet but the first halves height and width.

    Raises:
        InputError: no network is known for the spec, or it has a shape that none of them has.

    """
    name = binding.spec.name
    if name not in BUILDERS:
        raise InputError(
            f"the architecture '{name}' has no ready-made network (there are "
            f"{', '.join(BUILDERS)}); give your own with --task path.py:name"
        )
    if activation is not None and name not in {"mlp", "vgg"}:
        raise InputError(
            f"the setting 'activation' does not apply to '{name}', whose activations are ReLU; "
            "leave it out"
        )
    with torch.device("meta"):
        module, renamed = BUILDERS[name](binding, activation or functional.relu)
    names = {inner: _stored(inner, renamed) for inner in module.state_dict()}
    _drop_biases(module, names, binding.header)
    module.to_empty(device="cpu")
    for tensor in module.state_dict().values():
        tensor.zero_()
    return module, {inner: names[inner] for inner in module.state_dict()}


def _stored(inner: str, renamed: Renamed) -> str:
    layer, _, kind = inner.rpartition(".")
    return f"{renamed.get(layer, layer)}.{kind}"


def _drop_biases(module: nn.Module, names: Mapping[str, str], header: Header) -> None:
    """Take away the biases that a checkpoint does without."""
    for inner in [inner for inner in names if inner.endswith(".bias")]:
        if names[inner] not in header:
            layer = inner.removesuffix(".bias")
            module.get_submodule(layer).register_parameter("bias", None)


def _mlp(binding: Binding, activation: Activation) -> Built:
    """Follow the chain from the input, whatever the layers' names and numbers are."""
    reads: dict[str, tuple[str, str]] = {}
    for name, tensor in binding.of_name.items():
        if len(tensor.axes) > 1:
            output, input_ = (axis.segments[0].atoms[0].word for axis in tensor.axes)
            reads[input_] = (name, output)
    weights, word = [], "input"
    while word in reads:
        name, word = reads.pop(word)
        weights.append(name)
    shapes = [binding.header[name].shape for name in weights]
    network = MLP([shapes[0][1], *(shape[0] for shape in shapes)], activation=activation)
    stored = (name.removesuffix(".weight") for name in weights)
    return network, dict(zip(network.names, stored, strict=True))


def _vgg(binding: Binding, activation: Activation) -> Built:
    header = binding.header
    features = _numbered(header, "features")
    convs = {n: s for n, s in features.items() if len(s) > 1}
    batch_norm = len(convs) < len(features)
    widths = _linear_widths(header)
    pixels, remainder = divmod(widths[0], [shape[0] for shape in convs.values()][-1])
    pool = math.isqrt(pixels)
    if remainder or pool**2 != pixels:
        raise InputError(
            f"the classifier reads {widths[0]} inputs, which is no square of pixels for each of "
            "the last convolution's channels; give your own network with --task path.py:name"
        )
    network = VGG(
        _plan(convs, norms=batch_norm),
        num_classes=widths[-1],
        batch_norm=batch_norm,
        pool=pool,
        hidden=widths[1:-1],
    )
    channels = next(iter(convs.values()))[1]
    network.features[0] = nn.Conv2d(channels, next(iter(convs.values()))[0], 3, padding=1)
    _replace_relus(network, activation)
    return network, _vgg_names(network, header)


def _numbered(header: Header, part: str) -> dict[int, tuple[int, ...]]:
    """Return the shapes of a sequence's weights by their numbers, in order."""
    found = {
        int(match[2]): header[name].shape
        for name in header
        if (match := NUMBERED.fullmatch(name)) and match[1] == part
    }
    return dict(sorted(found.items()))


def _linear_widths(header: Header) -> list[int]:
    layers = list(_numbered(header, "classifier").values()) or [header["classifier.weight"].shape]
    return [layers[0][1], *(shape[0] for shape in layers)]


def _plan(convs: Mapping[int, tuple[int, ...]], *, norms: bool) -> Plan:
    """Read widths and poolings off the numbers of the convolutions."""
    plan: list[int | str] = []
    for (number, shape), following in zip(convs.items(), [*list(convs)[1:], None], strict=True):
        plan.append(shape[0])
        skipped = 1 if following is None else following - number - POOL_STEPS - norms
        if skipped not in {0, 1}:
            raise InputError(
                f"features.{following}.weight stands {(following or 0) - number} behind the "
                f"convolution before it; {POOL_STEPS + norms} or {POOL_STEPS + norms + 1} were "
                "expected as in torchvision's VGG; give your own network with --task path.py:name"
            )
        plan += ["M"] * skipped
    return plan  # type: ignore[return-value]  # every text in it is "M"


def _replace_relus(network: VGG, activation: Activation) -> None:
    if activation is functional.relu:
        return
    for sequence in (m for m in network.modules() if isinstance(m, nn.Sequential)):
        for number, step in enumerate(sequence):
            if isinstance(step, nn.ReLU):
                sequence[number] = _Elementwise(activation)


class _Elementwise(nn.Module):
    """A function as a step of an `nn.Sequential`."""

    def __init__(self, function: Activation) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def _vgg_names(network: VGG, header: Header) -> Renamed:
    """Pair the layers in their order: dropout in other places shifts the stored numbers."""
    renamed: dict[str, str] = {}
    for part in ("features", "classifier"):
        inner = [
            f"{part}.{name}" if name else part
            for name, step in network.get_submodule(part).named_modules()
            if isinstance(step, nn.Conv2d | nn.BatchNorm2d | nn.Linear)
        ]
        stored = [f"{part}.{number}" for number in _numbered(header, part)]
        # A norm may be missing somewhere: what is left over is found when names are matched.
        renamed |= dict(zip(inner, stored or [part], strict=False))
    return renamed


def _resnet(
    binding: Binding, activation: Activation, *, block: type[BasicBlock] | type[Bottleneck]
) -> Built:
    del activation  # a ResNet's are ReLU
    header = binding.header
    depths, expansion = _depths(header), block.expansion
    last = "conv2" if block is BasicBlock else "conv3"
    widths = [header[f"layer{stage}.0.{last}.weight"].shape[0] // expansion for stage in depths]
    groups, width_per_group = 1, 64
    if block is Bottleneck:
        inner = [header[f"layer{stage}.0.conv2.weight"].shape for stage in depths]
        groups = inner[0][0] // inner[0][1]
        width_per_group = _width_per_group(widths, [shape[1] for shape in inner])
    network = ResNet(
        block,
        list(depths.values()),
        widths=widths,
        num_classes=header["fc.weight"].shape[0],
        groups=groups,
        width_per_group=width_per_group,
    )
    _set_stem(network, header)
    return network, {}


def _depths(header: Header) -> dict[int, int]:
    """Return the number of blocks of each stage."""
    stages = [int(match[1]) for name in header if (match := BLOCK.fullmatch(name))]
    return {stage: stages.count(stage) for stage in sorted(set(stages))}


def _width_per_group(widths: list[int], inner: list[int]) -> int:
    """Return the integer of which `int(planes * (w / 64))` are the channels of each group."""
    lowest = max(
        math.ceil(64 * width / planes) for planes, width in zip(widths, inner, strict=True)
    )
    for planes, width in zip(widths, inner, strict=True):
        if int(planes * (lowest / 64)) != width:
            raise InputError(
                f"groups of {width} channels in blocks of {planes} planes belong to no ResNeXt or "
                "Wide ResNet; give your own network with --task path.py:name"
            )
    return lowest


def _set_stem(network: ResNet, header: Header) -> None:
    outputs, channels, kernel, _ = header["conv1.weight"].shape
    if kernel not in STEMS:
        raise InputError(
            f"conv1.weight: is a {kernel} × {kernel} convolution; a ResNet's is 7 × 7, or 3 × 3 "
            "for small images; give your own network with --task path.py:name"
        )
    stride, padding = STEMS[kernel]
    network.conv1 = nn.Conv2d(channels, outputs, kernel, stride, padding, bias=False)
    if stride == 1:
        network.register_module("maxpool", nn.Identity())


def _resnet_cifar(
    binding: Binding, activation: Activation, *, padded: bool = False, layer_norm: bool = False
) -> Built:
    del activation  # a ResNet's are ReLU
    header = binding.header
    depths = _depths(header)
    stem, channels = header["conv1.weight"].shape[:2]
    network = CifarResNet(
        list(depths.values()),
        widths=[header[f"layer{stage}.0.conv2.weight"].shape[0] for stage in depths],
        stem=stem,
        channels=channels,
        shortcut="A" if padded else "B",
        norm="layer" if layer_norm else "batch",
        num_classes=header["linear.weight"].shape[0],
    )
    return network, {}


BUILDERS: Mapping[str, Builder] = {
    "mlp": _mlp,
    "vgg": _vgg,
    "resnet": partial(_resnet, block=BasicBlock),
    "resnet-bottleneck": partial(_resnet, block=Bottleneck),
    "resnet-cifar": _resnet_cifar,
    "resnet-cifar-a": partial(_resnet_cifar, padded=True),
    "resnet-cifar-layernorm": partial(_resnet_cifar, layer_norm=True),
}
"""By the names of the specs."""
