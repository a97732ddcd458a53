"""The header of a safetensors file: read with every check before memory is given, and written.

A file is the header's length (8 bytes, little-endian), the header (a JSON object, padded with
spaces to a multiple of 8), and the tensors' bytes without gaps. Written headers are those of the
safetensors library, byte for byte; only the order of two or more metadata keys, which the library
leaves to chance, is sorted here.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from rebasin_hub.errors import FormatError, OutputError
from rebasin_hub.formats.sniff import AGAIN
from rebasin_hub.tensors import DTYPES, TensorInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["MAX_HEADER", "Extent", "FileHeader", "encode", "impossible", "parse", "storage_order"]

MAX_HEADER = 100_000_000
"""Bytes of the longest header that the safetensors library reads."""

_METADATA = "__metadata__"
_MAX_AXES = 32  # as many as every NumPy can hold
_MAX_BYTES = 2**63 - 1

# Largest alignment first, as in the library; the order inside one alignment is the library's too.
_ORDER = (
    *("U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16"),
    *("F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E8M0", "F8_E4M3", "F8_E5M2", "I8", "U8"),
    *("F6_E3M2", "F6_E2M3", "F4", "BOOL"),
)
_RANK = {name: rank for rank, name in enumerate(_ORDER)}


@dataclass(frozen=True)
class Extent:
    """Where a tensor's bytes lie, counted from the end of the header."""

    info: TensorInfo
    start: int
    end: int


@dataclass(frozen=True)
class FileHeader:
    """A checked header: tensors in the order in which their bytes lie, and the metadata."""

    tensors: Mapping[str, Extent]
    metadata: Mapping[str, str]


def storage_order(header: Mapping[str, TensorInfo]) -> list[str]:
    """Return the names in the order in which safetensors writes them: by type, then by name."""
    return sorted(header, key=lambda name: (_RANK[header[name].dtype], name))


def encode(header: Mapping[str, TensorInfo], metadata: Mapping[str, str] | None) -> bytes:
    """Return the start of a file, up to the first tensor, as the safetensors library writes it.

    Raises:
        OutputError: a name or a size that cannot be stored.

    """
    entries: dict[str, object] = {}
    # The library writes broken JSON for empty metadata without tensors; leave that out.
    if metadata or (metadata is not None and header):
        entries[_METADATA] = dict(sorted(metadata.items()))
    offset = 0
    for name in storage_order(header):
        info = header[name]
        _check_storable(name, info)
        span = [offset, offset + info.nbytes]
        entries[name] = {"dtype": info.dtype, "shape": list(info.shape), "data_offsets": span}
        offset += info.nbytes
    try:
        text = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError as error:
        raise OutputError(
            f"a name or a metadata text is not valid Unicode ({error.reason}): correct it"
        ) from None
    text += b" " * (-len(text) % 8)
    if len(text) > MAX_HEADER:
        raise OutputError(
            f"the header would take {len(text):,} bytes, more than the {MAX_HEADER:,} "
            "that safetensors reads: write several files"
        )
    return len(text).to_bytes(8, "little") + text


def _check_storable(name: str, info: TensorInfo) -> None:
    if name == _METADATA:
        raise OutputError(f"a tensor cannot be called {name!r} in safetensors: rename it")
    if info.size * DTYPES[info.dtype].bits % 8:
        raise OutputError(
            f"tensor {name!r}: {info.size} elements of {info.dtype} do not fill whole bytes"
        )


def parse(text: bytes, data: int, path: Path) -> FileHeader:
    """Check the JSON text of a header, from its `{` on, that `data` bytes of tensors follow.

    Raises:
        FormatError: what is wrong, in which file and at which tensor.

    """
    entries = _load(text, path)
    metadata = _metadata(entries.pop(_METADATA, {}), path)
    found = {name: _extent(name, entry, path) for name, entry in entries.items()}
    tensors = dict(sorted(found.items(), key=lambda item: (item[1].start, item[1].end)))
    _check_gapless(tensors, path)
    end = max((extent.end for extent in tensors.values()), default=0)
    if end > data:
        raise FormatError(
            f"{path}: is cut off: its tensors take {end:,} bytes, only {data:,} are there; {AGAIN}"
        )
    if end < data:
        raise FormatError(
            f"{path}: {data - end:,} bytes follow the last tensor that no tensor claims; {AGAIN}"
        )
    return FileHeader(tensors, metadata)


