"""A copy of a protobuf file in which some places hold other bytes.

Whatever is not replaced is copied byte for byte. Where a replacement has another length, the
lengths of the messages around it are written anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rebasin_hub.formats.onnx.wire import Frame, Wire, varint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rebasin_hub.formats.atomic import NewFile

__all__ = ["Edit", "edited_size", "write_edited"]

_CHUNK = 8 << 20


@dataclass(frozen=True)
class Edit:
    """From `start` to `end` stand `nbytes` other bytes; `put` writes them.

    `frames` are the messages around the place, the outermost first.
    """

    frames: tuple[Frame, ...]
    start: int
    end: int
    nbytes: int
    put: Callable[[NewFile], object]

    @classmethod
    def of(cls, frames: tuple[Frame, ...], start: int, end: int, data: bytes) -> Edit:
        """Return the edit that puts given bytes into a place."""
        return cls(frames, start, end, len(data), lambda file: file.put(data) if data else None)


def edited_size(source: Wire, edits: Iterable[Edit]) -> int:
    """Return the size of the copy."""
    return source.size + sum(e.nbytes - (e.end - e.start) for e in _with_lengths(list(edits)))


def write_edited(file: NewFile, source: Wire, edits: Iterable[Edit]) -> None:
    """Write the copy. Edits do not overlap, and are written in the order of their places."""
    at = 0
    for edit in _with_lengths(list(edits)):
        _copy(file, source, at, edit.start)
        edit.put(file)
        at = edit.end
    _copy(file, source, at, source.size)


def _copy(file: NewFile, source: Wire, start: int, end: int) -> None:
    while start < end:
        part = np.empty(min(_CHUNK, end - start), np.uint8)
        source.fill(part, start)
        file.put(part.data)
        start += len(part)


def _with_lengths(edits: Sequence[Edit]) -> list[Edit]:
    """Return the edits, and those of the lengths that change by them, in order of place."""
    grown: dict[Frame, int] = {}
    around: dict[Frame, tuple[Frame, ...]] = {}
    for edit in edits:
        for depth, frame in enumerate(edit.frames):
            around[frame] = edit.frames[:depth]
        if edit.frames:
            growth = edit.nbytes - (edit.end - edit.start)
            grown[edit.frames[-1]] = grown.get(edit.frames[-1], 0) + growth
    lengths = []
    # A message begins behind the ones around it: so these come later here.
    for frame in sorted(around, key=lambda frame: -frame.start):
        growth = grown.get(frame, 0)
        if not growth:
            continue
        data = varint(frame.end - frame.start + growth)
        lengths.append(Edit.of(around[frame], frame.at, frame.start, data))
        if around[frame]:
            outer = around[frame][-1]
            more = growth + len(data) - (frame.start - frame.at)
            grown[outer] = grown.get(outer, 0) + more
    return sorted([*edits, *lengths], key=lambda edit: (edit.start, edit.end))
