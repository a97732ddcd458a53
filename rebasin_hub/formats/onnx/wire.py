"""The wire format of protobuf, read by position: where each field of a file lies.

Only positions are kept, so that a model of any size opens at once, and what is not changed is
copied byte for byte (`edit`). A message is fields: a tag (field number and kind) and a value, which
is a varint, 4 or 8 bytes, or a length and so many bytes. Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.sniff import AGAIN, open_input, read_into

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rebasin_hub.formats.raw import Bytes

__all__ = ["BYTES", "EIGHT", "FOUR", "LARGEST", "VARINT", "Field", "Frame", "Wire", "varint"]

LARGEST = 2**31 - 1
"""Bytes of the largest file that protobuf itself reads."""

VARINT, EIGHT, BYTES, FOUR = 0, 1, 2, 5
_FIXED = {EIGHT: 8, FOUR: 4}
_CHUNK = 1 << 16
_LONGEST = 10  # bytes of a varint of 64 bits


class Frame(NamedTuple):
    """A message inside of others: where its length stands, and where its bytes lie."""

    at: int
    start: int
    end: int


class Field(NamedTuple):
    """One field: its number and kind, where it begins (`at`), and where its value lies."""

    number: int
    kind: int
    at: int
    length_at: int
    start: int
    end: int
    value: int
    """Of a varint."""

    @property
    def frame(self) -> Frame:
        """The field as a message."""
        return Frame(self.length_at, self.start, self.end)


class Wire:
    """A file of protobuf's wire format; every damage is a FormatError that names the place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_input(path)
        self._lock = Lock()  # a seek and the read after it belong together
        self.size = os.fstat(self._file.fileno()).st_size
        self._chunk = b""
        self._base = 0

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """Yield the fields of the message that lies from `start` to `end`."""
        at = start
        while at < end:
            tag, where = self._varint(at, end)
            number, kind = tag >> 3, tag & 7
            value, length_at = 0, where
            if kind == VARINT:
                value, stop = self._varint(where, end)
            elif kind == BYTES:
                length, where = self._varint(where, end)
                stop = where + length
            elif kind in _FIXED:
                stop = where + _FIXED[kind]
            else:
                raise self.damaged(at, f"field kind {kind} is unknown")
            if not number or number >= 1 << 29:
                raise self.damaged(at, f"{number} is no field number")
            if stop > end:
                raise self.damaged(at, f"field {number} reaches beyond what holds it")
            yield Field(number, kind, at, length_at, where, stop, value)
            at = stop

    def text(self, field: Field, what: str) -> str:
        """Return a field's text."""
        self.expect(field, BYTES, what)
        try:
            return self.bytes(field.start, field.end).decode()
        except UnicodeDecodeError:
            raise self.damaged(field.at, f"{what} is not valid UTF-8") from None

    def expect(self, field: Field, kind: int, what: str) -> None:
        """Refuse a field of another kind."""
        if field.kind != kind:
            raise self.damaged(field.at, f"{what} is stored as kind {field.kind}")

    def bytes(self, start: int, end: int) -> bytes:
        """Return the bytes from `start` to `end`."""
        self._cover(start, end)
        return self._chunk[start - self._base : end - self._base]

    def fill(self, memory: Bytes | memoryview, start: int) -> None:
        """Fill memory with the bytes from `start` on.

        Raises:
            FormatError: the file ends too soon, or cannot be read.

        """
        view = memory if isinstance(memory, memoryview) else memory.data
        with self._lock:
            try:
                self._file.seek(start)
                complete = read_into(self._file, view)
            except OSError as error:
                raise FormatError(f"{self.path}: cannot be read: {error.strerror}") from None
        if not complete:
            raise FormatError(f"{self.path}: ends too soon; it was changed while open")

    def damaged(self, at: int, reason: str) -> FormatError:
        """Return the error for what is wrong at a position."""
        return FormatError(f"{self.path}: is damaged at byte {at:,}: {reason}; {AGAIN}")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _cover(self, start: int, end: int) -> None:
        if self._base <= start and end <= self._base + len(self._chunk):
            return
        chunk = bytearray(min(max(_CHUNK, end - start), self.size - start))
        if end - start > len(chunk):
            raise self.damaged(start, "the file ends within it")
        self.fill(memoryview(chunk), start)
        self._chunk, self._base = bytes(chunk), start

    def _varint(self, at: int, end: int) -> tuple[int, int]:
        self._cover(at, min(at + _LONGEST, end))
        value = 0
        for place in range(at - self._base, min(at + _LONGEST, end) - self._base):
            byte = self._chunk[place]
            value |= (byte & 0x7F) << 7 * (place + self._base - at)
            if byte < 0x80:  # noqa: PLR2004 - the last byte has no such bit
                return value & (1 << 64) - 1, place + self._base + 1
        raise self.damaged(at, "a number does not end")


def varint(value: int) -> bytes:
    """Return a number that is not negative as a varint of as few bytes as it takes."""
    parts = bytearray()
    while value > 0x7F:  # noqa: PLR2004
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
