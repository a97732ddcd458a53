"""Image classifiers of the product's zoo, trained and stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from data import cache, data
from safetensors.torch import save_file

from rebasin_hub import zoo
from training.device import seeded
from training.fit import Recipe, evaluate, fit
from training.images import load
from training.store import Log, Trained, stored

__all__ = ["Classifier"]


@dataclass(frozen=True)
class Classifier:
    """One network of `rebasin_hub.zoo`, trained on one data set from one seed.

    network, arguments: the class and what it is called with.
    data: of `data.DATA`.
    task: the product's name for such data.
    seed: decides the initial weights, the order of the images, and their augmentation.
    """

    name: str
    network: str
    arguments: Mapping[str, object]
    data: str
    task: str
    recipe: Recipe
    seed: int

    def trained(self, device: str = "cpu") -> Trained:
        """Train it, or return what an earlier run has left."""
        return stored(
            f"{self.name}-s{self.seed}",
            ".safetensors",
            asdict(self),
            lambda path: self._train(path, torch.device(device)),
            cache() / "checkpoints",
        )

    def _train(self, path: Path, device: torch.device) -> Log:
        train, test = load(self.task, data(self.data), device, flat=self.network == "MLP")
        module = seeded(lambda: getattr(zoo, self.network)(**self.arguments), self.seed)
        module.to(device).to(memory_format=torch.channels_last)
        epochs = fit(module, train, self.recipe, self.seed)
        save_file({n: t.cpu().contiguous() for n, t in module.state_dict().items()}, path)
        return {
            "test": evaluate(module, test),
            "train": evaluate(module, train),
            "epochs": epochs,
            "device": str(device),
        }
