"""Flax checkpoints: the arrays of a nested dict, named by their keys joined with `/`.

An array is an extension of type 1 that holds its shape, the name of its type and its bytes; one of
more than a GiB is a dict of chunks. What else the tree holds (a step count, an empty state) is kept
as it is. Source: flax/serialization.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.config import config_beside
from rebasin_hub.formats.header import impossible
from rebasin_hub.formats.msgpack.parse import Item, Packed
from rebasin_hub.formats.raw import blank
from rebasin_hub.tensors import DTYPES, TensorInfo

if TYPE_CHECKING:
    from pathlib import Path

    from rebasin_hub.formats.raw import Array

__all__ = ["ARRAY", "CHUNKED", "SEPARATOR", "TYPES", "MsgpackCheckpoint"]

ARRAY = 1
"""The extension type of arrays."""
CHUNKED = "__msgpack_chunked_array__"
SEPARATOR = "/"
TYPES = {
    str(kind.numpy.name): name
    for name, kind in DTYPES.items()
    if kind.bits >= 8  # noqa: PLR2004
}
"""NumPy's name of an element type to that of the stored type."""
_MAX_DEPTH = 100
_PARTS = 3  # shape, type, bytes


@dataclass(frozen=True)
class _Stored:
    info: TensorInfo
    chunks: tuple[tuple[int, int], ...]


