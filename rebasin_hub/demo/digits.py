"""Train small networks on scikit-learn's digits, and measure them along straight lines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rebasin_hub.barrier import Curve, grid
from rebasin_hub.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["WIDTHS", "Digits", "line", "load_digits", "train"]

WIDTHS = (64, 512, 512, 512, 10)
EPOCHS = 30
BATCH = 128
TRAIN = 1437


@dataclass(frozen=True, eq=False)
class Digits:
    """1,797 images of 8 × 8 pixels in [0, 1] and their labels, 1,437 of them for training."""

    train: tuple[Tensor, Tensor]
    test: tuple[Tensor, Tensor]


def load_digits() -> Digits:
    """Load the digits that scikit-learn carries, in a fixed random order.

    Raises:
        MissingExtraError: torch or scikit-learn is not installed.

    """
    try:
        import torch
        from sklearn.datasets import load_digits as load
    except ImportError as problem:
        raise MissingExtraError("the demo", "demo") from problem
    data = load()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0))
    images = torch.from_numpy(data.data).float()[order] / 16
    labels = torch.from_numpy(data.target).long()[order]
    return Digits((images[:TRAIN], labels[:TRAIN]), (images[TRAIN:], labels[TRAIN:]))


def train(digits: Digits, seed: int) -> dict[str, Tensor]:
    """Train one network from a seed with Adam, and return its state dict."""
    import torch
    from torch.nn.functional import cross_entropy

    from rebasin_hub.zoo import MLP

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = MLP(WIDTHS)
    shuffle = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    images, labels = digits.train
    for _ in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(labels), generator=shuffle), BATCH):
            optimizer.zero_grad()
            cross_entropy(network(images[batch]), labels[batch]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return {name: value.detach() for name, value in network.state_dict().items()}


def evaluate(weights: Mapping[str, Tensor], data: tuple[Tensor, Tensor]) -> tuple[float, float]:
    """Return mean cross-entropy (nats) and accuracy of a network on images and labels."""
    import torch
    from torch.nn.functional import cross_entropy

    from rebasin_hub.zoo import MLP

    network = MLP(WIDTHS)
    network.load_state_dict(dict(weights))
    images, labels = data
    with torch.inference_mode():
        logits = network(images)
        accuracy = (logits.argmax(1) == labels).double().mean().item()
        return cross_entropy(logits, labels).item(), accuracy


def line(a: Mapping[str, Tensor], b: Mapping[str, Tensor], data: tuple[Tensor, Tensor]) -> Curve:
    """Measure the loss on the straight line between two networks."""
    losses = [evaluate({name: a[name].lerp(b[name], x) for name in a}, data)[0] for x in grid()]
    return Curve(grid(), tuple(losses))
