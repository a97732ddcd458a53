"""NumPy archives of images and labels."""

from __future__ import annotations

import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from rebasin_hub.errors import InputError
from rebasin_hub.tasks.images.part import Labels, Part, Pixels, held

__all__ = ["npz_parts"]

LAYOUTS = (
    {"test": ("x_test", "y_test"), "train": ("x_train", "y_train")},
    {"test": ("inputs", "labels")},
)
"""The names of the arrays: as Keras publishes them, and of a single split."""
CHANNELS = (1, 3)
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def npz_parts(path: Path) -> dict[str, Part]:
    """Read x_train, y_train, x_test and y_test, or inputs and labels, which are a test split.

    Images are (images, height, width), with a last or a second axis of 1 or 3 channels, or
    (images, features). Bytes count from 0 to 255; floating-point numbers are taken as they are.

    Raises:
        InputError: the file is damaged, or lacks an array, or one has another type or shape.

    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
            pairs = _pairs(path, names)
            arrays = {name: _read(path, archive, name) for pair in pairs.values() for name in pair}
    except (
        OSError,
        EOFError,
        ValueError,
        zipfile.BadZipFile,
        NotImplementedError,
        zlib.error,
    ) as problem:
        raise InputError(f"{path}: cannot be read ({problem})") from problem
    return {split: _part(path, *pair, arrays) for split, pair in pairs.items()}


def _pairs(path: Path, names: set[str]) -> dict[str, tuple[str, str]]:
    for layout in LAYOUTS:
        pairs = {split: pair for split, pair in layout.items() if names & set(pair)}
        for name in (name for pair in pairs.values() for name in pair if name not in names):
            raise InputError(f"{path}: the array '{name}' is missing")
        if pairs:
            return pairs
    raise InputError(
        f"{path}: holds the arrays {', '.join(sorted(names)[:8]) or '(none)'}; expected x_test and "
        "y_test, x_train and y_train, or inputs and labels"
    )


def _read(path: Path, archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read an array after its header is held against the size of what follows."""
    info = archive.getinfo(f"{name}.npy")
    with archive.open(info) as file:
        version = npy.read_magic(file)
        if version not in HEADERS:
            raise InputError(
                f"{path}: '{name}' has version {version} of the npy format, not 1 or 2"
            )
        shape, fortran, dtype = HEADERS[version](file)
        wanted, follow = math.prod(shape) * dtype.itemsize, info.file_size - file.tell()
        if dtype.hasobject or wanted != follow:
            raise InputError(
                f"{path}: '{name}' promises {list(shape)} of {dtype}, {wanted} bytes, and "
                f"{follow} follow"
            )
        flat = np.frombuffer(file.read(wanted), dtype=dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _part(path: Path, images: str, labels: str, arrays: dict[str, NDArray[Any]]) -> Part:
    source = f"{path} ({images}, {labels})"
    return held(
        _pixels(f"{path}: '{images}'", arrays[images]),
        _labels(f"{path}: '{labels}'", arrays[labels]),
        source,
        white=255.0 if arrays[images].dtype == np.uint8 else 1.0,
    )


def _pixels(place: str, array: NDArray[Any]) -> Pixels:
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise InputError(f"{place} holds {array.dtype}; expected uint8 or floating-point numbers")
    if array.dtype.kind == "f":
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise InputError(f"{place} holds NaN or infinity")
    match array.ndim:
        case 2:
            return array[:, None, None]
        case 3:
            return array[:, None]
        case 4 if (array.shape[1] in CHANNELS) != (array.shape[3] in CHANNELS):
            return array if array.shape[1] in CHANNELS else array.transpose(0, 3, 1, 2)
    raise InputError(
        f"{place} has the shape {list(array.shape)}; expected (images, features), (images, height, "
        "width), or four axes of which just the second or the last is 1 or 3 channels"
    )


def _labels(place: str, array: NDArray[Any]) -> Labels:
    if array.ndim == 2 and array.shape[1] == 1:  # noqa: PLR2004 - Keras' CIFAR has a column
        array = array[:, 0]
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InputError(
            f"{place} is {array.dtype} {list(array.shape)}; expected one integer for each image"
        )
    return array.astype(np.int64)
