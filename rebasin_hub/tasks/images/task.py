"""Image classification as a task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rebasin_hub.errors import InputError, MissingExtraError
from rebasin_hub.spec.check import nearest
from rebasin_hub.tasks.images.digits import digits_parts
from rebasin_hub.tasks.images.formats import find_parts
from rebasin_hub.tasks.images.known import KNOWN
from rebasin_hub.tasks.images.part import Parts, Sample, draw
from rebasin_hub.tasks.images.settings import SPLITS, Settings, settings_of
from rebasin_hub.tasks.task import Network, Options, Split, Subject, Task

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NAMES", "ImageTask", "image_task"]

NAMES = ("digits", *KNOWN, "images")
"""Image tasks; all but `digits` need `--data`."""


def image_task(name: str, options: Options) -> Task:
    """Read the data of an image task.

    Args:
        name: one of `NAMES`.
        options: see `Options`; for its settings see `Settings`.

    Raises:
        InputError: a setting is wrong, or the data are missing, damaged, or not what the name
            promises.
        MissingExtraError: a package that reads them is not installed.

    """
    settings = settings_of(options.settings)
    for key, value in (("limit", options.limit), ("batch", options.batch)):
        if value is not None and value < 1:
            raise InputError(f"'{key}' is {value}; expected 1 or more")
    parts = _chosen(name, _parts(name, options), settings.split)
    known = KNOWN.get(name)
    samples = {
        split: draw(
            split,
            parts[split],
            limit=options.limit,
            seed=options.seed,
            size=settings.size,
            classes=settings.classes or (known.classes if known else None),
        )
        for split in SPLITS
        if split in parts
    }
    _check_shapes(name, samples.values(), settings)
    return ImageTask(name, samples, settings, options.batch)


def _parts(name: str, options: Options) -> Parts:
    if name == "digits":
        if options.data is not None:
            raise InputError("the task 'digits' has its data with it; leave out --data")
        return digits_parts()
    if name not in NAMES:
        raise InputError(
            f"'{name}' is no image task; there are {', '.join(NAMES)}{nearest(name, NAMES)}"
        )
    known = KNOWN.get(name)
    if options.data is None:
        wanted = f" with {known.files}" if known else ""
        raise InputError(f"the task '{name}' needs --data, the folder{wanted}")
    return find_parts(options.data, known)


def _chosen(name: str, parts: Parts, split: str | None) -> Parts:
    if split is None:
        return parts
    if split not in parts:
        raise InputError(
            f"setting 'split' is '{split}', but the data of '{name}' have only {', '.join(parts)}"
        )
    return {split: parts[split]}


def _check_shapes(name: str, samples: Iterable[Sample], settings: Settings) -> None:
    first, *others = samples
    for other in others:
        if other.shape != first.shape:
            raise InputError(
                f"the images of '{first.split.name}' have the shape {_times(first.shape)}, those "
                f"of '{other.split.name}' {_times(other.shape)} (channels × height × width); give "
                "`split` among the task's settings to measure one of them"
            )
    known = KNOWN.get(name)
    if known is not None:
        expected = (known.shape[0], *(settings.size or known.shape[1:]))
        if first.shape != expected:
            raise InputError(
                f"{first.split.source}: its images are {_times(first.shape)} (channels × height × "
                f"width), those of '{name}' {_times(expected)}; give --task images for other data"
            )
    for key, values in (("mean", settings.mean), ("std", settings.std)):
        if len(values) not in {1, first.shape[0]}:
            raise InputError(
                f"setting '{key}' has {len(values)} numbers, the images have {first.shape[0]} "
                "channels; give one number, or one for each channel"
            )


def _times(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape))


class ImageTask(Task):
    """Images with their classes, measured by cross-entropy and error rate."""

    def __init__(
        self, name: str, samples: Mapping[str, Sample], settings: Settings, batch: int
    ) -> None:
        self.name = name
        self.samples = samples
        self.chosen = settings
        self.batch = batch
        self.splits: Mapping[str, Split] = {key: s.split for key, s in samples.items()}
        if (settings.mean, settings.std) == ((0.0,), (1.0,)) and name != "digits":
            self.notes = (
                "Pixels are given to the networks as numbers from 0 to 1; if they were trained "
                "with other inputs, give `mean` and `std` among the task's settings.",
            )

    @property
    def settings(self) -> Mapping[str, Any]:
        """How pixels become inputs; see `Settings`."""
        plain = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self.chosen).items()
            if value is not None
        }
        return {"white": next(iter(self.samples.values())).white, **plain}

    def network(self, subject: Subject, device: str) -> Network:
        """Build the network of a checkpoint of one of the shipped image specs; see `zoo.build`."""
        try:
            from rebasin_hub.tasks.images.network import image_network
        except ModuleNotFoundError as problem:
            if problem.name != "torch":
                raise
            raise MissingExtraError(f"the task '{self.name}'", "torch") from problem
        return image_network(
            self.name, self.samples, self.chosen, subject, device=device, batch=self.batch
        )
