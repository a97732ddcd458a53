"""Between arrays and the bytes that stand for them in a file.

Elements of whole bytes are stored as they lie in memory, little-endian, in C order. Elements of
4 and 6 bits are packed without gaps, the first element in the lowest bits: `float4_e2m1fn_x2` of
PyTorch defines this for 4 bits; for 6 bits safetensors fixes only the size, and the same rule is
carried on.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np

from rebasin_hub.buffers import empty
from rebasin_hub.tensors import DTYPES, TensorInfo

__all__ = ["Array", "Bytes", "blank", "bytes_of", "pack", "unpack"]

Array: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[Any]]
Bytes: TypeAlias = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


def blank(info: TensorInfo) -> tuple[Array, Bytes]:
    """Return an unfilled array of a tensor's type and shape, and its memory as flat bytes."""
    array = empty(info.shape, DTYPES[info.dtype].numpy)
    return array, array.reshape(-1).view(np.uint8)


def bytes_of(array: Array, dtype: str) -> memoryview:
    """Return the flat bytes that a file holds for an array of the stored type `dtype`."""
    flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    bits = DTYPES[dtype].bits
    return (flat if bits >= 8 else pack(flat, bits)).data  # noqa: PLR2004


def unpack(packed: Bytes, bits: int, out: Bytes) -> None:
    """Spread packed elements of 4 or 6 bits over `out`, one element a byte.

    Shapes: packed (n·bits/8,), out (n,), where n·bits is a whole number of bytes.
    `pack(out, bits)` gives `packed` back.
    """
    if bits == 4:  # noqa: PLR2004
        out[0::2] = packed & 0x0F
        out[1::2] = packed >> 4
        return
    first, second, third = packed.reshape(-1, 3).T
    out[0::4] = first & 0x3F
    out[1::4] = first >> 6 | (second & 0x0F) << 2
    out[2::4] = second >> 4 | (third & 0x03) << 4
    out[3::4] = third >> 2


def pack(elements: Bytes, bits: int) -> Bytes:
    """Return elements of 4 or 6 bits, one a byte, without the gaps between them.

    Shapes: elements (n,) to (n·bits/8,), where n·bits is a whole number of bytes.
    """
    packed: Bytes = np.empty(math.prod(elements.shape) * bits // 8, np.uint8)
    if bits == 4:  # noqa: PLR2004
        np.bitwise_or(elements[0::2] & 0x0F, elements[1::2] << 4, out=packed)
        return packed
    first, second, third, fourth = (elements & 0x3F).reshape(-1, 4).T
    packed[0::3] = first | second << 6
    packed[1::3] = second >> 2 | third << 4
    packed[2::3] = third >> 4 | fourth << 2
    return packed
