"""MessagePack read by position: what begins at a byte of a file, and where it ends.

Only lengths and positions are kept, so that a file of any size opens at once. Source: the format
specification at github.com/msgpack/msgpack.
"""

from __future__ import annotations

import os
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.sniff import AGAIN, open_input, read_into

if TYPE_CHECKING:
    from pathlib import Path

    from rebasin_hub.formats.raw import Bytes

__all__ = ["Item", "Packed"]

_CHUNK = 1 << 16
_TEXT, _BYTES, _LIST, _MAP, _EXT, _PLAIN = "text", "bytes", "list", "map", "ext", "plain"

# First byte to: kind, bytes of the length.
_SIZED = dict(
    zip(
        [*range(0xC4, 0xCA), *range(0xD9, 0xE0)],
        [(kind, width) for kind in (_BYTES, _EXT, _TEXT) for width in (1, 2, 4)]
        + [(kind, width) for kind in (_LIST, _MAP) for width in (2, 4)],
        strict=True,
    )
)
# First byte to: bytes of the value.
_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8}
_FIXED |= {0xCC + i: 1 << i % 4 for i in range(8)}
_FIXED_EXT = {0xD4: 1, 0xD5: 2, 0xD6: 4, 0xD7: 8, 0xD8: 16}
_SIGNED = range(0xD0, 0xD4)
_UNSIGNED = range(0xCC, 0xD0)
_NEGATIVE = 0xE0


class Item(NamedTuple):
    """One value: `text`, `bytes`, `list`, `map`, `ext`, or `plain` (a number, nothing, a truth).

    Its content lies from `start` to `end`; of a list or map only `start` is known: `number` says
    how many items (or pairs) begin there. `number` is also an ext's type and an integer's value.
    """

    kind: str
    at: int
    start: int
    end: int
    number: int | None = None


class Packed:
    """A file of MessagePack; every damage is a FormatError that names the place."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open_input(path)
        self._lock = Lock()
        self.size = os.fstat(self._file.fileno()).st_size
        self._chunk = b""
        self._base = 0

    def item(self, at: int, limit: int) -> Item:
        """Return what begins at a position and must end before another."""
        first = self.bytes(at, at + 1, limit)[0]
        if first < 0xC0 or first >= _NEGATIVE:  # noqa: PLR2004
            return self._ended(_small(first, at), limit)
        if first in _FIXED:
            return self._plain(first, at, limit)
        if first in _FIXED_EXT:
            kind = self.bytes(at + 1, at + 2, limit)[0]
            return self._ended(Item(_EXT, at, at + 2, at + 2 + _FIXED_EXT[first], kind), limit)
        if first not in _SIZED:
            raise self.damaged(at, f"no MessagePack value begins with {first:#x}")
        return self._sized(first, at, limit)

    def _plain(self, first: int, at: int, limit: int) -> Item:
        end = at + 1 + _FIXED[first]
        value = None
        if first in _SIGNED or first in _UNSIGNED:
            data = self.bytes(at + 1, end, limit)
            value = int.from_bytes(data, "big", signed=first in _SIGNED)
        return self._ended(Item(_PLAIN, at, at + 1, end, value), limit)

    def _sized(self, first: int, at: int, limit: int) -> Item:
        kind, width = _SIZED[first]
        start = at + 1 + width
        length = int.from_bytes(self.bytes(at + 1, start, limit), "big")
        if kind in {_LIST, _MAP}:
            return Item(kind, at, start, start, length)
        if kind == _EXT:
            code = self.bytes(start, start + 1, limit)[0]
            return self._ended(Item(kind, at, start + 1, start + 1 + length, code), limit)
        return self._ended(Item(kind, at, start, start + length), limit)

    def _ended(self, item: Item, limit: int) -> Item:
        if item.end > limit:
            raise self.damaged(item.at, "a value reaches beyond the end")
        return item

    def text(self, item: Item, what: str) -> str:
        """Return an item's text."""
        if item.kind not in {_TEXT, _BYTES}:
            raise self.damaged(item.at, f"{what} is no text")
        try:
            return self.bytes(item.start, item.end, item.end).decode()
        except UnicodeDecodeError:
            raise self.damaged(item.at, f"{what} is not valid UTF-8") from None

    def bytes(self, start: int, end: int, limit: int) -> bytes:
        """Return the bytes from `start` to `end`, which must not pass a limit."""
        if end > min(limit, self.size):
            raise self.damaged(start, "it ends too soon")
        if not (self._base <= start and end <= self._base + len(self._chunk)):
            chunk = bytearray(min(max(_CHUNK, end - start), self.size - start))
            self.fill(memoryview(chunk), start)
            self._chunk, self._base = bytes(chunk), start
        return self._chunk[start - self._base : end - self._base]

    def fill(self, memory: Bytes | memoryview, start: int) -> None:
        """Fill memory with the bytes from `start` on."""
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


def _small(first: int, at: int) -> Item:
    """Return what has its length, or its value, in its first byte."""
    start = at + 1
    if first >= _NEGATIVE:
        return Item(_PLAIN, at, at, start, first - 256)
    if first < 0x80:  # noqa: PLR2004
        return Item(_PLAIN, at, at, start, first)
    if first < 0x90:  # noqa: PLR2004
        return Item(_MAP, at, start, start, first & 0x0F)
    if first < 0xA0:  # noqa: PLR2004
        return Item(_LIST, at, start, start, first & 0x0F)
    return Item(_TEXT, at, start, start + (first & 0x1F))
