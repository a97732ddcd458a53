"""Values that ONNX models hold as numbers of protobuf, in place of raw bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.sniff import AGAIN
from rebasin_hub.tensors import DTYPES

if TYPE_CHECKING:
    from pathlib import Path

    from rebasin_hub.formats.raw import Bytes
    from rebasin_hub.tensors import TensorInfo

__all__ = ["numbers_to_bytes"]

_LONGEST = 10


def numbers_to_bytes(data: Bytes, info: TensorInfo, path: Path, name: str) -> Bytes:
    """Return the bytes of a tensor as they would lie in a file, of its varints.

    Shapes: data (any,), the varints of all elements without gaps, to (info.nbytes,). Integers
    stand for themselves; floats of 16 and 8 bits for their bits; two floats of 4 bits for a byte.

    Raises:
        FormatError: there are more or fewer numbers than elements, or one is too large.

    """
    values = _varints(data, path, name)
    bits = DTYPES[info.dtype].bits
    stored = info.dtype if DTYPES[info.dtype].numpy.kind in "iub" else f"U{max(bits, 8)}"
    kind = DTYPES[stored].numpy
    if len(values) != info.nbytes // kind.itemsize:
        raise FormatError(
            f"{path}: tensor {name!r}: {info.size:,} elements, found {len(values):,}; {AGAIN}"
        )
    wide = values if kind.kind == "u" else values.view(np.int64)
    narrow = wide.astype(kind)
    if not (narrow == wide).all():
        raise FormatError(f"{path}: tensor {name!r}: holds numbers too large for its type; {AGAIN}")
    return narrow.view(np.uint8)


def _varints(data: Bytes, path: Path, name: str) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    ends = np.flatnonzero(data < 0x80)  # noqa: PLR2004 - the last byte of each lacks that bit
    lengths = np.diff(ends, prepend=-1)
    if len(data) and (not len(ends) or ends[-1] != len(data) - 1 or lengths.max() > _LONGEST):
        raise FormatError(f"{path}: tensor {name!r}: a number does not end; {AGAIN}")
    starts = ends - lengths + 1
    values = np.zeros(len(ends), np.uint64)
    for place in range(int(lengths.max(initial=0))):
        there = np.flatnonzero(lengths > place)
        part = data[starts[there] + place].astype(np.uint64) & np.uint64(0x7F)
        values[there] |= part << np.uint64(7 * place)
    return values
