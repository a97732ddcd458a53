"""VGG as torchvision names it, and its small CIFAR variant."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

__all__ = ["VGG", "VGG11", "VGG16"]

Plan = Sequence[int | Literal["M"]]
"""Output channels of each 3x3 convolution, with "M" for each 2x2 max pooling."""

VGG11: Plan = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")
VGG16: Plan = (
    *(64, 64, "M", 128, 128, "M", 256, 256, 256, "M"),
    *(512, 512, 512, "M", 512, 512, 512, "M"),
)


class VGG(nn.Module):
    """VGG: `features.N.*` and `classifier.N.*`, numbered as in torchvision.

    Maps (batch, 3, height, width) to (batch, num_classes). The features are pooled to `pool` x
    `pool` and flattened channel-major (NCHW), then pass one linear layer for each of `hidden`.
    For CIFAR, `pool=1, hidden=()` leaves one linear layer, named `classifier.weight` and
    `classifier.bias`.

    Simonyan and Zisserman, arXiv:1409.1556, table 1.
    """

    def __init__(
        self,
        plan: Plan = VGG11,
        *,
        num_classes: int = 1000,
        batch_norm: bool = False,
        pool: int = 7,
        hidden: Sequence[int] = (4096, 4096),
    ) -> None:
        super().__init__()
        self.features = _features(plan, batch_norm=batch_norm)
        self.avgpool = nn.AdaptiveAvgPool2d((pool, pool))
        channels = [step for step in plan if step != "M"][-1]
        self.classifier = _classifier([channels * pool**2, *hidden, num_classes])

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.classifier(self.avgpool(self.features(x)).flatten(1))
        return logits


def _features(plan: Plan, *, batch_norm: bool) -> nn.Sequential:
    layers: list[nn.Module] = []
    channels = 3
    for step in plan:
        if step == "M":
            layers.append(nn.MaxPool2d(2))
            continue
        layers.append(nn.Conv2d(channels, step, 3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(step))
        layers.append(nn.ReLU())
        channels = step
    return nn.Sequential(*layers)


def _classifier(widths: Sequence[int]) -> nn.Module:
    *hidden, last = (nn.Linear(inputs, outputs) for inputs, outputs in pairwise(widths))
    if not hidden:
        return last
    # Dropout stands here for its place in the numbering, which the names show.
    return nn.Sequential(*(step for x in hidden for step in (x, nn.ReLU(), nn.Dropout())), last)
