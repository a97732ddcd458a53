"""safetensors files: positional reads into fresh memory, and a writer that streams.

Nothing is mapped: mapped pages would count as memory, and a file that shrinks while it is read
would kill the process instead of raising an error.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.config import config_beside
from rebasin_hub.formats.header import MAX_HEADER, FileHeader, encode, parse, storage_order
from rebasin_hub.formats.raw import blank, unpack
from rebasin_hub.formats.sniff import AGAIN, HEAD, foreign, open_input, read_at, read_into
from rebasin_hub.tensors import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import BinaryIO

    from rebasin_hub.formats.atomic import NewFile
    from rebasin_hub.formats.attachment import Attachment
    from rebasin_hub.formats.raw import Array, Bytes
    from rebasin_hub.formats.supply import Supply
    from rebasin_hub.tensors import TensorInfo

__all__ = ["SafetensorsCheckpoint", "write_safetensors"]

_LENGTH = 8  # bytes of the header's length


class SafetensorsCheckpoint(Checkpoint):
    """One safetensors file; `alone` unless it is a part of a directory's checkpoint."""

    format = "safetensors"

    def __init__(self, path: Path, *, alone: bool = True) -> None:
        self.path = path
        self.files = (path,)
        self.tied = {}
        self._file = open_input(path)
        self._lock = Lock()
        try:
            self._start, found = _read_header(self._file, path)
            self.config, self.notes = config_beside(path) if alone else (None, ())
        except BaseException:
            self.close()
            raise
        self._extents = found.tensors
        self.header = {name: extent.info for name, extent in found.tensors.items()}
        self.metadata = found.metadata

    def read(self, name: str) -> Array:  # noqa: D102
        extent = self._extents[name]
        array, memory = blank(extent.info)
        bits = DTYPES[extent.info.dtype].bits
        if bits >= 8:  # noqa: PLR2004
            self._fill(memory, extent.start, name)
        else:
            packed = np.empty(extent.info.nbytes, np.uint8)
            self._fill(packed, extent.start, name)
            unpack(packed, bits, memory)
        return array

    def _fill(self, memory: Bytes, start: int, name: str) -> None:
        try:
            complete = read_at(self._file, memory.data, self._start + start, self._lock)
        except OSError as error:
            raise FormatError(
                f"{self.path}: tensor {name!r}: cannot be read: {error.strerror}"
            ) from None
        if not complete:
            raise FormatError(
                f"{self.path}: tensor {name!r}: the file ends within it; it was changed while open"
            )

    def close(self) -> None:  # noqa: D102
        self._file.close()


def _read_header(file: BinaryIO, path: Path) -> tuple[int, FileHeader]:
    """Return the offset of the tensors' bytes, and the checked header."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(HEAD)
    length = int.from_bytes(head[:_LENGTH], "little")
    if head[_LENGTH : _LENGTH + 1] != b"{":
        _refuse(path, head, size)
    if length > MAX_HEADER:
        raise FormatError(
            f"{path}: its header is said to take {length:,} bytes, more than the limit of "
            f"{MAX_HEADER:,}; {AGAIN}"
        )
    if _LENGTH + length > size:
        raise FormatError(
            f"{path}: is cut off within its header: {_LENGTH + length:,} bytes announced, "
            f"{size:,} there; {AGAIN}"
        )
    file.seek(_LENGTH)
    text = bytearray(length)
    if not read_into(file, memoryview(text)):
        raise FormatError(f"{path}: ended while its header was read; it was changed while open")
    return _LENGTH + length, parse(bytes(text), size - _LENGTH - length, path)


def _refuse(path: Path, head: bytes, size: int) -> None:
    if (known := foreign(head)) is not None:
        raise FormatError(f"{path}: is {known[0]}; {known[1]}")
    if size <= _LENGTH:
        raise FormatError(f"{path}: has {size} bytes, too few for a safetensors file; {AGAIN}")
    found = head[_LENGTH : _LENGTH + 1]
    raise FormatError(
        f"{path}: is not a safetensors file: byte 9 must be '{{', found {found!r}; {AGAIN}"
    )


def write_safetensors(
    file: NewFile,
    header: Mapping[str, TensorInfo],
    supply: Supply,
    metadata: Mapping[str, str] | None,
    attachment: Attachment | None = None,
) -> None:
    """Write the tensors of `header`, byte for byte as the safetensors library would.

    Tensors are made ahead, as far as the supply's bound allows. The
    attachment becomes one more entry of the metadata.
    """

    def start(attached: str) -> bytes:
        extra = {} if attachment is None else {attachment.key: attached}
        return encode(header, {**(metadata or {}), **extra} if extra else metadata)

    file.put(start(attachment.draft if attachment is not None else ""))
    order = storage_order(header)
    with supply.ahead(order):
        for name in order:
            made = supply.made(name)
            supply.wrote(name, file.put(made.data, digest=made.digest))
    if attachment is not None:
        file.replace_first(start(attachment.final(supply.digests)))
