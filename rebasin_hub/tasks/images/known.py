"""Data sets that have a name of their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rebasin_hub.tasks.images.cifar import cifar_parts
from rebasin_hub.tasks.images.idx import idx_parts
from rebasin_hub.tasks.images.part import Part

__all__ = ["KNOWN", "Known"]


@dataclass(frozen=True)
class Known:
    """A published data set.

    `shape` is channels, height and width; `files` what its published files are called; `folder`
    the `plain` names of folders that it lies in; `others` those of data sets with the same files.
    """

    classes: int
    shape: tuple[int, int, int]
    files: str
    read: Callable[[Path], dict[str, Part]]
    others: frozenset[str] = frozenset()


IDX = "{train,t10k}-images-idx3-ubyte and {train,t10k}-labels-idx1-ubyte, plain or .gz"
IDX_FOLDERS = frozenset({"mnist", "fashionmnist", "fashion", "kmnist", "emnist", "qmnist"})

KNOWN = {
    "mnist": Known(10, (1, 28, 28), IDX, idx_parts, IDX_FOLDERS - {"mnist"}),
    "fashion-mnist": Known(
        10, (1, 28, 28), IDX, idx_parts, IDX_FOLDERS - {"fashionmnist", "fashion"}
    ),
    "cifar10": Known(10, (3, 32, 32), "data_batch_{1…5}.bin and test_batch.bin", cifar_parts),
    "cifar100": Known(100, (3, 32, 32), "train.bin and test.bin", cifar_parts),
}
