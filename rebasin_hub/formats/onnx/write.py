"""Writing an ONNX model with other values: the graph stays the same bytes, and so does its place.

What was inside stays inside, what was in files of their own stays in files of their own. These
bear the name of the new model in place of the old one's: beside `b.onnx`, the copy of `a.onnx`,
`a.onnx_data` becomes `b.onnx_data`; a file of any other name becomes `b.onnx.data`, and further
ones `b.onnx.data.2`, `b.onnx.data.3`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from rebasin_hub.errors import OutputError
from rebasin_hub.formats.onnx.edit import Edit, edited_size, write_edited
from rebasin_hub.formats.onnx.tensor import NUMBERS
from rebasin_hub.formats.onnx.wire import BYTES, LARGEST, varint
from rebasin_hub.formats.raw import bytes_of
from rebasin_hub.formats.sniff import open_input, read_into

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rebasin_hub.formats.atomic import NewFile
    from rebasin_hub.formats.onnx.checkpoint import OnnxCheckpoint
    from rebasin_hub.formats.onnx.external import Extent
    from rebasin_hub.formats.onnx.tensor import Parsed
    from rebasin_hub.formats.supply import Made, Supply

__all__ = ["data_files", "write_onnx"]

_RAW = 9  # field number
_CHUNK = 8 << 20


def data_files(source: OnnxCheckpoint, out: Path) -> dict[Path, Path]:
    """Return where the copy of each file that a model's values lie in is to be."""
    found: dict[Path, Path] = {}
    others = 0
    for location, file in source.locations.items():
        if file in found:
            continue
        if location.startswith(source.path.name):
            found[file] = out.with_name(out.name + location.removeprefix(source.path.name))
            if found[file].parent == out.parent and found[file] != out:
                continue
        others += 1
        found[file] = out.with_name(f"{out.name}.data" + (f".{others}" if others > 1 else ""))
    if len(set(found.values())) < len(found):
        raise OutputError(
            f"{out}: two files of data would have one name; write a .safetensors file"
        )
    return found


def write_onnx(
    files: Sequence[NewFile], source: OnnxCheckpoint, supply: Supply, places: Mapping[Path, Path]
) -> None:
    """Write a model and its files of data, with the values of `supply`.

    At most one tensor is held at a time, and values inside are made in the order of their places.

    Args:
        files: the new files: of the model, then of `places` in their order.
        source: the model to copy.
        supply: its weights.
        places: see `data_files`.

    Raises:
        OutputError: tied weights differ by now, or the model would be too large for protobuf.

    """
    model, *data = files
    edits = [*_inside(source, supply), *_renamed(source, places)]
    if edited_size(source.wire, edits) > LARGEST:
        raise OutputError(
            f"{source.path}: would come to more than the 2 GiB that protobuf reads; save it with "
            "external data first"
        )
    for (old, _), file in zip(places.items(), data, strict=True):
        _write_data(file, old, source, supply)
    write_edited(model, source.wire, edits)


def _inside(source: OnnxCheckpoint, supply: Supply) -> list[Edit]:
    edits = []
    for name, found in source.contents.tensors.items():
        if name in source.extents:
            continue
        if not found.chunks:
            supply.wrote(name, hashlib.sha256(supply.take(name)).hexdigest())
        elif found.number in NUMBERS or len(found.chunks) > 1:
            if not _unchanged(source, supply, name):
                edits += _as_raw(found, supply, name)
        else:
            (chunk,) = found.chunks
            edits.append(_values(found, slice(chunk.start, chunk.end), supply, name))
    return edits


def _unchanged(source: OnnxCheckpoint, supply: Supply, name: str) -> bool:
    """Whether a weight has its old values still, so that the way they are written can stay."""
    data = supply.take(name)
    same = data == bytes_of(source.read(name), supply.header[name].dtype)
    if same:
        supply.wrote(name, hashlib.sha256(data).hexdigest())
    return same


def _as_raw(found: Parsed, supply: Supply, name: str) -> list[Edit]:
    """Put raw bytes in the place of numbers, of which every other value has another length."""
    nbytes = supply.header[name].nbytes
    first, *others = found.chunks
    tag = varint(_RAW << 3 | BYTES) + varint(nbytes)
    edits = [Edit.of(found.frames, other.at, other.end, b"") for other in others]
    return [_values(found, slice(first.at, first.end), supply, name, before=tag), *edits]


def _values(found: Parsed, place: slice, supply: Supply, name: str, *, before: bytes = b"") -> Edit:
    def put(file: NewFile) -> None:
        if before:
            file.put(before)
        supply.wrote(name, file.put(supply.take(name)))

    nbytes = len(before) + supply.header[name].nbytes
    return Edit(found.frames, place.start, place.stop, nbytes, put)


def _renamed(source: OnnxCheckpoint, places: Mapping[Path, Path]) -> list[Edit]:
    """Name the new files of data, and take out digests that hold no more."""
    edits = []
    for found in [*source.contents.tensors.values(), *source.hidden]:
        if found.external is None:
            continue
        new = places[source.locations[found.external.location]].name
        for key, entry, value in found.entries:
            if key == "checksum":
                edits.append(Edit.of(found.frames, entry.at, entry.end, b""))
            elif key == "location" and value is not None and new != found.external.location:
                frames = (*found.frames, entry.frame, value.frame)
                edits.append(Edit.of(frames, value.start, value.end, new.encode()))
    return edits


def _write_data(file: NewFile, old: Path, source: OnnxCheckpoint, supply: Supply) -> None:
    """Copy a file of data, with new values in the place of the old ones."""
    inside = {name: extent for name, extent in source.extents.items() if extent.file == old}
    firsts: dict[tuple[int, int], str] = {}
    at = 0
    placed = sorted(inside.items(), key=lambda item: (item[1].start, item[1].end))
    with supply.ahead([name for name, _ in placed]):
        for name, extent in placed:
            made = supply.made(name)
            first = firsts.setdefault((extent.start, extent.end), name)
            if first == name:
                _copy(file, extent, at)
                supply.wrote(name, file.put(made.data, digest=made.digest))
                at = extent.end
            else:
                _check_tied(made, first, supply, source.path)
    _copy_rest(file, old, at)


def _check_tied(made: Made, first: str, supply: Supply, model: Path) -> None:
    if made.digest != supply.digests[first]:
        raise OutputError(
            f"{model}: {made.name!r} and {first!r} are stored as one, and they now differ; save "
            "the model with values of their own, or write a .safetensors file"
        )
    supply.wrote(made.name, made.digest)


def _copy(file: NewFile, extent: Extent, start: int) -> None:
    _copy_part(file, extent.file, start, extent.start)


def _copy_rest(file: NewFile, old: Path, start: int) -> None:
    _copy_part(file, old, start, old.stat().st_size)


def _copy_part(file: NewFile, old: Path, start: int, end: int) -> None:
    with open_input(old) as opened:
        opened.seek(start)
        while start < end:
            part = bytearray(min(_CHUNK, end - start))
            if not read_into(opened, memoryview(part)):
                raise OutputError(f"{old}: became shorter while it was copied; try again")
            file.put(bytes(part))
            start += len(part)
