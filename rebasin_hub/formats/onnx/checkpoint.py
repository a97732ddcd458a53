"""ONNX models as checkpoints: values by positional reads, wherever they are stored.

Neither onnx nor protobuf is needed: both hold a whole model in memory and write it anew, while
here the graph stays the same bytes (docs/converting.md).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.config import config_beside
from rebasin_hub.formats.onnx.external import Extent, find_data, find_file
from rebasin_hub.formats.onnx.model import read_model
from rebasin_hub.formats.onnx.tensor import NUMBERS
from rebasin_hub.formats.onnx.values import numbers_to_bytes
from rebasin_hub.formats.onnx.wire import Wire
from rebasin_hub.formats.raw import blank, unpack
from rebasin_hub.formats.sniff import open_input, read_into
from rebasin_hub.tensors import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rebasin_hub.formats.onnx.tensor import Parsed
    from rebasin_hub.formats.raw import Array, Bytes

__all__ = ["OnnxCheckpoint"]

_SHOWN = 3


class OnnxCheckpoint(Checkpoint):
    """One ONNX model, with the files that its weights lie in."""

    format = "onnx"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metadata = {}
        self.wire = Wire(path)
        try:
            self.contents = read_model(self.wire)
            self.extents = _extents(path, self.contents.tensors)
            self.locations = _locations(path, [*self.contents.tensors.values(), *self.hidden])
            self.config, notes = config_beside(path)
        except BaseException:
            self.close()
            raise
        self.header = {
            name: found.info for name, found in self.contents.tensors.items() if found.info
        }
        self.files = (path, *dict.fromkeys(self.locations.values()))
        self.tied = _tied(self.extents)
        self.notes = (*notes, *_notes(self.contents.skipped))

    @property
    def hidden(self) -> list[Parsed]:
        """Tensors that are no weights, or that no array can hold."""
        return self.contents.hidden

    def read(self, name: str) -> Array:  # noqa: D102
        info = self.header[name]
        array, memory = blank(info)
        if DTYPES[info.dtype].bits >= 8:  # noqa: PLR2004
            self._fill(memory, name)
        else:
            packed = np.empty(info.nbytes, np.uint8)
            self._fill(packed, name)
            unpack(packed, DTYPES[info.dtype].bits, memory)
        return array

    def _fill(self, memory: Bytes, name: str) -> None:
        """Fill memory with a tensor's bytes as they would lie in a file."""
        if (extent := self.extents.get(name)) is not None:
            _fill_from(extent, memory, self.path, name)
            return
        found, info = self.contents.tensors[name], self.header[name]
        if found.number in NUMBERS:
            data = np.empty(sum(chunk.end - chunk.start for chunk in found.chunks), np.uint8)
            self._gather(data, found)
            memory[:] = numbers_to_bytes(data, info, self.path, name)
        else:
            self._gather(memory, found)

    def _gather(self, memory: Bytes, found: Parsed) -> None:
        done = 0
        for chunk in found.chunks:
            size = chunk.end - chunk.start
            self.wire.fill(memory[done : done + size], chunk.start)
            done += size

    def close(self) -> None:  # noqa: D102
        self.wire.close()


def _fill_from(extent: Extent, memory: Bytes, model: Path, name: str) -> None:
    with open_input(extent.file) as file:
        file.seek(extent.start)
        if not read_into(file, memory.data):
            raise FormatError(
                f"{model}: tensor {name!r}: {extent.location} ends within it; it was changed while "
                "open"
            )


def _extents(model: Path, tensors: Mapping[str, Parsed]) -> dict[str, Extent]:
    """Return where each weight lies that is stored in a file of its own."""
    found = {
        name: find_data(model, name, parsed.external, parsed.info.nbytes)
        for name, parsed in tensors.items()
        if parsed.external is not None and parsed.info is not None
    }
    _check_apart(model, found)
    return found


def _check_apart(model: Path, extents: Mapping[str, Extent]) -> None:
    """Refuse weights that share a part of their bytes; to share all of them is to be tied."""
    filled = [(name, extent) for name, extent in extents.items() if extent.start < extent.end]
    filled.sort(key=lambda item: (str(item[1].file), item[1].start, item[1].end))
    for (name, one), (other, two) in pairwise(filled):
        same = (one.start, one.end) == (two.start, two.end)
        if one.file == two.file and two.start < one.end and not same:
            raise FormatError(
                f"{model}: tensors {name!r} and {other!r} overlap in {one.location!r}; save the "
                "model again"
            )


def _locations(model: Path, tensors: list[Parsed]) -> dict[str, Path]:
    """Return the file of each location that a model names, for tensors of every kind."""
    places: dict[str, Path] = {}
    for found in tensors:
        if found.external is not None and found.external.location not in places:
            places[found.external.location] = find_file(model, found.name, found.external.location)
    return places


def _tied(extents: Mapping[str, Extent]) -> dict[str, str]:
    firsts: dict[tuple[object, ...], str] = {}
    tied = {}
    for name, extent in extents.items():
        if extent.start == extent.end:
            continue
        first = firsts.setdefault((extent.file, extent.start, extent.end), name)
        if first != name:
            tied[name] = first
    return tied


def _notes(skipped: Mapping[str, str]) -> tuple[str, ...]:
    if not skipped:
        return ()
    names = [f"{name} ({kind})" for name, kind in list(skipped.items())[:_SHOWN]]
    more = f" and {len(skipped) - _SHOWN} more" if len(skipped) > _SHOWN else ""
    return (f"not among the weights, and kept as they are: {', '.join(names)}{more}",)
