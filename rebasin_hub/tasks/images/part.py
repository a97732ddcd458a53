"""The images of one split: as they lie on disk, and as they are measured."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import InputError
from rebasin_hub.tasks.images.settings import Size
from rebasin_hub.tasks.task import Split

__all__ = ["Indices", "Labels", "Part", "Parts", "Pixels", "Sample", "draw", "held", "listed"]

Pixels: TypeAlias = NDArray[np.generic]
"""(images, channels, height, width), uint8 or float32."""
Labels: TypeAlias = NDArray[np.int64]
Indices: TypeAlias = NDArray[np.int64]

WHITE = 255.0
FILES_SHOWN = 6


@dataclass(frozen=True, eq=False)
class Part:
    """One split, of which only the labels have been read.

    labels: (images,) int64, in file order.
    read: gives the pixels of some images, in the order of the indices, all of one size: the given
        one, or else the stored one.
    source: the files, for messages and records.
    white: what a pixel is divided by to lie between 0 and 1.
    classes: how many there are, where the format tells it.
    """

    labels: Labels
    read: Callable[[Indices, Size | None], Pixels]
    source: str
    white: float = WHITE
    classes: int | None = None


Parts: TypeAlias = Mapping[str, Part]
"""`test`, `train` or both."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What is measured of a split, in file order; for `white` and `classes` see `Part`."""

    split: Split
    pixels: Pixels
    labels: Labels
    white: float
    classes: int | None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of each image."""
        _, channels, height, width = self.pixels.shape
        return channels, height, width


def held(
    pixels: Pixels, labels: Labels, source: str, *, white: float = WHITE, classes: int | None = None
) -> Part:
    """Return the part whose pixels are in memory already.

    Raises:
        InputError: there are not as many labels as images.

    """
    if len(pixels) != len(labels):
        raise InputError(
            f"{source}: {len(pixels)} images have {len(labels)} labels; expected one for each image"
        )

    def read(indices: Indices, size: Size | None) -> Pixels:
        chosen = pixels[indices]
        if size is None or chosen.shape[2:] == size:
            return chosen
        from rebasin_hub.tasks.images.decode import resized

        return resized(chosen, size, source)

    return Part(labels, read, source, white, classes)


def draw(
    name: str,
    part: Part,
    *,
    limit: int | None = None,
    seed: int = 0,
    size: Size | None = None,
    classes: int | None = None,
) -> Sample:
    """Check a part and read what is measured of it.

    Args:
        name: of the split.
        part: the split as it lies on disk.
        limit: how many images are drawn without replacement; all by default.
        seed: which ones these are.
        size: what images are resized to.
        classes: how many there are, if not as many as the part says.

    The split's digest is the SHA-256 over element type, shape and bytes of the pixels (channel
    first, as stored, before they are scaled) and of the int64 labels.

    Raises:
        InputError: there are no images, or a label is out of range.

    """
    available, classes = len(part.labels), classes or part.classes
    if available == 0:
        raise InputError(f"{part.source}: holds no images")
    _check_labels(part, classes)
    indices = np.arange(available, dtype=np.int64)
    if limit is not None and limit < available:
        drawn = np.random.default_rng(seed).choice(available, limit, replace=False)
        indices = np.sort(drawn).astype(np.int64)
    pixels, labels = np.ascontiguousarray(part.read(indices, size)), part.labels[indices]
    if pixels.size == 0:
        raise InputError(f"{part.source}: its images have no pixels")
    split = Split(name, len(labels), available, _digest(pixels, labels), part.source)
    return Sample(split, pixels, labels, part.white, classes)


def _check_labels(part: Part, classes: int | None) -> None:
    beyond = np.iinfo(np.int64).max if classes is None else classes
    wrong = np.flatnonzero((part.labels < 0) | (part.labels >= beyond))
    if len(wrong):
        expected = "0 or more" if classes is None else f"0 to {classes - 1} ({classes} classes)"
        raise InputError(
            f"{part.source}: image {wrong[0]} has the label {part.labels[wrong[0]]}, expected "
            f"{expected}; {len(wrong)} of {len(part.labels)} labels are out of range"
        )


def _digest(pixels: Pixels, labels: Labels) -> str:
    digest = hashlib.sha256()
    arrays: tuple[NDArray[np.generic], ...] = (pixels, labels)
    for array in arrays:
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{little.dtype.str} {list(little.shape)}\n".encode())
        digest.update(np.ascontiguousarray(little).data)
    return digest.hexdigest()


def listed(folder: Path, files: list[Path]) -> str:
    """Return a short name for several files of a folder."""
    if len(files) > FILES_SHOWN:
        return f"{folder} ({len(files)} files)"
    return f"{folder} ({', '.join(str(file.relative_to(folder)) for file in files)})"
