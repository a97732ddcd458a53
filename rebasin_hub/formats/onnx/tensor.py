"""One tensor of an ONNX model (a TensorProto): its type and shape, and where its values lie."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rebasin_hub.formats.header import impossible
from rebasin_hub.formats.onnx.external import External
from rebasin_hub.formats.onnx.wire import BYTES, EIGHT, FOUR, VARINT, Field, Frame, Wire
from rebasin_hub.tensors import DTYPES, TensorInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NAMES", "NUMBERS", "STORED", "Parsed", "parse_tensor"]

STORED: Mapping[int, str] = {
    1: "F32",
    2: "U8",
    3: "I8",
    4: "U16",
    5: "I16",
    6: "I32",
    7: "I64",
    9: "BOOL",
    10: "F16",
    11: "F64",
    12: "U32",
    13: "U64",
    14: "C64",
    16: "BF16",
    17: "F8_E4M3",
    18: "F8_E4M3FNUZ",
    19: "F8_E5M2",
    20: "F8_E5M2FNUZ",
    23: "F4",
    24: "F8_E8M0",
}
"""ONNX's number of an element type to the name of the stored type."""
NAMES: Mapping[int, str] = {
    0: "UNDEFINED",
    8: "STRING",
    15: "COMPLEX128",
    21: "UINT4",
    22: "INT4",
    25: "UINT2",
    26: "INT2",
    27: "FLOAT6E2M3",
    28: "FLOAT6E3M2",
}
"""Element types that no array here can hold."""

# Field numbers of TensorProto in onnx.proto.
_DIMS, _TYPE, _SEGMENT, _NAME, _RAW, _EXTERNAL, _WHERE = 1, 2, 3, 8, 9, 13, 14
_FLOATS, _INT32S, _STRINGS, _INT64S, _DOUBLES, _UINT64S = 4, 5, 6, 7, 10, 11
_ELEMENTS = {_FLOATS: FOUR, _INT32S: VARINT, _INT64S: VARINT, _DOUBLES: EIGHT, _UINT64S: VARINT}
NUMBERS = (_INT32S, _INT64S, _UINT64S)
"""Fields whose elements are varints; those of all others lie as in memory."""
_INT32_TYPES = "I32 I16 I8 U16 U8 BOOL F16 BF16 F8_E4M3 F8_E4M3FNUZ F8_E5M2 F8_E5M2FNUZ F8_E8M0 F4"
_FIELD_OF = {
    **dict.fromkeys(_INT32_TYPES.split(), _INT32S),
    "F32": _FLOATS,
    "C64": _FLOATS,
    "F64": _DOUBLES,
    "I64": _INT64S,
    "U32": _UINT64S,
    "U64": _UINT64S,
}
_LONGEST = 10  # bytes of one number
_ON_DISK = 1  # data_location EXTERNAL


@dataclass(frozen=True)
class Parsed:
    """A TensorProto. `info` is None where its type is none that arrays here can have."""

    name: str
    type_number: int
    info: TensorInfo | None
    frames: tuple[Frame, ...]
    """The messages around its fields, the outermost first, its own last."""
    number: int | None
    """The field that holds its values; None: they are external, or there are none."""
    chunks: tuple[Field, ...]
    """The occurrences of that field."""
    external: External | None
    entries: tuple[tuple[str, Field, Field | None], ...]
    """Key, whole entry and value of each `external_data` entry."""


def parse_tensor(wire: Wire, frames: tuple[Frame, ...]) -> Parsed:
    """Read a TensorProto but for its values.

    Raises:
        FormatError: it is damaged, or its shape and its values do not agree.

    """
    own = frames[-1]
    dims: list[int] = []
    single: dict[int, Field] = {}
    values: dict[int, list[Field]] = {}
    entries = []
    for field in wire.fields(own.start, own.end):
        if field.number == _DIMS:
            dims += _numbers(wire, field)
        elif field.number in _ELEMENTS or field.number in {_RAW, _STRINGS}:
            values.setdefault(field.number, []).append(field)
        elif field.number == _EXTERNAL:
            entries.append(_entry(wire, field))
        elif field.number in {_TYPE, _NAME, _WHERE, _SEGMENT}:
            if field.number in single:
                raise wire.damaged(field.at, "a tensor says something twice")
            single[field.number] = field
    if _SEGMENT in single:
        raise wire.damaged(own.start, "a tensor in segments is not supported")
    name = wire.text(single[_NAME], "a tensor's name") if _NAME in single else ""
    number = _value(wire, single.get(_TYPE))
    outside = _value(wire, single.get(_WHERE)) == _ON_DISK
    external = _external(wire, own, entries) if outside else None
    if outside and values:
        raise wire.damaged(own.start, f"tensor {name!r} has its values inside and outside")
    info = _info(wire, own, name, STORED.get(number), tuple(dims))
    if info is None:
        return Parsed(name, number, None, frames, None, (), external, tuple(entries))
    kept = {key: chunks for key, chunks in values.items() if sum(c.end - c.start for c in chunks)}
    if not outside:
        _check_amount(wire, own, name, info, kept)
    key, chunks = next(iter(kept.items()), (None, []))
    return Parsed(name, number, info, frames, key, tuple(chunks), external, tuple(entries))


