"""Train small networks on scikit-learn's digits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from rebasin_hub.tasks.images.part import Part
    from rebasin_hub.training.images import Images

__all__ = ["EPOCHS", "WIDTHS", "Digits", "evaluate", "load_digits", "train"]

WIDTHS = (64, 512, 512, 512, 10)
EPOCHS = 30


@dataclass(frozen=True, eq=False)
class Digits:
    """1,797 images of 8 × 8 pixels in [0, 1] and their labels, 1,437 of them for training."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def load_digits() -> Digits:
    """Load the digits as the task `digits` has them.

    Raises:
        MissingExtraError: torch or scikit-learn is not installed.

    """
    from rebasin_hub.tasks.images.digits import digits_parts

    parts = digits_parts()
    import torch

    def tensors(part: Part) -> tuple[Tensor, Tensor]:
        pixels = part.read(np.arange(len(part.labels)), None)
        rows = torch.from_numpy(pixels.reshape(len(pixels), -1)).float()
        return rows / part.white, torch.from_numpy(part.labels)

    return Digits(tensors(parts["train"]), tensors(parts["test"]))


def train(digits: Digits, seed: int) -> dict[str, Tensor]:
    """Train one network from a seed with Adam, and return its state dict."""
    from rebasin_hub.training import Recipe
    from rebasin_hub.training.device import seeded
    from rebasin_hub.training.fit import fit
    from rebasin_hub.zoo import MLP

    network = seeded(lambda: MLP(WIDTHS), seed)
    fit(network, _images(digits.train), Recipe(EPOCHS), seed=seed)
    return {name: value.detach() for name, value in network.state_dict().items()}


def evaluate(weights: Mapping[str, Tensor], data: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Return mean cross-entropy (nats) and accuracy of a network on images and labels."""
    from rebasin_hub.training.fit import evaluate as measure
    from rebasin_hub.zoo import MLP

    network = MLP(WIDTHS)
    network.load_state_dict(dict(weights))
    found = measure(network, _images(data))
    return found["loss"], found["accuracy"]


def _images(data: tuple[Tensor, Tensor]) -> Images:
    from rebasin_hub.training.images import Images

    rows, labels = data
    return Images(rows, labels, white=1.0, flat=True)
