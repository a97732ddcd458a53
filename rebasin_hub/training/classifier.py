"""Image classifiers of the zoo: what decides them, and how they are trained and stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebasin_hub.errors import InputError, MissingExtraError
from rebasin_hub.training.recipe import Recipe
from rebasin_hub.training.store import Log, Trained, stored
from rebasin_hub.training.subset import Subset

if TYPE_CHECKING:
    from rebasin_hub.training.fit import Epochs

__all__ = ["Classifier"]

VERSION = 1
"""Raised when the same settings begin to give other weights."""


@dataclass(frozen=True)
class Classifier:
    """One network of `rebasin_hub.zoo`, trained on one data set from one seed.

    name: what people see; files begin with it.
    network, arguments: the class and what it is called with, plain JSON values.
    recipe: how it is trained.
    task, data: an image task of the product, and the folder or file of its data if it needs one.
    subset: the part of the training split that it sees.
    seed: decides the initial weights.
    order: decides the order of the images and their augmentation; the seed by default.
    snapshots: epochs whose weights are kept as well; 0 is the start, fractions are allowed.
    start: a checkpoint to start from instead of initial weights.
    mask: a file of `save_masks`, whose zeros stay zero.
    """

    name: str
    network: str
    arguments: Mapping[str, Any]
    recipe: Recipe
    task: str = "digits"
    data: Path | None = None
    subset: Subset = field(default_factory=Subset)
    seed: int = 0
    order: int | None = None
    snapshots: tuple[float, ...] = ()
    start: Path | None = None
    mask: Path | None = None

    def trained(
        self, store: Path, *, device: str = "cpu", progress: Epochs | None = None
    ) -> Trained:
        """Train it, or return what an earlier run has left in the store.

        Args:
            store: the folder of what was trained.
            device: auto, cpu, cuda, cuda:N or mps.
            progress: told of every epoch of a new run.

        Raises:
            InputError: the data, the network's class or a file to start from cannot be used.
            MissingExtraError: torch, or what reads the data, is not installed.
            NotFiniteError: training diverged.
            OutputError: the store cannot be written.

        """
        try:
            from rebasin_hub.training import run
        except ModuleNotFoundError as problem:
            if problem.name != "torch":
                raise
            raise MissingExtraError("training", "torch") from problem
        chosen = run.device_of(device)
        title = f"{self.name}-s{self.seed}"

        def train(folder: Path) -> Log:
            return run.train(self, folder / f"{title}.safetensors", chosen, progress)

        kept = stored(title, self.settings(chosen.type), train, store)
        snapshots = {
            epoch: kept.folder / run.snapshot_name(f"{title}.safetensors", epoch)
            for epoch in self.snapshots
        }
        return Trained(kept.folder / f"{title}.safetensors", kept.log, snapshots)

    def settings(self, device: str) -> dict[str, Any]:
        """Return everything that decides the weights, as plain JSON values.

        Files count by their content: a moved data set is the same.

        Raises:
            InputError: a file cannot be read.

        """
        from rebasin_hub.training.images import read_samples

        samples = read_samples(self.task, self.data)
        plain = asdict(self)
        if self.recipe.precision == "auto":  # so that what was trained before is found
            del plain["recipe"]["precision"]
        return {
            **plain,
            "data": {name: sample.split.digest for name, sample in samples.items()},
            "start": _digest(self.start),
            "mask": _digest(self.mask),
            "device": device,
            "version": VERSION,
        }


def _digest(path: Path | None) -> str | None:
    import hashlib

    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror}") from problem
