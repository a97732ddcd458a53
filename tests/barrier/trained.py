"""Small networks, trained on digits in a second, as checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from rebasin_hub.demo.digits import load_digits
from rebasin_hub.formats import save_safetensors
from rebasin_hub.zoo import MLP

WIDTHS = (64, 48, 48, 10)


def trained_mlp(seed: int, epochs: int = 8) -> dict[str, np.ndarray]:
    torch.manual_seed(seed)
    network = MLP(WIDTHS)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    images, labels = load_digits().train
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(labels)), 128):
            optimizer.zero_grad()
            functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    return {name: x.detach().numpy() for name, x in network.state_dict().items()}


def save(folder: Path, name: str, weights: dict[str, np.ndarray]) -> Path:
    path = folder / f"{name}.safetensors"
    save_safetensors(path, weights)
    return path


def direct(
    weights: dict[str, np.ndarray], split: str = "test"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits and labels, without any of the code that is tested."""
    network = MLP(WIDTHS)
    network.load_state_dict({name: torch.from_numpy(x) for name, x in weights.items()})
    images, labels = getattr(load_digits(), split)
    with torch.no_grad():
        return network(images), labels
