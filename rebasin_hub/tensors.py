"""What is known of a tensor before its values are read: element type and shape.

Element types carry the names that safetensors gives them. NumPy has no bfloat16 and no type
below one byte; `ml_dtypes` brings them, so that every stored type survives bit by bit as an
ordinary array.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np

__all__ = ["DTYPES", "Dtype", "Header", "TensorInfo", "dtype_of"]


@dataclass(frozen=True)
class Dtype:
    """One stored element type.

    `bits` is its width in a file; `numpy` holds one element in whole bytes (a 4-bit float takes
    one byte in memory); `floating` says whether its values are numbers that can be averaged.
    """

    name: str
    bits: int
    numpy: np.dtype[np.generic]
    floating: bool


def _table() -> dict[str, Dtype]:
    rows: list[tuple[str, int, object, bool]] = [
        ("BOOL", 8, np.bool_, False),
        ("U8", 8, np.uint8, False),
        ("I8", 8, np.int8, False),
        ("U16", 16, np.uint16, False),
        ("I16", 16, np.int16, False),
        ("U32", 32, np.uint32, False),
        ("I32", 32, np.int32, False),
        ("U64", 64, np.uint64, False),
        ("I64", 64, np.int64, False),
        ("F16", 16, np.float16, True),
        ("BF16", 16, ml_dtypes.bfloat16, True),
        ("F32", 32, np.float32, True),
        ("F64", 64, np.float64, True),
        ("C64", 64, np.complex64, True),
        ("F8_E4M3", 8, ml_dtypes.float8_e4m3fn, True),
        ("F8_E5M2", 8, ml_dtypes.float8_e5m2, True),
        ("F8_E4M3FNUZ", 8, ml_dtypes.float8_e4m3fnuz, True),
        ("F8_E5M2FNUZ", 8, ml_dtypes.float8_e5m2fnuz, True),
        ("F8_E8M0", 8, ml_dtypes.float8_e8m0fnu, True),
        ("F6_E2M3", 6, ml_dtypes.float6_e2m3fn, True),
        ("F6_E3M2", 6, ml_dtypes.float6_e3m2fn, True),
        ("F4", 4, ml_dtypes.float4_e2m1fn, True),
    ]
    return {
        name: Dtype(name, bits, np.dtype(kind), floating)  # type: ignore[call-overload]
        for name, bits, kind, floating in rows
    }


DTYPES: Mapping[str, Dtype] = _table()
_BY_NUMPY = {dtype.numpy: dtype for dtype in DTYPES.values()}


@dataclass(frozen=True)
class TensorInfo:
    """Element type (a key of `DTYPES`) and shape of one tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes in a file."""
        return self.size * DTYPES[self.dtype].bits // 8


Header = Mapping[str, TensorInfo]
"""Name to `TensorInfo`, in stored order: all that binding a spec needs of a checkpoint."""


def dtype_of(array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> str:
    """Return the stored type's name of an array.

    Raises:
        KeyError: the array's type has no stored form (strings, objects, float128).

    """
    return _BY_NUMPY[array.dtype].name
