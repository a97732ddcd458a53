"""GGUF files: plain numbers are read, quantized ones refused, damage named."""

from __future__ import annotations

import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from format_cases import random_array, same_bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rebasin_hub.errors import FormatError, OutputError, RebasinError
from rebasin_hub.formats import open_checkpoint, save_like

KINDS = {"F32": 0, "F16": 1, "I8": 24, "I32": 26, "F64": 28, "BF16": 30}


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(arrays: dict[str, tuple[np.ndarray, int]], alignment: int = 64, version: int = 3) -> bytes:
    entries = [
        text("general.alignment") + struct.pack("<II", 4, alignment),
        text("general.name") + struct.pack("<I", 8) + text("tiny"),
        text("tokens") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("scores") + struct.pack("<IIQ3f", 9, 6, 3, 1, 2, 3),
    ]
    infos, data = [], b""
    for name, (array, kind) in arrays.items():
        axes = struct.pack(f"<I{array.ndim}Q", array.ndim, *array.shape[::-1])
        infos.append(text(name) + axes + struct.pack("<IQ", kind, len(data)))
        data += array.tobytes()
        data += bytes(-len(data) % alignment)
    head = b"GGUF" + struct.pack("<IQQ", version, len(arrays), len(entries))
    head += b"".join(entries) + b"".join(infos)
    return head + bytes(-len(head) % alignment) + data


ARRAYS = {f"t.{d}": (random_array(d, (3, 4), k), k) for d, k in KINDS.items()}


def read_all(path: Path) -> dict[str, np.ndarray]:
    with open_checkpoint(path) as found:
        return {name: found.read(name) for name in found.header}


@pytest.mark.parametrize("name", ["m.gguf", "weights"])
def test_plain_numbers_are_read_as_they_are(tmp_path: Path, name: str):
    path = tmp_path / name
    path.write_bytes(gguf(ARRAYS))
    found = read_all(path)
    assert list(found) == list(ARRAYS)
    assert all(same_bits(found[n], array) for n, (array, _) in ARRAYS.items())
    with open_checkpoint(path) as source:
        assert source.format == "gguf"
        save_like(source, tmp_path / "o.safetensors", source.read)
        with pytest.raises(OutputError, match=r"from a GGUF file is written as .safetensors"):
            save_like(source, tmp_path / "o.gguf", source.read)


def test_what_the_gguf_package_writes_is_read(tmp_path: Path):
    package = pytest.importorskip("gguf")
    writer = package.GGUFWriter(tmp_path / "m.gguf", "llama")
    writer.add_uint32("n", 3)
    writer.add_array("words", ["a", "b"])
    arrays = {"w": random_array("F32", (5, 3)), "h": random_array("F16", (2, 3, 4))}
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = read_all(tmp_path / "m.gguf")
    assert all(same_bits(found[n], a) for n, a in arrays.items())


def test_quantized_tensors_and_damage_are_refused(tmp_path: Path):
    path = tmp_path / "m.gguf"
    whole = gguf(ARRAYS)
    cases = {
        "'q' is quantized (ggml type 2)": gguf({"q": (np.zeros(18, np.uint8), 2)}),
        "its version 1": gguf(ARRAYS, version=1),
        "reaches beyond the end": whole[:-200],
        "its header ends too soon": whole[:100],
        "its alignment is 0": whole.replace(struct.pack("<II", 4, 64), struct.pack("<II", 4, 0)),
    }
    for reason, content in cases.items():
        path.write_bytes(content)
        with pytest.raises(FormatError) as caught:
            read_all(path)
        assert reason in str(caught.value)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_files_raise_nothing_else(tmp_path: Path, data: st.DataObject):
    content = bytearray(gguf(ARRAYS))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "m.gguf").write_bytes(content)
    with suppress(RebasinError):
        read_all(tmp_path / "m.gguf")
