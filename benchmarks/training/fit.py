"""The training loop of classifiers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, nn
from torch.nn import functional
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from training.device import autocast, compiled
from training.images import Images, shuffled
from training.store import Log

__all__ = ["Recipe", "evaluate", "fit"]


@dataclass(frozen=True)
class Recipe:
    """How a classifier is trained.

    `rate` is the learning rate: constant, or the peak of one cycle (Smith and Topin,
    arXiv:1708.07120) of which a quarter rises. SGD has Nesterov momentum 0.9 and weight decay 5e-4.
    Augmented images are shifted by up to four pixels and mirrored.
    """

    epochs: int
    batch: int = 128
    optimizer: Literal["adam", "sgd"] = "adam"
    rate: float = 1e-3
    one_cycle: bool = False
    augment: bool = False


def fit(module: nn.Module, images: Images, recipe: Recipe, seed: int) -> list[Log]:
    """Train a module in place; return the mean loss (nats) and the seconds of each epoch.

    The seed draws the order of the images and their augmentation.
    """
    device = images.labels.device
    optimizer = _optimizer(module, recipe)
    schedule = _schedule(optimizer, recipe, steps=-(-len(images) // recipe.batch))
    forward, generator = compiled(module, device), Generator().manual_seed(seed)
    log: list[Log] = []
    module.train()
    for _ in range(recipe.epochs):
        started, total = time.monotonic(), torch.zeros((), device=device)
        for inputs, labels in shuffled(images, recipe.batch, generator, augment=recipe.augment):
            with autocast(device):
                loss = functional.cross_entropy(forward(inputs), labels)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(labels)
        mean = total.item() / len(images)
        log.append({"loss": round(mean, 6), "seconds": round(time.monotonic() - started, 3)})
    return log


def _optimizer(module: nn.Module, recipe: Recipe) -> Optimizer:
    if recipe.optimizer == "adam":
        return Adam(module.parameters(), lr=recipe.rate, fused=True)
    return SGD(module.parameters(), lr=recipe.rate, momentum=0.9, weight_decay=5e-4, nesterov=True)


def _schedule(optimizer: Optimizer, recipe: Recipe, *, steps: int) -> LRScheduler:
    if not recipe.one_cycle:
        return ConstantLR(optimizer, factor=1.0)
    return OneCycleLR(
        optimizer,
        recipe.rate,
        total_steps=steps * recipe.epochs + 1,
        pct_start=0.25,
        cycle_momentum=False,
    )


@torch.no_grad()
def evaluate(module: nn.Module, images: Images, batch: int = 500) -> Log:
    """Return the mean loss (nats) and the accuracy (0 to 1) of a module, in float32."""
    module.eval()
    total, right = 0.0, 0
    for start in range(0, len(images), batch):
        labels = images.labels[start : start + batch]
        logits = module(images.inputs(images.pixels[start : start + batch]))
        total += functional.cross_entropy(logits, labels, reduction="sum").item()
        right += int((logits.argmax(1) == labels).sum())
    return {"loss": round(total / len(images), 6), "accuracy": right / len(images)}
