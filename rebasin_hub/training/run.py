"""From the settings of a classifier to its checkpoint. Importing this module imports torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from rebasin_hub import zoo
from rebasin_hub.errors import InputError
from rebasin_hub.formats import open_checkpoint, save_safetensors
from rebasin_hub.tasks.network import torch_device as device_of
from rebasin_hub.training.device import seeded
from rebasin_hub.training.fit import Epochs, Watch, evaluate, fit
from rebasin_hub.training.images import Images, read_samples
from rebasin_hub.training.masks import load_masks
from rebasin_hub.training.store import Log

if TYPE_CHECKING:
    from rebasin_hub.training.classifier import Classifier

__all__ = ["device_of", "save_module", "snapshot_name", "train"]

NETWORKS = ("MLP", "VGG", "CifarResNet", "ResNet")


def train(classifier: Classifier, path: Path, device: torch.device, progress: Epochs | None) -> Log:
    """Train a classifier, write its checkpoint and snapshots beside it, and return its log.

    Raises:
        InputError: there is no such network, or it does not fit its start or its mask.
        NotFiniteError: training diverged.

    """
    samples = read_samples(classifier.task, classifier.data)
    flat = classifier.network == "MLP"
    seen = Images.of(samples["train"], device, flat=flat, subset=classifier.subset)
    module = _built(classifier).to(device)
    masks = None if classifier.mask is None else load_masks(classifier.mask)

    def keep(epoch: float) -> None:
        save_module(path.with_name(snapshot_name(path.name, epoch)), module)

    epochs = fit(
        module,
        seen,
        classifier.recipe,
        seed=classifier.seed if classifier.order is None else classifier.order,
        masks=masks,
        watch=Watch(classifier.snapshots, keep),
        progress=progress,
    )
    save_module(path, module)
    log: Log = {"train": {"images": len(seen), **evaluate(module, seen)}}
    if "test" in samples:
        log["test"] = evaluate(module, Images.of(samples["test"], device, flat=flat))
    return {**log, "epochs": epochs, "parameters": sum(p.numel() for p in module.parameters())}


def save_module(path: Path, module: nn.Module) -> None:
    """Write a module's state dict as an ordinary checkpoint."""
    state = module.state_dict()
    save_safetensors(path, {n: t.detach().cpu().contiguous().numpy() for n, t in state.items()})


def snapshot_name(name: str, epoch: float) -> str:
    """Return the name of a snapshot: of `a.safetensors` after epoch 2.5 `a.e2.5.safetensors`."""
    stem, _, ending = name.rpartition(".")
    return f"{stem}.e{epoch:g}.{ending}"


def _built(classifier: Classifier) -> nn.Module:
    if classifier.network not in NETWORKS:
        raise InputError(
            f"there is no network '{classifier.network}' to train; there are {', '.join(NETWORKS)}"
        )
    make = getattr(zoo, classifier.network)
    module: nn.Module = seeded(lambda: make(**classifier.arguments), classifier.seed)
    if classifier.start is not None:
        _load(module, classifier.start)
    if classifier.network != "MLP":  # in this order convolutions are faster
        module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


def _load(module: nn.Module, path: Path) -> None:
    with open_checkpoint(path) as checkpoint:
        state = {name: torch.from_numpy(checkpoint.read(name).copy()) for name in checkpoint.header}
    try:
        module.load_state_dict(state)
    except RuntimeError as problem:
        raise InputError(f"{path}: does not fit the network to train: {problem}") from problem
