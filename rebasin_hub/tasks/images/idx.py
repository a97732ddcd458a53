"""IDX files, in which MNIST and its likes are published."""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path
from typing import IO, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import InputError
from rebasin_hub.tasks.images.part import Part, held

__all__ = ["idx_parts", "read_idx"]

BYTES = 0x08
"""The code of unsigned bytes."""
MOST_AXES = 4
HEAD = 4
AXIS = 4
GZIP = b"\x1f\x8b"
RATIO = 1032
"""How many bytes one byte of a deflated stream can become at most."""
Stream: TypeAlias = IO[bytes] | gzip.GzipFile
IMAGES = re.compile(r"(?P<head>.*)images(?P<dot>[-.])idx3-ubyte(\.gz)?")


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an IDX file of unsigned bytes, plain or gzipped.

    The header is held against the file's size before memory is taken for what it promises.

    Raises:
        InputError: the file is damaged, hostile, or holds something else.

    """
    try:
        stored = path.stat().st_size
        with path.open("rb") as file:
            if file.peek(2)[:2] != GZIP:
                return _read(path, file, stored, packed=False)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return _read(path, unpacked, stored * RATIO, packed=True)
    except (OSError, EOFError, zlib.error) as problem:
        raise InputError(f"{path}: cannot be read ({problem}); download it again") from problem


def _read(path: Path, file: Stream, most: int, *, packed: bool) -> NDArray[np.uint8]:
    shape = _shape(path, file)
    size = math.prod(shape)
    begin = HEAD + AXIS * len(shape)
    if size > most - begin or (not packed and size < most - begin):
        raise InputError(
            f"{path}: its header promises {list(shape)} = {size} bytes, "
            f"{'at most ' if packed else ''}{max(0, most - begin)} can follow; download it again"
        )
    content = file.read(size + 1)
    if len(content) != size:
        found = f"only {len(content)}" if len(content) < size else "more"
        raise InputError(
            f"{path}: its header promises {list(shape)} = {size} bytes, {found} follow; "
            "download it again"
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _shape(path: Path, file: Stream) -> tuple[int, ...]:
    head = file.read(HEAD)
    if len(head) < HEAD or head[:2] != b"\0\0":
        raise InputError(
            f"{path}: is no IDX file: it begins with {head!r}, expected two zero bytes"
        )
    kind, rank = head[2], head[3]
    if kind != BYTES or not 1 <= rank <= MOST_AXES:
        raise InputError(
            f"{path}: holds elements of type {kind:#04x} in {rank} axes; expected unsigned bytes "
            f"({BYTES:#04x}) in 1 to {MOST_AXES} axes"
        )
    axes = file.read(AXIS * rank)
    if len(axes) < AXIS * rank:
        raise InputError(f"{path}: ends within its header; download it again")
    return struct.unpack(f">{rank}I", axes)


def idx_parts(folder: Path) -> dict[str, Part]:
    """Read the pairs `…images-idx3-ubyte` and `…labels-idx1-ubyte` of a folder, if there are any.

    The part with `train` in its name is for training, any other (`t10k`) for testing.

    Raises:
        InputError: a file is damaged, lacks its partner, or there are several for one split.

    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        match = IMAGES.fullmatch(path.name)
        if match is None or not path.is_file():
            continue
        split = "train" if "train" in match["head"] else "test"
        other = found.setdefault(split, path)
        # A plain file stands before the gzipped one that it was made from.
        if other.name != path.name.removesuffix(".gz") and other != path:
            raise InputError(
                f"{folder}: holds {other.name} and {path.name}, both for '{split}'; put the data "
                "sets into folders of their own"
            )
    return {split: _part(path) for split, path in found.items()}


def _part(path: Path) -> Part:
    images, labels = read_idx(path), _labels_of(path)
    stored = read_idx(labels)
    if images.ndim != 3 or stored.ndim != 1:  # noqa: PLR2004
        raise InputError(
            f"{path}: has {images.ndim} axes and {labels.name} {stored.ndim}; expected 3 (images, "
            "rows, columns) and 1"
        )
    return held(images[:, None], stored.astype(np.int64), f"{path}, {labels.name}")


def _labels_of(path: Path) -> Path:
    match = IMAGES.fullmatch(path.name)
    assert match is not None
    name = f"{match['head']}labels{match['dot']}idx1-ubyte"
    for candidate in (path.with_name(name), path.with_name(f"{name}.gz")):
        if candidate.is_file():
            return candidate
    raise InputError(f"{path}: its labels are missing: neither {name} nor {name}.gz is beside it")
