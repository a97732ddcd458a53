"""Where the tensors of a file lie, so that equal tensors of different files are stored once.

A safetensors file is cut at its tensors, a torch file (a zip archive) at its members, any other is
one piece. The cut only decides what can be shared: pieces joined give the file byte for byte,
whatever they mean. What is too small to be an object of its own goes into one rest for each file.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.header import MAX_HEADER, parse
from rebasin_hub.formats.sniff import is_zip

__all__ = ["SMALLEST", "Span", "tensor_spans"]

SMALLEST = 4096
"""Bytes of the smallest tensor that is stored for itself: a block of most file systems."""
_LENGTH = 8
_ZIP_HEADER = 30


@dataclass(frozen=True)
class Span:
    """A stretch of a file."""

    start: int
    nbytes: int

    @property
    def end(self) -> int:
        """The first byte after it."""
        return self.start + self.nbytes


def tensor_spans(path: Path) -> list[Span]:
    """Return where the tensors of a file lie, in file order; empty if that is not known."""
    with path.open("rb") as file:
        head = file.read(_LENGTH + 1)
    if is_zip(head):
        return _zip_members(path)
    return _safetensors(path, head) if head[_LENGTH:] == b"{" else []


def _safetensors(path: Path, head: bytes) -> list[Span]:
    length = int.from_bytes(head[:_LENGTH], "little")
    after = path.stat().st_size - _LENGTH - length
    if length > MAX_HEADER or after < 0:
        return []
    with path.open("rb") as file:
        file.seek(_LENGTH)
        text = file.read(length)
    try:
        header = parse(text, after, path)
    except FormatError:
        return []
    data = _LENGTH + length
    return [Span(data + e.start, e.end - e.start) for e in header.tensors.values()]


def _zip_members(path: Path) -> list[Span]:
    """Return where the members lie that are stored as they are, as torch stores them."""
    size, spans, end = path.stat().st_size, [], 0
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            for member in sorted(archive.infolist(), key=lambda m: m.header_offset):
                file.seek(member.header_offset)
                local = file.read(_ZIP_HEADER)
                names = int.from_bytes(local[26:28], "little")
                extra = int.from_bytes(local[28:30], "little")
                span = Span(member.header_offset + _ZIP_HEADER + names + extra, member.file_size)
                if member.compress_type != zipfile.ZIP_STORED or not span.nbytes:
                    continue
                if span.start < end or span.end > size:
                    return []
                spans.append(span)
                end = span.end
    except (zipfile.BadZipFile, NotImplementedError, OSError):
        return []
    return spans