class MsgpackCheckpoint(Checkpoint):
    """One .msgpack file of Flax."""

    format = "msgpack"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files = (path,)
        self.metadata, self.tied = {}, {}
        self._packed = Packed(path)
        self._stored: dict[str, _Stored] = {}
        self.beside: dict[str, tuple[int, int]] = {}
        """Where everything else in the tree lies, by its name."""
        self.order: list[str] = []
        """All names, in stored order."""
        try:
            self._walk()
            self.config, notes = config_beside(path)
        except BaseException:
            self.close()
            raise
        self.header = {name: stored.info for name, stored in self._stored.items()}
        kept = ", ".join(self.beside)
        self.notes = (*([f"kept beside the weights, unchanged: {kept}"] if kept else []), *notes)

    def _walk(self) -> None:
        packed = self._packed
        root = packed.item(0, packed.size)
        if root.kind != "map":
            raise FormatError(
                f"{self.path}: holds no dict of arrays; save one with flax.serialization.to_bytes"
            )
        end = self._map(root, "", 0)
        if end != packed.size:
            raise packed.damaged(end, "something follows the tree")
        if not self._stored:
            raise FormatError(f"{self.path}: holds no arrays; save a model's variables")

    def _map(self, item: Item, place: str, depth: int) -> int:
        """Take in a dict, and return where it ends."""
        packed, at, seen = self._packed, item.start, set()
        if depth > _MAX_DEPTH:
            raise packed.damaged(item.at, "it is nested too deeply")
        for _ in range(item.number or 0):
            key = packed.item(at, packed.size)
            name = packed.text(key, "a key")
            if SEPARATOR in name or name in seen:
                raise packed.damaged(
                    key.at, f"the key {name[:80]!r} is there twice or has a {SEPARATOR!r}"
                )
            seen.add(name)
            at = self._value(key.end, place + name, depth)
        return at

    def _value(self, at: int, name: str, depth: int) -> int:
        packed = self._packed
        item = packed.item(at, packed.size)
        if item.kind == "map" and item.number:
            chunked = self._chunked(item, name)
            self.order += [name] if chunked else []
            return chunked or self._map(item, name + SEPARATOR, depth + 1)
        self.order.append(name)
        if item.kind == "ext" and item.number == ARRAY:
            self._stored[name] = self._array(item, name)
            return item.end
        end = self._end(item, depth)
        self.beside[name] = (item.at, end)
        return end

    def _end(self, item: Item, depth: int) -> int:
        """Return where an item ends that is kept as it is."""
        if item.kind not in {"list", "map"}:
            return item.end
        if depth > _MAX_DEPTH:
            raise self._packed.damaged(item.at, "it is nested too deeply")
        at = item.start
        for _ in range((item.number or 0) * (2 if item.kind == "map" else 1)):
            at = self._end(self._packed.item(at, self._packed.size), depth + 1)
        return at

    def _array(self, item: Item, name: str) -> _Stored:
        packed = self._packed

        def wrong(reason: str) -> FormatError:
            return packed.damaged(item.at, f"tensor {name!r} {reason}")

        whole = packed.item(item.start, item.end)
        if whole.kind != "list" or whole.number != _PARTS:
            raise wrong("has not three parts: shape, type, bytes")
        sizes = packed.item(whole.start, item.end)
        if sizes.kind != "list":
            raise wrong("has no shape")
        at, shape = sizes.start, []
        for _ in range(sizes.number or 0):
            size = packed.item(at, item.end)
            if size.kind != "plain" or size.number is None or size.number < 0:
                raise wrong("has no shape")
            shape.append(size.number)
            at = size.end
        kind = packed.item(at, item.end)
        dtype = packed.text(kind, "an array's type")
        data = packed.item(kind.end, item.end)
        if dtype not in TYPES:
            raise wrong(f"is of type {dtype[:40]!r}, which has no form here")
        if (reason := impossible(TYPES[dtype], shape)) is not None:
            raise wrong(f"is not possible: {reason}")
        info = TensorInfo(TYPES[dtype], tuple(shape))
        if data.kind not in {"bytes", "text"} or data.end - data.start != info.nbytes:
            raise wrong(
                f"is {info.dtype} of shape {shape}, which takes {info.nbytes:,} bytes, found "
                f"{data.end - data.start:,}"
            )
        if data.end != item.end:
            raise wrong("has more than three parts")
        return _Stored(info, ((data.start, data.end),))

    def _chunked(self, item: Item, name: str) -> int | None:
        """Take in a dict that stands for one array in chunks, and return where it ends."""
        packed, at = self._packed, item.start
        parts: dict[str, Item] = {}
        for _ in range(item.number or 0):
            key = packed.item(at, packed.size)
            text = packed.text(key, "a key")
            if not parts and text != CHUNKED:
                return None
            parts[text] = value = packed.item(key.end, packed.size)
            at = self._end(value, 0)
        if set(parts) != {CHUNKED, "shape", "chunks"}:
            raise packed.damaged(item.at, f"tensor {name!r} is not an array in chunks")
        shape = [size.number for size in self._listed(parts["shape"], name)]
        chunks = [self._array(chunk, name) for chunk in self._listed(parts["chunks"], name)]
        dtypes = {chunk.info.dtype for chunk in chunks}
        if len(dtypes) != 1 or any(size is None or size < 0 for size in shape):
            raise packed.damaged(item.at, f"tensor {name!r} is not an array in chunks")
        sizes = [size for size in shape if size is not None]
        (dtype,) = dtypes
        if (reason := impossible(dtype, sizes)) is not None:
            raise packed.damaged(item.at, f"tensor {name!r}: {reason}")
        info = TensorInfo(dtype, tuple(sizes))
        if sum(chunk.info.nbytes for chunk in chunks) != info.nbytes:
            raise packed.damaged(item.at, f"tensor {name!r} lacks chunks")
        self._stored[name] = _Stored(info, tuple(c for chunk in chunks for c in chunk.chunks))
        return at

    def _listed(self, item: Item, name: str) -> list[Item]:
        """Return the items of a dict with the keys 0, 1, 2 …, as Flax writes lists."""
        packed, at, found = self._packed, item.start, []
        if item.kind != "map":
            raise packed.damaged(item.at, f"tensor {name!r} is not an array in chunks")
        for number in range(item.number or 0):
            key = packed.item(at, packed.size)
            if packed.text(key, "a key") != str(number):
                raise packed.damaged(key.at, f"tensor {name!r} lacks its part {number}")
            found.append(packed.item(key.end, packed.size))
            if found[-1].kind in {"map", "list"}:
                raise packed.damaged(key.at, f"tensor {name!r} is not an array in chunks")
            at = found[-1].end
        return found

    def read(self, name: str) -> Array:  # noqa: D102
        stored = self._stored[name]
        array, memory = blank(stored.info)
        done = 0
        for start, end in stored.chunks:
            self._packed.fill(memory[done : done + end - start], start)
            done += end - start
        return array

    def kept(self, name: str) -> bytes:
        """Return the bytes of what is kept beside the weights."""
        start, end = self.beside[name]
        return self._packed.bytes(start, end, end)

    def close(self) -> None:  # noqa: D102
        self._packed.close()
