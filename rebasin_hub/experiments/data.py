"""What experiments know of their data, and data sets that they make of others."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import OutputError
from rebasin_hub.formats import new_file
from rebasin_hub.training.store import digest_of_settings

__all__ = ["DataFacts", "facts_of", "make_folder", "with_classes", "write_npz"]

WHITE = 255.0


@dataclass(frozen=True)
class DataFacts:
    """Data: digest and number of images by split, an image's shape, and the number of labels."""

    digests: Mapping[str, str]
    counts: Mapping[str, int]
    shape: tuple[int, int, int]
    classes: int


def facts_of(task: str, data: Path | None) -> DataFacts:
    """Read the data of an image task.

    Raises:
        InputError: there is no such task, or its data cannot be used.
        MissingExtraError: torch, or what reads them, is not installed.

    """
    from rebasin_hub.training.images import read_samples

    samples = read_samples(task, data)
    first = next(iter(samples.values()))
    highest = max(int(sample.labels.max()) for sample in samples.values())
    return DataFacts(
        digests={name: sample.split.digest for name, sample in samples.items()},
        counts={name: sample.split.count for name, sample in samples.items()},
        shape=first.shape,
        classes=first.classes or highest + 1,
    )


def with_classes(task: str, data: Path | None, classes: int, folder: Path) -> Path:
    """Write the images of the first classes of a data set, train and test, to an .npz file.

    It is read with the task `images`; pixels are those that the networks of the whole data see.

    Raises:
        InputError: the data cannot be used.
        OutputError: the folder cannot be written.

    """
    from rebasin_hub.training.images import read_samples

    samples = read_samples(task, data)
    arrays: dict[str, NDArray[Any]] = {}
    for split, sample in samples.items():
        kept = sample.labels < classes
        pixels = sample.pixels[kept]
        if sample.white != WHITE:  # bytes are taken for 0 to 255
            pixels = pixels.astype(np.float32) / np.float32(sample.white)
        arrays |= {f"x_{split}": pixels, f"y_{split}": sample.labels[kept]}
    whole = digest_of_settings({name: one.split.digest for name, one in samples.items()})
    return write_npz(folder / f"{task}-{classes}-classes-{whole[:12]}.npz", arrays)


def write_npz(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write arrays to an .npz file, unless it is there: its name says all that is in it."""
    if not path.exists():
        buffer = io.BytesIO()
        np.savez(buffer, **arrays)  # type: ignore[arg-type]  # of the stub, not of the function
        make_folder(path.parent)
        with new_file(path, force=True) as file:
            file.put(buffer.getvalue())
    return path


def make_folder(folder: Path) -> None:
    """Make a folder and its parents.

    Raises:
        OutputError: it cannot be made.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise OutputError(f"{folder}: cannot be made: {problem.strerror}") from problem