def _load(text: bytes, path: Path) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        entries = dict(pairs)
        if len(entries) != len(pairs):
            twice, _ = Counter(key for key, _ in pairs).most_common(1)[0]
            raise FormatError(f"{path}: the header names {twice!r} twice; {AGAIN}")
        return entries

    def refuse(constant: str) -> NoReturn:
        raise ValueError(f"{constant} is no JSON")

    try:
        entries: dict[str, Any] = json.loads(
            text.decode(), object_pairs_hook=unique, parse_constant=refuse
        )
        _check_unicode(entries)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: the header is not valid JSON ({error}); {AGAIN}") from None
    return entries


def _check_unicode(names: Iterable[str]) -> None:
    # JSON escapes can spell half a surrogate pair, which no UTF-8 text can hold.
    for name in names:
        name.encode()


def _metadata(found: object, path: Path) -> dict[str, str]:
    if not isinstance(found, dict):
        raise FormatError(
            f"{path}: {_METADATA!r} must be a JSON object of texts, not {type(found).__name__}; "
            "a tensor cannot have this name"
        )
    for key, value in found.items():
        if not isinstance(value, str):
            raise FormatError(
                f"{path}: metadata {_short(key)} must be text, not {type(value).__name__} "
                f"(a tensor cannot be called {_METADATA!r}); {AGAIN}"
            )
        try:
            _check_unicode([key, value])
        except ValueError:
            raise FormatError(
                f"{path}: metadata {_short(key)} is not valid Unicode; {AGAIN}"
            ) from None
    return found


def _extent(name: str, entry: object, path: Path) -> Extent:
    def wrong(reason: str) -> FormatError:
        return FormatError(f"{path}: tensor {name!r}: {reason}; {AGAIN}")

    if not isinstance(entry, dict):
        raise wrong("its header entry is not an object")
    if missing := {"dtype", "shape", "data_offsets"} - entry.keys():
        raise wrong(f"its header entry lacks {', '.join(sorted(missing))}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise wrong(f"its dtype {_short(dtype)} is not one of {', '.join(DTYPES)}")
    if not _counts(shape):
        raise wrong(f"its shape {_short(shape)} is not a list of non-negative integers")
    if not _counts(offsets) or len(offsets) != 2:  # noqa: PLR2004
        raise wrong(f"its data_offsets {_short(offsets)} are not two non-negative integers")
    if (reason := impossible(dtype, shape)) is not None:
        raise wrong(reason)
    info = TensorInfo(dtype, tuple(shape))
    start, end = offsets
    if end - start != info.nbytes:
        raise wrong(
            f"{dtype} of shape {shape} takes {info.nbytes:,} bytes, its data_offsets "
            f"[{start}, {end}] span {end - start:,}"
        )
    return Extent(info, start, end)


def _counts(found: object) -> bool:
    # `True` is an int to Python and a mistake here.
    return isinstance(found, list) and all(type(item) is int and item >= 0 for item in found)


def impossible(dtype: str, shape: list[int]) -> str | None:
    """Why no array can have this shape, or None; sizes beside a zero count too, as for NumPy."""
    if len(shape) > _MAX_AXES:
        return f"it has {len(shape)} axes, more than {_MAX_AXES}"
    most = DTYPES[dtype].numpy.itemsize
    for size in shape:
        most *= max(size, 1)
        if most > _MAX_BYTES:
            return f"its shape {_short(shape)} is larger than any memory"
    if TensorInfo(dtype, tuple(shape)).size * DTYPES[dtype].bits % 8:
        return f"{dtype} of shape {shape} does not fill whole bytes"
    return None


def _short(found: object) -> str:
    text = repr(found)
    return text if len(text) <= 80 else f"{text[:77]}…"  # noqa: PLR2004


def _check_gapless(tensors: Mapping[str, Extent], path: Path) -> None:
    end: int = 0
    before: str | None = None
    for name, extent in tensors.items():
        if extent.start != end:
            what = "overlap" if extent.start < end else "leave a hole"
            last = f"those of {before!r} end" if before is not None else "the first must begin"
            raise FormatError(
                f"{path}: tensor {name!r}: its bytes begin at {extent.start}, {last} at {end}: "
                f"they {what}; {AGAIN}"
            )
        end, before = extent.end, name
