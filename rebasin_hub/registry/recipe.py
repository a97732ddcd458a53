"""Recipes: how a version's files are made of another version's bytes, byte for byte.

A recipe knows no spec and no file format. For each stretch of a file it says which stretch of the
base predicts it, in which order the base's elements are read (the permutation, as one index array
for each axis), and what the compressed difference to the prediction is. So it can be followed by
any later program, whatever became of the spec.

On disk: a first line, compressed data one after another, the table of contents (JSON, deflated),
and the table's length in the last eight bytes.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np

from rebasin_hub.errors import FormatError
from rebasin_hub.permute import Index
from rebasin_hub.rearrange import Array, gather
from rebasin_hub.registry.delta import Bits, decode, encode
from rebasin_hub.registry.layout import Span
from rebasin_hub.registry.results import FileFacts
from rebasin_hub.registry.store import chunks_of
from rebasin_hub.tensors import DTYPES, TensorInfo

__all__ = ["Fetch", "Part", "Prediction", "Recipe", "Written", "write_recipe"]

Fetch: TypeAlias = Callable[[str, int, int], bytes]
"""Returns a stretch of a base's content: its digest, start and length."""

_FIRST_LINE = b"rebasin-hub recipe 1\n"
_END = 8
_LONGEST_TABLE = 1 << 30
_AGAIN = "restore the registry from a backup, or import an export of it"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a stretch is predicted by: a tensor of the base, renumbered and cast to `dtype`."""

    content: str
    start: int
    info: TensorInfo
    index: tuple[Index | None, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Part:
    """A stretch of a file, the bytes of one element in it, and what predicts it."""

    span: Span
    width: int = 1
    prediction: Prediction | None = None


@dataclass(frozen=True)
class Written:
    """A recipe that was written: its file, digest and length.

    `alone` is the length that it would have had without a base.
    """

    path: Path
    digest: str
    nbytes: int
    alone: int


@dataclass
class _Writer:
    file: BinaryIO
    hasher: Any = field(default_factory=hashlib.sha256)
    place: int = 0

    def put(self, data: bytes) -> list[int]:
        self.file.write(data)
        self.hasher.update(data)
        self.place += len(data)
        return [self.place - len(data), len(data)]


def write_recipe(
    path: Path, files: Sequence[tuple[FileFacts, Sequence[Part]]], fetch: Fetch
) -> Written:
    """Write the recipe of some files, whose parts cover them in order; one part is in memory.

    A part is compressed with its prediction and without, and the shorter form is kept.
    """
    contents: dict[str, int] = {}
    indexes: dict[str, int] = {}
    stored: list[dict[str, object]] = []
    table: list[dict[str, object]] = []
    alone = 0
    with path.open("xb") as file:
        writer = _Writer(file)
        writer.put(_FIRST_LINE)

        def index_number(index: Index | None) -> int | None:
            if index is None:
                return None
            narrow = np.ascontiguousarray(index, np.uint32)
            key = hashlib.sha256(repr(index.shape).encode() + narrow.tobytes()).hexdigest()
            if key not in indexes:
                at = writer.put(encode(narrow.reshape(-1), None))
                stored.append({"shape": list(index.shape), "at": at})
                indexes[key] = len(indexes)
            return indexes[key]

        for facts, parts in files:
            rows = []
            for part in parts:
                bits = _bits(
                    b"".join(chunks_of(facts.path, part.span.start, part.span.nbytes)), part
                )
                plain, with_base = encode(bits, None), None
                if (prediction := part.prediction) is not None:
                    with_base = encode(bits, _predicted(prediction, fetch).reshape(-1))
                alone += len(plain)
                row: dict[str, object] = {"n": part.span.nbytes, "width": part.width}
                if prediction is not None and with_base is not None and len(with_base) < len(plain):
                    row["base"] = {
                        "content": contents.setdefault(prediction.content, len(contents)),
                        "start": prediction.start,
                        "dtype": prediction.info.dtype,
                        "shape": list(prediction.info.shape),
                        "index": [index_number(axis) for axis in prediction.index],
                        "as": prediction.dtype,
                    }
                    plain = with_base
                rows.append({**row, "at": writer.put(plain)})
            table.append(
                {"name": facts.name, "digest": facts.digest, "nbytes": facts.nbytes, "parts": rows}
            )
        whole = {"contents": list(contents), "indexes": stored, "files": table}
        length = writer.put(zlib.compress(json.dumps(whole, separators=(",", ":")).encode(), 9))[1]
        writer.put(length.to_bytes(_END, "little"))
    return Written(path, writer.hasher.hexdigest(), writer.place, alone)


def _bits(data: bytes, part: Part) -> Bits:
    return np.frombuffer(data, f"u{part.width}")


def _predicted(prediction: Prediction, fetch: Fetch) -> Bits:
    """Return the bits that a base's tensor has after renumbering and casting."""
    info = prediction.info
    data = fetch(prediction.content, prediction.start, info.nbytes)
    array: Array = np.frombuffer(data, DTYPES[info.dtype].numpy).reshape(info.shape)
    moved = gather(prediction.index, array) if info.shape else array
    if prediction.dtype != info.dtype:
        with np.errstate(over="ignore", invalid="ignore"):
            moved = moved.astype(DTYPES[prediction.dtype].numpy)
    return np.ascontiguousarray(moved).reshape(-1).view(f"u{moved.dtype.itemsize}")


