"""Values that lie in files beside an ONNX model: where they may be, and how much is there."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

import numpy as np

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.sniff import AGAIN, open_input
from rebasin_hub.tensors import DTYPES

if TYPE_CHECKING:
    from rebasin_hub.formats.raw import Array
    from rebasin_hub.tensors import TensorInfo

__all__ = ["Extent", "External", "find_data", "find_file"]


@dataclass(frozen=True)
class External:
    """What a model says of a tensor's external data; no `length` is as much as the tensor takes."""

    location: str
    offset: int = 0
    length: int | None = None


@dataclass(frozen=True)
class Extent:
    """A stretch of a file beside the model, which was found to be there."""

    location: str
    file: Path
    start: int
    end: int

    def mapped(self, info: TensorInfo) -> Array:
        """Return the tensor that lies there without reading it: its pages are the file's own.

        Its elements must be whole bytes, and one of them at least.
        """
        dtype = DTYPES[info.dtype].numpy
        return np.asarray(np.memmap(self.file, dtype, "r", self.start, info.shape))


def find_data(model: Path, tensor: str, data: External, nbytes: int) -> Extent:
    """Return where a tensor's external data lies.

    It must be in a regular file of the model's own directory or below, and so must what links lead
    to; a model that is a link itself, as in the cache of huggingface_hub, may also have its data
    beside what it links to.

    Args:
        model: the model's file.
        tensor: named in messages.
        data: what the model says.
        nbytes: how many bytes the tensor takes.

    Raises:
        FormatError: it lies elsewhere, is missing, or is shorter or longer than it should be.

    """
    found = find_file(model, tensor, data.location)
    with open_input(found) as file:
        size = os.fstat(file.fileno()).st_size
    if data.length not in {None, nbytes}:
        raise FormatError(
            f"{model}: tensor {tensor!r}: its type and shape take {nbytes:,} bytes, its external "
            f"data is said to have {data.length:,}; {AGAIN}"
        )
    if data.offset + nbytes > size:
        raise FormatError(
            f"{model}: tensor {tensor!r}: {data.location!r} has {size:,} bytes, and its data is "
            f"said to end at {data.offset + nbytes:,}; {AGAIN}"
        )
    return Extent(data.location, found, data.offset, data.offset + nbytes)


def find_file(model: Path, tensor: str, location: str) -> Path:
    """Return the file of a tensor's external data; see `find_data`."""
    plain, windows = PurePosixPath(location), PureWindowsPath(location)
    outside = plain.is_absolute() or windows.drive or windows.root or ".." in windows.parts
    if not location or "\0" in location or outside:
        raise _elsewhere(model, tensor, location)
    path = model.parent / location
    try:
        real = Path(os.path.realpath(path))
        homes = {Path(os.path.realpath(model.parent)), Path(os.path.realpath(model)).parent}
        if not any(real.is_relative_to(home) for home in homes):
            raise _elsewhere(model, tensor, location)
        if not real.exists():
            raise FormatError(
                f"{model}: tensor {tensor!r} cannot be read from {location}, which is missing "
                "beside the model; download both again"
            )
        if not real.is_file() or real.samefile(model):
            raise FormatError(
                f"{model}: tensor {tensor!r}: its data cannot be in {location!r}, which is "
                f"{'the model itself' if real.is_file() else 'no regular file'}; {AGAIN}"
            )
    except OSError as error:
        raise FormatError(
            f"{model}: tensor {tensor!r}: {location!r} cannot be opened: {error.strerror}"
        ) from None
    return real


def _elsewhere(model: Path, tensor: str, location: str) -> FormatError:
    return FormatError(
        f"{model}: the data of {tensor!r} is {location!r}, which is not in the model's folder; do "
        "not trust this model"
    )
