"""Which files hold which split, and which of their samples are measured."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import InputError
from rebasin_hub.spec.check import nearest
from rebasin_hub.tasks.text.tables import ENDINGS as TABLES

__all__ = ["drawn", "source_name", "split_files"]

_SHARD = re.compile(r"-\d+-of-\d+\Z")
_SPLIT = re.compile(r"(test|validation|valid|val|dev|train)([-_].*)?\Z")
_ORDER = ("test", "validation", "valid", "val", "dev", "train")


def split_files(
    data: Path, wanted: Sequence[str] | None, *, plain: bool
) -> dict[str, tuple[Path, ...]]:
    """Return the files of each split, in the order in which splits are shown.

    Args:
        data: a file, which is the split `test`, or a folder of files that are named by their
            split: `train.txt`, `validation.csv`, `test-00000-of-00002.parquet`.
        wanted: splits that a user chose; all by default.
        plain: whether plain text (`.txt`) counts beside tables.

    Raises:
        InputError: there is no such file or split.

    """
    endings = (*(".txt",) * plain, *TABLES)
    if not data.is_dir():
        if data.suffix.lower() not in endings:
            raise InputError(
                f"{data}: ends with none of {', '.join(endings)}; rename or convert it"
            )
        found: dict[str, tuple[Path, ...]] = {"test": (data,)}
    else:
        found = _in_folder(data, endings)
    if wanted is None:
        return found
    for name in wanted:
        if name not in found:
            raise InputError(
                f"{data}: has no split '{name}'{nearest(name, found)}; it has {', '.join(found)}"
            )
    return {name: found[name] for name in wanted}


def _in_folder(folder: Path, endings: Iterable[str]) -> dict[str, tuple[Path, ...]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        split = _SHARD.sub("", path.stem)
        if path.suffix.lower() in endings and _SPLIT.match(split) and path.is_file():
            found.setdefault(split, []).append(path)
    if not found:
        raise InputError(
            f"{folder}: holds no test, validation or train with the ending "
            f"{', '.join(endings)}; name its files so, or give one file"
        )
    for split, paths in found.items():
        if any(not _SHARD.search(path.stem) for path in paths) and len(paths) > 1:
            raise InputError(
                f"{folder}: holds the split '{split}' in {len(paths)} files "
                f"({', '.join(path.name for path in paths)}); give one of them"
            )
    return {split: tuple(found[split]) for split in sorted(found, key=_place)}


def _place(split: str) -> tuple[int, str]:
    kind = _SPLIT.match(split)
    return _ORDER.index(kind[1]) if kind else len(_ORDER), split


def source_name(paths: Sequence[Path]) -> str:
    """Return the names of a split's files, as a record has them."""
    return ", ".join(path.name for path in paths)


def drawn(available: int, limit: int | None, seed: int) -> NDArray[np.intp]:
    """Return which of `available` samples are measured: `limit` of them, in their order."""
    if limit is None or limit >= available:
        return np.arange(available)
    if limit < 1:
        raise InputError(f"a limit of {limit} samples leaves nothing to measure; give 1 or more")
    return np.sort(np.random.default_rng(seed).choice(available, limit, replace=False))
