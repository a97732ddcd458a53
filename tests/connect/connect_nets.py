"""Small networks, trained on digits in a second, and renumbered copies of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from rebasin_hub.bind import bind
from rebasin_hub.demo.digits import load_digits
from rebasin_hub.formats import save_safetensors
from rebasin_hub.permute import Element
from rebasin_hub.rearrange import rearranged
from rebasin_hub.specfile import load_spec, shipped_specs
from rebasin_hub.tensors import TensorInfo, dtype_of
from rebasin_hub.zoo import MLP

WIDTHS = (64, 24, 24, 10)
Weights = dict[str, np.ndarray]


def trained(seed: int, epochs: int = 6) -> Weights:
    torch.manual_seed(seed)
    network = MLP(WIDTHS)
    optimizer = torch.optim.Adam(network.parameters(), lr=4e-3)
    images, labels = load_digits().train
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(labels)), 128):
            optimizer.zero_grad()
            functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    return {name: x.detach().numpy().copy() for name, x in network.state_dict().items()}


def binding_of(weights: Weights):
    header = {n: TensorInfo(dtype_of(x), x.shape) for n, x in weights.items()}
    return bind(load_spec(shipped_specs()["mlp"]), header)


def renumbered(weights: Weights, seed: int) -> Weights:
    """Return the weights with every hidden unit at another place."""
    return moved(weights, binding_of(weights).group.random(np.random.default_rng(seed)))


def moved(weights: Weights, element: Element) -> Weights:
    read = rearranged(binding_of(weights), element, weights.__getitem__)
    return {name: read(name) for name in weights}


def masks_of(weights: Weights, share: float) -> Weights:
    """Return masks of the matrices that keep all but the smallest weights."""
    return {
        name: np.abs(x) > np.quantile(np.abs(x), share) for name, x in weights.items() if x.ndim > 1
    }


def save(folder: Path, name: str, weights: Weights) -> Path:
    path = folder / f"{name}.safetensors"
    save_safetensors(path, weights)
    return path


def loss_of(weights: Weights, limit: int | None = None) -> float:
    """Return the loss on the test split, without any of the code that is tested."""
    network = MLP(WIDTHS)
    network.load_state_dict({name: torch.from_numpy(x) for name, x in weights.items()})
    images, labels = load_digits().test
    with torch.no_grad():
        return float(functional.cross_entropy(network(images)[:limit], labels[:limit]))


def mixed(models: list[Weights], shares: list[float]) -> Weights:
    return {
        name: sum(s * m[name].astype("f8") for s, m in zip(shares, models, strict=True)).astype(
            "f4"
        )
        for name in models[0]
    }


def comparable(record) -> dict:
    """Return a record without what differs from run to run."""
    return record.model_dump(exclude={"created", "seconds", "command"})


class Interruption:
    """Stops a measurement like Ctrl-C, after some forward passes."""

    def __init__(self, after: int = 10**9) -> None:
        self.after = after
        self.done = 0

    def __call__(self, stage: str, done: int, total: int) -> None:
        searching = " to " in stage and "reading" not in stage
        if searching or stage.startswith(("step", "the simplex")):
            assert done <= total
            self.done = done
            if done >= self.after:
                raise KeyboardInterrupt
