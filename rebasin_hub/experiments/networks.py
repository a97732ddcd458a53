"""The networks that experiments train, by kind, fitted to the images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rebasin_hub.errors import InputError

__all__ = ["KINDS", "network_of"]

KINDS: Mapping[str, str] = {
    "mlp": "`depth` hidden layers (3) of `width` units (512)",
    "resnet": "CIFAR ResNet of `depth` blocks a stage (3: ResNet-20), 16, 32, 64 channels times "
    "`width` (1), BatchNorm, projection shortcuts",
    "resnet-layernorm": "the same with LayerNorm over each pixel's channels",
    "vgg16": "VGG-16 with BatchNorm and one linear layer, 64 to 512 channels",
}
VGG_LEAST = 32
"""Pixels on a side that five halvings need."""


def network_of(
    kind: str,
    *,
    shape: tuple[int, int, int],
    classes: int,
    width: int | None = None,
    depth: int | None = None,
) -> tuple[str, dict[str, Any]]:
    """Return the class in `rebasin_hub.zoo` and its arguments, as plain JSON values.

    Args:
        kind: of `KINDS`.
        shape: channels, height and width of an image.
        classes: the number of outputs.
        width: see `KINDS`.
        depth: see `KINDS`.

    Raises:
        InputError: there is no such kind, or the images do not fit it.

    """
    channels, height, across = shape
    if kind == "mlp":
        hidden = [width or 512] * (3 if depth is None else depth)
        return "MLP", {"widths": [channels * height * across, *hidden, classes]}
    if kind in {"resnet", "resnet-layernorm"}:
        return "CifarResNet", {
            "depth": depth or 3,
            "width": width or 1,
            "channels": channels,
            "shortcut": "B",
            "norm": "layer" if kind == "resnet-layernorm" else "batch",
            "num_classes": classes,
        }
    if kind == "vgg16":
        if channels != 3 or min(height, across) < VGG_LEAST:  # noqa: PLR2004
            raise InputError(
                f"VGG-16 takes images of 3 channels and at least 32 × 32 pixels, not {channels} × "
                f"{height} × {across}; choose --task cifar10"
            )
        plan = [64, 64, "M", 128, 128, "M", *[256] * 3, "M", *[512] * 3, "M", *[512] * 3, "M"]
        return "VGG", {
            "plan": plan,
            "pool": 1,
            "hidden": [],
            "batch_norm": True,
            "num_classes": classes,
        }
    raise InputError(f"there is no network '{kind}'; there are {', '.join(KINDS)}")
