"""Arrays of every stored type, full of random bits, for the tests of the formats."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from safetensors import TensorSpec, serialize

from rebasin_hub.formats.raw import bytes_of
from rebasin_hub.tensors import DTYPES

# What the safetensors library calls the types that it writes from Python.
LIBRARY_NAMES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F8_E8M0": "float8_e8m0fnu",
    "F4": "float4_e2m1fn_x2",
}


def random_array(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Return an array whose bits are random: NaN payloads, infinities, -0.0, denormals and all."""
    kind = DTYPES[dtype]
    rng = np.random.default_rng(seed)
    below = {"BOOL": 2}.get(dtype, 2 ** min(kind.bits, 8))
    size = int(np.prod(shape, dtype=np.int64)) * kind.numpy.itemsize
    return rng.integers(0, below, size, np.uint8).view(kind.numpy).reshape(shape)


def same_bits(one: np.ndarray, other: np.ndarray) -> bool:
    return (
        one.dtype == other.dtype
        and one.shape == other.shape
        and np.ascontiguousarray(one).tobytes() == np.ascontiguousarray(other).tobytes()
    )


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6).filter(
    lambda name: name != "__metadata__"
)
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)


@st.composite
def tensors(draw: st.DrawFn, dtypes: tuple[str, ...] = tuple(DTYPES)) -> dict[str, np.ndarray]:
    found = {}
    for name in draw(st.lists(names, unique=True, max_size=6)):
        dtype, shape = draw(st.sampled_from(dtypes)), draw(shapes)
        if DTYPES[dtype].bits < 8:
            shape = (*shape, 4)
        found[name] = random_array(dtype, shape, draw(st.integers(0, 99)))
    return found


def by_library(tensors: dict[str, np.ndarray], metadata: dict[str, str] | None = None) -> bytes:
    """Return the file that the safetensors library itself makes of arrays of any type."""
    kept = []
    specs = {}
    for name, array in tensors.items():
        dtype = next(key for key, value in DTYPES.items() if value.numpy == array.dtype)
        raw = np.frombuffer(bytes(bytes_of(array, dtype)) or b"\0", np.uint8)
        kept.append(raw)
        shape = array.shape
        if dtype == "F4":  # the library is given the packed shape, as torch has it
            shape = (*shape[:-1], shape[-1] // 2)
        length = array.size * DTYPES[dtype].bits // 8
        specs[name] = TensorSpec(
            dtype=LIBRARY_NAMES[dtype], shape=shape, data_ptr=raw.ctypes.data, data_len=length
        )
    return bytes(serialize(specs, metadata=metadata))


def raw_file(path: Path, header: object, data: bytes = b"") -> Path:
    """Write a safetensors file with any header at all."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(dtype: str, shape: list[int], start: int, end: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
