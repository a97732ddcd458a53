"""The ResNets for CIFAR (ResNet-20 and its like) as their PyTorch checkpoints name them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CifarResNet"]


@dataclass(frozen=True)
class _Norms:
    """A kind of norm: what it is called, and what makes one for a number of channels."""

    name: str
    make: Callable[[int], nn.Module]

    def add(self, module: nn.Module, number: int, channels: int) -> str:
        """Add a norm to a module, and return its name."""
        name = f"{self.name}{number}"
        module.add_module(name, self.make(channels))
        return name


class CifarResNet(nn.Module):
    """A residual network of three stages or more: `conv1`, `bn1`, `layer1.0.conv1`, …, `linear`.

    Maps (batch, channels, height, width) to (batch, num_classes). Each stage has `depth` basic
    blocks (3 make ResNet-20), or as many as its own number in `depth` says, of `widths` channels,
    times `width`; all but the first halve the height and width. The first convolution has `stem`
    channels, the first stage's by default. At the start of a stage that halves or widens:

    - shortcut "A" skips every other pixel and pads zero channels on both sides; no parameters.
    - shortcut "B" projects, with `shortcut.0` (1x1 convolution) and `shortcut.1` (norm).

    With norm "layer" each pixel's channels are normalized, as in Git Re-Basin's experiments, and
    the norms are named `ln1`, `ln2` in the place of `bn1`, `bn2`, so that names tell them apart
    from GroupNorm, whose symmetries are others.

    He et al., arXiv:1512.03385, section 4.2; Ainsworth et al., arXiv:2209.04836, section 5.
    """

    def __init__(
        self,
        depth: int | Sequence[int] = 3,
        *,
        width: int = 1,
        widths: Sequence[int] = (16, 32, 64),
        stem: int | None = None,
        channels: int = 3,
        shortcut: Literal["A", "B"] = "A",
        norm: Literal["batch", "layer"] = "batch",
        num_classes: int = 10,
    ) -> None:
        super().__init__()
        norms = _Norms("bn", nn.BatchNorm2d) if norm == "batch" else _Norms("ln", _ChannelNorm)
        inputs = stem or widths[0] * width
        self.conv1 = nn.Conv2d(channels, inputs, 3, padding=1, bias=False)
        self.norm1 = norms.add(self, 1, inputs)
        depths = [depth] * len(widths) if isinstance(depth, int) else depth
        self.stages = [f"layer{number}" for number in range(1, len(widths) + 1)]
        for stage, blocks, planes in zip(self.stages, depths, widths, strict=True):
            layers: list[nn.Module] = []
            for index in range(blocks):
                stride = 2 if index == 0 and stage != "layer1" else 1
                layers.append(_Block(inputs, planes * width, stride, shortcut, norms))
                inputs = planes * width
            self.add_module(stage, nn.Sequential(*layers))
        self.linear = nn.Linear(inputs, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = functional.relu(self.get_submodule(self.norm1)(self.conv1(x)))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        logits: Tensor = self.linear(x.mean((2, 3)))
        return logits


class _Block(nn.Module):
    """Two 3x3 convolutions, the first with the stride, beside a shortcut."""

    def __init__(
        self, inputs: int, planes: int, stride: int, shortcut: Literal["A", "B"], norms: _Norms
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, padding=1, bias=False)
        self.norm1 = norms.add(self, 1, planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.norm2 = norms.add(self, 2, planes)
        self.shortcut: nn.Module = nn.Identity()
        if stride == 1 and inputs == planes:
            return
        if shortcut == "A":
            self.shortcut = _PaddedShortcut((planes - inputs) // 2)
        else:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, planes, 1, stride, bias=False), norms.make(planes)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the residual stream after this block."""
        y = functional.relu(self.get_submodule(self.norm1)(self.conv1(x)))
        y = self.get_submodule(self.norm2)(self.conv2(y))
        return functional.relu(y + self.shortcut(x))


class _PaddedShortcut(nn.Module):
    """Every other pixel, with `pad` zero channels before and after the stream's own."""

    def __init__(self, pad: int) -> None:
        super().__init__()
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, c, h, w) to (batch, c + 2 pad, ⌈h/2⌉, ⌈w/2⌉)."""
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.pad, self.pad))


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each pixel of a (batch, c, h, w) tensor."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that nn.LayerNorm gives
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)
