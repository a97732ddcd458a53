"""Parquet files as Hugging Face's data sets have them."""

from __future__ import annotations

import bisect
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rebasin_hub.errors import InputError, MissingExtraError
from rebasin_hub.tasks.images.decode import Encoded, decoded
from rebasin_hub.tasks.images.part import Indices, Labels, Part, Pixels, listed
from rebasin_hub.tasks.images.settings import Size

__all__ = ["parquet_parts"]

IMAGES = ("image", "img", "images", "pixel_values")
LABELS = ("label", "labels", "fine_label", "target", "class")
"""Columns, the first that is there first; CIFAR-100 has `fine_label` and `coarse_label`."""
SPLIT = re.compile(r"(train)|(test)|(val|valid|validation|dev)(?![a-z])")


def parquet_parts(path: Path) -> dict[str, Part]:
    """Read a file, or the files train-*.parquet and test-*.parquet of a folder, if there are any.

    The image column (`image`, `img`) holds encoded bytes, or structs {bytes, path}; the label
    column (`label`, `fine_label`) integers. Validation files are the test split where there is no
    other. A single file without a split in its name is a test split.

    Raises:
        InputError: a file is damaged, or lacks a column, or one has another type.
        MissingExtraError: pyarrow is not installed.

    """
    files = [path] if path.is_file() else sorted(path.glob("*.parquet"))
    splits: dict[str, list[Path]] = {}
    for file in files:
        splits.setdefault(_split(file, alone=len(files) == 1), []).append(file)
    if "test" not in splits and "val" in splits:
        splits["test"] = splits["val"]
    splits.pop("val", None)
    root = path.parent if path.is_file() else path
    return {split: _part(root, chosen) for split, chosen in splits.items()}


def _split(file: Path, *, alone: bool) -> str:
    match = SPLIT.match(file.name)
    if match:
        return match[1] or match[2] or "val"
    if alone:
        return "test"
    raise InputError(
        f"{file}: its name begins with none of train, test and validation, so its split is not "
        "known; give --data one file alone"
    )


@dataclass(frozen=True, eq=False)
class _File:
    """An open parquet file with its two columns."""

    path: Path
    content: Any
    image: str
    label: str

    def labels(self) -> Labels:
        """Read all labels."""
        with _explained(self.path):
            column = self.content.read(columns=[self.label]).column(self.label)
        if column.null_count:
            raise InputError(f"{self.path}: {column.null_count} rows have no '{self.label}'")
        labels = column.to_numpy()
        if labels.dtype.kind not in "iu":
            raise InputError(
                f"{self.path}: column '{self.label}' holds {column.type}, expected integers"
            )
        return np.asarray(labels, dtype=np.int64)

    @property
    def classes(self) -> int | None:
        """The number of class names in what Hugging Face's data sets note in a file."""
        noted = (self.content.schema_arrow.metadata or {}).get(b"huggingface", b"{}")
        try:
            return len(json.loads(noted)["info"]["features"][self.label]["names"])
        except (ValueError, KeyError, TypeError):
            return None

    def images(self, rows: Sequence[int]) -> Iterator[Encoded]:
        """Yield some rows, in rising order, one row group in memory at a time."""
        groups = range(self.content.num_row_groups)
        sizes = [self.content.metadata.row_group(group).num_rows for group in groups]
        ends = list(itertools.accumulate(sizes))
        for group, chosen in itertools.groupby(rows, lambda row: bisect.bisect_right(ends, row)):
            with _explained(self.path):
                table = self.content.read_row_group(group, columns=[self.image])
            column = table.column(self.image)
            for row in chosen:
                cell = column[row - ends[group] + sizes[group]].as_py()
                yield self._encoded(row, cell)

    def _encoded(self, row: int, cell: object) -> Encoded:
        place = f"{self.path}: row {row}, column '{self.image}'"
        encoded = cell.get("bytes") if isinstance(cell, dict) else cell
        if not isinstance(encoded, bytes):
            raise InputError(f"{place}: holds no bytes of an image")
        return place, encoded


def _part(root: Path, paths: list[Path]) -> Part:
    files = [_open(path) for path in paths]
    labels = [file.labels() for file in files]
    ends = list(itertools.accumulate(map(len, labels)))

    def encoded(indices: Indices) -> Iterator[Encoded]:
        rows = itertools.groupby(map(int, indices), lambda row: bisect.bisect_right(ends, row))
        for number, chosen in rows:
            begin = ends[number] - len(labels[number])
            yield from files[number].images([row - begin for row in chosen])

    def read(indices: Indices, size: Size | None) -> Pixels:
        return decoded(encoded(indices), size)

    whole = np.concatenate(labels)
    return Part(whole, read, listed(root, paths), classes=files[0].classes)


def _open(path: Path) -> _File:
    try:
        from pyarrow.parquet import ParquetFile
    except ModuleNotFoundError as problem:
        raise MissingExtraError("reading parquet files", "data") from problem
    with _explained(path):
        content = ParquetFile(path)
    names = content.schema_arrow.names
    return _File(path, content, _column(path, names, IMAGES), _column(path, names, LABELS))


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError) as problem:
        raise InputError(f"{path}: cannot be read as parquet ({problem})") from problem


def _column(path: Path, names: list[str], wanted: tuple[str, ...]) -> str:
    for name in wanted:
        if name in names:
            return name
    raise InputError(
        f"{path}: has the columns {', '.join(names)}; expected one named {' or '.join(wanted)}"
    )
