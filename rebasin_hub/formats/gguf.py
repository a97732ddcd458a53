"""GGUF files, read: the tensors that are stored as plain numbers.

Quantized tensors are refused: their blocks cannot be renumbered, and what they stand for is no
longer what was trained. Names are those of llama.cpp. Source: docs/gguf.md of ggml.
"""

from __future__ import annotations

import os
import struct
from threading import Lock
from typing import TYPE_CHECKING

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.config import config_beside
from rebasin_hub.formats.header import impossible
from rebasin_hub.formats.raw import blank
from rebasin_hub.formats.sniff import AGAIN, open_input, read_into
from rebasin_hub.tensors import TensorInfo

if TYPE_CHECKING:
    from pathlib import Path

    from rebasin_hub.formats.raw import Array

__all__ = ["GgufCheckpoint"]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_TYPES = {0: "F32", 1: "F16", 24: "I8", 25: "I16", 26: "I32", 27: "I64", 28: "F64", 30: "BF16"}
# Metadata types of fixed size; 8 is text, 9 a list.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_TEXT, _LIST = 8, 9
_ALIGNMENT = "general.alignment"
_UINT32 = 4
_MAX_HEADER = 1 << 26  # vocabularies are in it
_MAX_AXES = 4
_MAX_DEPTH = 4


class GgufCheckpoint(Checkpoint):
    """One GGUF file."""

    format = "gguf"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = (path,)
        self.metadata, self.tied = {}, {}
        self._file = open_input(path)
        self._lock = Lock()  # a seek and the read after it belong together
        try:
            size = os.fstat(self._file.fileno()).st_size
            text = self._file.read(_MAX_HEADER)
            self.header, self._starts = _Header(path, text, size).read()
            self.config, self.notes = config_beside(path)
        except BaseException:
            self.close()
            raise

    def read(self, name: str) -> Array:  # noqa: D102
        array, memory = blank(self.header[name])
        with self._lock:
            self._file.seek(self._starts[name])
            if not read_into(self._file, memory.data):
                raise FormatError(f"{self.path}: tensor {name!r}: the file ends within it")
        return array

    def close(self) -> None:  # noqa: D102
        self._file.close()


class _Header:
    """Reads the start of a file; every damage is a FormatError that names the place."""

    def __init__(self, path: Path, text: bytes, size: int) -> None:
        self._path, self._text, self._size = path, text, size
        self._at = 0

    def read(self) -> tuple[dict[str, TensorInfo], dict[str, int]]:
        whole = self._bytes(len(_MAGIC)) == _MAGIC
        version, tensors, entries = self._take("<IQQ")
        if not whole or version not in _VERSIONS:
            raise self._wrong(f"its version {version} is none of {_VERSIONS}")
        alignment = 32
        for _ in range(entries):
            key, (kind,) = self._string(), self._take("<I")
            place = self._at
            self._skip(kind, 0)
            if key == _ALIGNMENT and kind == _UINT32:
                (alignment,) = struct.unpack_from("<I", self._text, place)
        found: dict[str, tuple[TensorInfo, int]] = {}
        for _ in range(tensors):
            name = self._string()
            if name in found:
                raise self._wrong(f"tensor {name!r} is there twice")
            found[name] = self._tensor(name)
        if not alignment:
            raise self._wrong("its alignment is 0")
        data = -(-self._at // alignment) * alignment
        for name, (info, offset) in found.items():
            if data + offset + info.nbytes > self._size:
                raise self._wrong(f"tensor {name!r} reaches beyond the end")
        starts = {name: data + offset for name, (_, offset) in found.items()}
        return {name: info for name, (info, _) in found.items()}, starts

    def _tensor(self, name: str) -> tuple[TensorInfo, int]:
        (axes,) = self._take("<I")
        if axes > _MAX_AXES:
            raise self._wrong(f"tensor {name!r} has {axes} axes")
        shape = self._take(f"<{axes}Q")[::-1]  # the fastest axis comes first
        kind, offset = self._take("<IQ")
        if kind not in _TYPES:
            raise FormatError(
                f"{self._path}: tensor {name!r} is quantized (ggml type {kind}); give the "
                "safetensors or torch file that it was made from, or a GGUF file in F16 or F32"
            )
        if (reason := impossible(_TYPES[kind], list(shape))) is not None:
            raise self._wrong(f"tensor {name!r}: {reason}")
        return TensorInfo(_TYPES[kind], shape), offset

    def _string(self) -> str:
        (length,) = self._take("<Q")
        try:
            return self._bytes(length).decode()
        except UnicodeDecodeError:
            raise self._wrong("a text is not valid UTF-8") from None

    def _skip(self, kind: int, depth: int) -> None:
        if kind in _SIZES:
            self._bytes(_SIZES[kind])
        elif kind == _TEXT:
            self._bytes(self._take("<Q")[0])
        elif kind == _LIST and depth < _MAX_DEPTH:
            inner, count = self._take("<IQ")
            if inner in _SIZES:
                self._bytes(count * _SIZES[inner])
            else:
                for _ in range(count):
                    self._skip(inner, depth + 1)
        else:
            raise self._wrong(f"metadata of type {kind} is unknown, or nested too deeply")

    def _bytes(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._text):
            raise self._wrong("its header ends too soon")
        data = self._text[self._at : end]
        self._at = end
        return data

    def _take(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self._bytes(struct.calcsize(form)))

    def _wrong(self, reason: str) -> FormatError:
        return FormatError(f"{self._path}: is damaged at byte {self._at:,}: {reason}; {AGAIN}")
