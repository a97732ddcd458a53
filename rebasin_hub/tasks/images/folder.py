"""A folder of images: train/ and test/ with a folder for each class."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rebasin_hub.tasks.images.decode import decoded
from rebasin_hub.tasks.images.part import Indices, Part, Pixels
from rebasin_hub.tasks.images.settings import Size

__all__ = ["folder_parts"]

SPLITS = {"test": ("test", "val", "valid", "validation"), "train": ("train",)}
"""The folders that may hold a split; the first that is there does."""


def folder_parts(root: Path) -> dict[str, Part]:
    """List the images below train/CLASS/ and test/CLASS/ (or val/CLASS/), if there are any.

    Classes are numbered in the order of their names, over both splits; images are sorted by name.
    Hidden files and folders are passed over.
    """
    found = {
        split: next((root / name for name in names if (root / name).is_dir()), None)
        for split, names in SPLITS.items()
    }
    listed = {split: (folder, _visible(folder)) for split, folder in found.items() if folder}
    names = sorted({name for _, folders in listed.values() for name in folders})
    return {split: _part(folder, names) for split, (folder, inner) in listed.items() if inner}


def _visible(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."]


def _part(folder: Path, names: Sequence[str]) -> Part:
    files, labels = [], []
    for label, name in enumerate(names):
        images = _images(folder / name)
        files += images
        labels += [label] * len(images)

    def read(indices: Indices, size: Size | None) -> Pixels:
        return decoded(((str(files[i]), files[i]) for i in indices), size)

    return Part(np.array(labels, dtype=np.int64), read, str(folder), classes=len(names))


def _images(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(p[0] == "." for p in path.relative_to(folder).parts)
    )
