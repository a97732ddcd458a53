"""ResNet, ResNeXt and Wide ResNet as torchvision and timm name them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional

__all__ = ["BasicBlock", "Bottleneck", "ResNet"]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each with BatchNorm, beside an identity or a projection."""

    expansion: ClassVar[int] = 1

    def __init__(
        self, inputs: int, planes: int, stride: int, *, groups: int = 1, width_per_group: int = 64
    ) -> None:
        super().__init__()
        if (groups, width_per_group) != (1, 64):
            raise ValueError("a basic block has groups=1 and width_per_group=64")
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = _projection(inputs, planes * self.expansion, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the residual stream after this block."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolutions, each with BatchNorm; the stride is the 3x3's."""

    expansion: ClassVar[int] = 4

    def __init__(
        self, inputs: int, planes: int, stride: int, *, groups: int = 1, width_per_group: int = 64
    ) -> None:
        super().__init__()
        width = int(planes * (width_per_group / 64)) * groups
        outputs = planes * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _projection(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Return the residual stream after this block."""
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """A residual network for images: `conv1`, `bn1`, `layer1.0.conv1`, …, `fc`.

    Maps (batch, 3, height, width) to (batch, num_classes). Stage i has `depths[i]` blocks of
    `widths[i]` planes; all but the first halve the height and width. `groups` and
    `width_per_group` (of which 64 is the plain network's) make ResNeXt and Wide ResNet.

    He et al., arXiv:1512.03385, table 1; Xie et al., arXiv:1611.05431.

    Raises:
        ValueError: depths and widths of different lengths, or groups given to basic blocks.

    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        *,
        widths: Sequence[int] = (64, 128, 256, 512),
        num_classes: int = 1000,
        groups: int = 1,
        width_per_group: int = 64,
    ) -> None:
        super().__init__()
        channels = widths[0]
        self.conv1 = nn.Conv2d(3, channels, 7, 2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.maxpool = nn.MaxPool2d(3, 2, padding=1)
        self.stages = [f"layer{number}" for number in range(1, len(depths) + 1)]
        for stage, depth, planes in zip(self.stages, depths, widths, strict=True):
            blocks: list[nn.Module] = []
            for index in range(depth):
                stride = 2 if index == 0 and stage != "layer1" else 1
                blocks.append(
                    block(channels, planes, stride, groups=groups, width_per_group=width_per_group)
                )
                channels = planes * block.expansion
            self.add_module(stage, nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        x = self.maxpool(functional.relu(self.bn1(self.conv1(x))))
        for stage in self.stages:
            x = self.get_submodule(stage)(x)
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