def _value(wire: Wire, field: Field | None) -> int:
    if field is None:
        return 0
    wire.expect(field, VARINT, "a tensor's type or place")
    return field.value


def _numbers(wire: Wire, field: Field) -> Iterator[int]:
    """Yield the dimensions of one field, packed or alone."""
    if field.kind == VARINT:
        yield field.value
        return
    wire.expect(field, BYTES, "a tensor's shape")
    data, value, shift = wire.bytes(field.start, field.end), 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004
            yield value
            value = shift = 0
    if shift:
        raise wire.damaged(field.at, "a number does not end")


def _entry(wire: Wire, field: Field) -> tuple[str, Field, Field | None]:
    wire.expect(field, BYTES, "a tensor's external data")
    key, value = "", None
    for part in wire.fields(field.start, field.end):
        if part.number == 1:
            key = wire.text(part, "a key of external data")
        elif part.number == 2:  # noqa: PLR2004 - the value
            value = part
    return key, field, value


def _external(wire: Wire, own: Frame, entries: list[tuple[str, Field, Field | None]]) -> External:
    found = {}
    for key, field, value in entries:
        if key in found:
            raise wire.damaged(field.at, f"external data has {key!r} twice")
        found[key] = "" if value is None else wire.text(value, "external data")
    counts: dict[str, int | None] = {}
    for key in ("offset", "length"):
        text = found.get(key)
        if text is not None and not (text.isascii() and text.isdigit() and len(text) < 19):  # noqa: PLR2004
            raise wire.damaged(own.start, f"the {key} of external data is {text[:40]!r}")
        counts[key] = None if text is None else int(text)
    return External(found.get("location", ""), counts["offset"] or 0, counts["length"])


def _info(
    wire: Wire, own: Frame, name: str, dtype: str | None, dims: tuple[int, ...]
) -> TensorInfo | None:
    if dtype is None:
        return None
    if any(size >= 1 << 63 for size in dims):
        raise wire.damaged(own.start, f"tensor {name!r} has a negative size")
    # Half bytes come in pairs: of an odd number of elements the last one would stand alone.
    if dtype == "F4" and math.prod(dims) % 2:
        return None
    if (reason := impossible(dtype, list(dims))) is not None:
        raise wire.damaged(own.start, f"tensor {name!r}: {reason}")
    return TensorInfo(dtype, dims)


def _check_amount(
    wire: Wire, own: Frame, name: str, info: TensorInfo, values: dict[int, list[Field]]
) -> None:
    """Refuse values that cannot be those of a type and shape, before any memory is given."""
    expected = f"tensor {name!r}: {info.dtype} of shape {list(info.shape)}"
    if len(values) > 1:
        raise wire.damaged(own.start, f"tensor {name!r} has its values in several fields")
    if not values:
        if info.size:
            raise wire.damaged(own.start, f"{expected} has no values")
        return
    ((number, chunks),) = values.items()
    found = sum(chunk.end - chunk.start for chunk in chunks)
    if number == _RAW:
        if len(chunks) > 1:
            raise wire.damaged(own.start, f"tensor {name!r} has its values twice")
        wire.expect(chunks[0], BYTES, "a tensor's values")
        fits = found == info.nbytes
    else:
        if number != _FIELD_OF[info.dtype]:
            raise wire.damaged(own.start, f"{expected} has its values in field {number}")
        for chunk in chunks:
            if chunk.kind not in {BYTES, _ELEMENTS[number]}:
                raise wire.damaged(chunk.at, "a tensor's values are of another kind")
        numbers = info.nbytes // DTYPES[info.dtype].numpy.itemsize
        fits = numbers <= found <= _LONGEST * numbers if number in NUMBERS else found == info.nbytes
    if not fits:
        raise wire.damaged(own.start, f"{expected} takes {info.nbytes:,} bytes, found {found:,}")