class Recipe:
    """A recipe in the store, ready to be followed; `read` returns a stretch of it."""

    def __init__(self, nbytes: int, read: Callable[[int, int], bytes], shown: str) -> None:
        self._read = read
        self._shown = shown
        try:
            self._table: Mapping[str, Any] = json.loads(_table(nbytes, read))
            self._files = {entry["name"]: entry for entry in self._table["files"]}
        except (ValueError, KeyError, TypeError, zlib.error, RecursionError) as error:
            raise FormatError(
                f"{shown}: is no recipe of this program ({error}); {_AGAIN}"
            ) from None

    def chunks(self, name: str, fetch: Fetch) -> Iterator[bytes]:
        """Yield the bytes of a file; the caller compares their digest.

        Raises:
            FormatError: the recipe is damaged, or its base is not what it was made for.

        """
        try:
            for part in self._files[name]["parts"]:
                yield self._part(part, fetch)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            raise FormatError(f"{self._shown}: cannot be followed ({error}); {_AGAIN}") from None

    def _part(self, part: Mapping[str, Any], fetch: Fetch) -> bytes:
        start, length = part["at"]
        dtype = np.dtype(f"u{part['width']}")
        base = None
        if (entry := part.get("base")) is not None:
            base = _predicted(self._prediction(entry), fetch)
        data = memoryview(self._read(start, length))
        return decode(data, base, dtype, part["n"] // dtype.itemsize).tobytes()

    def _prediction(self, entry: Mapping[str, Any]) -> Prediction:
        return Prediction(
            content=self._table["contents"][entry["content"]],
            start=entry["start"],
            info=TensorInfo(entry["dtype"], tuple(entry["shape"])),
            index=tuple(None if n is None else self._index(n) for n in entry["index"]),
            dtype=entry["as"],
        )

    def _index(self, number: int) -> Index:
        stored = self._table["indexes"][number]
        start, length = stored["at"]
        count = int(np.prod(stored["shape"]))
        flat = decode(memoryview(self._read(start, length)), None, np.dtype(np.uint32), count)
        return flat.astype(np.int64).reshape(stored["shape"])


def _table(nbytes: int, read: Callable[[int, int], bytes]) -> bytes:
    length = int.from_bytes(read(max(0, nbytes - _END), _END), "little")
    if read(0, len(_FIRST_LINE)) != _FIRST_LINE or length > nbytes - _END:
        raise ValueError("its first or last bytes are wrong")
    packed = read(nbytes - _END - length, length)
    return zlib.decompressobj().decompress(packed, _LONGEST_TABLE)
