"""The binary versions of CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rebasin_hub.errors import InputError
from rebasin_hub.tasks.images.part import Part, held, listed

__all__ = ["cifar_parts"]

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
FILES = {
    1: {"test": "test_batch.bin", "train": "data_batch_*.bin"},
    2: {"test": "test.bin", "train": "train.bin"},
}
"""By the number of labels in front of each image: CIFAR-100 has a coarse and a fine one."""
CLASSES = {1: 10, 2: 100}


def cifar_parts(folder: Path) -> dict[str, Part]:
    """Read the files of CIFAR-10 or CIFAR-100 in a folder, if there are any.

    Of CIFAR-100 the 100 fine labels are taken.

    Raises:
        InputError: a file does not consist of whole records.

    """
    for labels, patterns in FILES.items():
        found = {split: sorted(folder.glob(pattern)) for split, pattern in patterns.items()}
        parts = {split: _part(folder, files, labels) for split, files in found.items() if files}
        if parts:
            return parts
    return {}


def _part(folder: Path, files: list[Path], labels: int) -> Part:
    records = np.concatenate([_records(file, labels) for file in files])
    return held(
        records[:, labels:].reshape(-1, *SHAPE),
        records[:, labels - 1].astype(np.int64),
        listed(folder, files),
        classes=CLASSES[labels],
    )


def _records(path: Path, labels: int) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    length, size = labels + PIXELS, path.stat().st_size
    if size % length:
        raise InputError(
            f"{path}: has {size} bytes, which are no whole records of {length} ({labels} for "
            f"labels, then {PIXELS} pixels); download it again"
        )
    return np.fromfile(path, dtype=np.uint8).reshape(-1, length)
