"""The training loop of classifiers."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, OneCycleLR

from rebasin_hub.errors import InputError, NotFiniteError
from rebasin_hub.training.device import autocast, compiled, one_thread
from rebasin_hub.training.images import Images, shuffled
from rebasin_hub.training.recipe import Recipe
from rebasin_hub.training.store import Log

__all__ = ["Epochs", "Watch", "evaluate", "fit"]

Epochs = Callable[[int, int], None]
"""Told how many epochs are done, and how many there are."""


@dataclass(frozen=True)
class Watch:
    """Weights that are kept on the way: `keep` is called at each of `epochs`, fractions included.

    Epoch 0 is the start; half an epoch is rounded to a whole step.
    """

    epochs: tuple[float, ...] = ()
    keep: Callable[[float], None] = lambda _: None

    def at(self, recipe: Recipe, steps: int) -> dict[int, float]:
        """Return the epochs by the step after which they are kept.

        Raises:
            InputError: an epoch is not in the training, or two are at the same step.

        """
        wrong = [epoch for epoch in self.epochs if not 0 <= epoch <= recipe.epochs]
        if wrong:
            raise InputError(f"there is no epoch {wrong[0]} to keep in {recipe.epochs}")
        found = {round(epoch * steps): epoch for epoch in self.epochs}
        if len(found) < len(self.epochs):
            raise InputError(f"two of the epochs {self.epochs} to keep are at the same step")
        return found


def fit(
    module: nn.Module,
    images: Images,
    recipe: Recipe,
    *,
    seed: int,
    masks: Mapping[str, Tensor] | None = None,
    watch: Watch | None = None,
    progress: Epochs | None = None,
) -> list[Log]:
    """Train a module in place; return the mean loss (nats) and the seconds of each epoch.

    Args:
        module: on the device of the images; computes in the recipe's precision.
        images: to train on.
        recipe: how.
        seed: draws the order of the images and their augmentation.
        masks: by a parameter's name what it is multiplied by, at the start and after every step:
            weights that are zero there stay zero.
        watch: weights to keep on the way.
        progress: told of every epoch.

    The same arguments on the same machine give the same weights; on a CPU one thread computes.

    Raises:
        NotFiniteError: the loss became NaN or infinite, with the place and the rate.
        InputError: a mask names no parameter, or there is no epoch to keep.

    """
    with one_thread(images.labels.device):
        run = _Run(module, images, recipe, seed=seed, masks=masks or {}, watch=watch or Watch())
        return run.epochs(progress)


class _Run:
    """One training: what changes from step to step."""

    def __init__(
        self,
        module: nn.Module,
        images: Images,
        recipe: Recipe,
        *,
        seed: int,
        masks: Mapping[str, Tensor],
        watch: Watch,
    ) -> None:
        self.module, self.images, self.recipe = module, images, recipe
        self.device = images.labels.device
        self.steps = recipe.steps(len(images))
        self.optimizer = _optimizer(module, recipe)
        self.schedule = _schedule(self.optimizer, recipe, steps=self.steps)
        self.forward = compiled(module, self.device, steps=self.steps * recipe.epochs)
        self.generator = Generator().manual_seed(seed)
        self.masked = _masked(module, masks, self.device)
        self.keep, self.kept_at = watch.keep, watch.at(recipe, self.steps)
        self.step = 0

    def epochs(self, progress: Epochs | None) -> list[Log]:
        log = []
        self.module.train()
        self._mask()
        self._keep()
        for number in range(self.recipe.epochs):
            log.append(self._epoch())
            if progress is not None:
                progress(number + 1, self.recipe.epochs)
        return log

    def _epoch(self) -> Log:
        started, losses, counts = time.monotonic(), [], []
        batch, augment = self.recipe.batch, self.recipe.augment
        for inputs, labels in shuffled(self.images, batch, self.generator, augment=augment):
            with autocast(self.device, self.recipe.precision):
                loss = functional.cross_entropy(self.forward(inputs), labels)
            self.optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.schedule.step()
            self._mask()
            losses.append(loss.detach())
            counts.append(len(labels))
            self.step += 1
            self._keep()
        # Read once an epoch: each look would make a GPU wait.
        values = torch.stack(losses).tolist()
        self._check(values)
        mean = sum(map(float.__mul__, values, map(float, counts))) / len(self.images)
        return {"loss": round(mean, 6), "seconds": round(time.monotonic() - started, 3)}

    def _check(self, losses: list[float]) -> None:
        for number, loss in enumerate(losses):
            if not math.isfinite(loss):
                raise NotFiniteError(
                    f"training diverged: the loss is {loss} in epoch "
                    f"{self.step // self.steps}, step {number + 1} of {self.steps}, with the "
                    f"learning rate {self.recipe.rate:g} ({self.recipe.optimizer}); give a lower "
                    "one"
                )

    def _mask(self) -> None:
        for parameter, mask in self.masked:
            parameter.data.mul_(mask)

    def _keep(self) -> None:
        if self.step in self.kept_at:
            self.keep(self.kept_at[self.step])


def _masked(
    module: nn.Module, masks: Mapping[str, Tensor], device: torch.device
) -> list[tuple[Tensor, Tensor]]:
    parameters = dict(module.named_parameters())
    for name, mask in masks.items():
        if name not in parameters or parameters[name].shape != mask.shape:
            raise InputError(
                f"the mask '{name}' of shape {list(mask.shape)} fits no parameter of the network; "
                "prune a checkpoint of the same architecture"
            )
    return [
        (parameters[name], mask.to(device, parameters[name].dtype)) for name, mask in masks.items()
    ]


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
