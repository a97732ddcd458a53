"""Trees of arrays as Flax stores them, checked against Flax where it is installed."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from format_cases import random_array, same_bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rebasin_hub.errors import FormatError, OutputError, RebasinError
from rebasin_hub.formats import open_checkpoint, save_like
from rebasin_hub.formats.atomic import new_file
from rebasin_hub.formats.msgpack import checkpoint, write, write_msgpack
from rebasin_hub.formats.supply import Supply
from rebasin_hub.tensors import DTYPES, TensorInfo, dtype_of


def text(value: str) -> bytes:
    return bytes([0xD9, len(value)]) + value.encode()


def array(a: np.ndarray) -> bytes:
    shape = bytes([0x90 | a.ndim]) + b"".join(struct.pack(">BI", 0xCE, n) for n in a.shape)
    inner = b"\x93" + shape + text(a.dtype.name) + struct.pack(">BI", 0xC6, a.nbytes) + a.tobytes()
    return struct.pack(">BIB", 0xC9, len(inner), 1) + inner


def tree(content: dict) -> bytes:
    parts = [struct.pack(">BH", 0xDE, len(content))]
    for key, value in content.items():
        made = value if isinstance(value, bytes) else None
        if made is None:
            made = tree(value) if isinstance(value, dict) else array(value)
        parts += [text(key), made]
    return b"".join(parts)


CONTENT = {
    "step": b"\xcd\x01\x00",
    "params": {
        "Dense_0": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.ones(3)},
        "empty": b"\x80",
    },
    "list": b"\x93\x01\xc0\xa1x",
}


def store(path: Path, content: dict | bytes = CONTENT) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else tree(content))
    return path


def read_all(path: Path) -> dict[str, np.ndarray]:
    with open_checkpoint(path) as found:
        return {name: found.read(name) for name in found.header}


def written(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    header = {name: TensorInfo(dtype_of(a), a.shape) for name, a in arrays.items()}
    with new_file(path, force=True) as file:
        write_msgpack(file, header, Supply(header, arrays.__getitem__))
    return path


def test_names_are_the_keys_joined_and_the_rest_is_kept(tmp_path: Path):
    path = store(tmp_path / "m.msgpack")
    with open_checkpoint(path) as found:
        assert (found.format, list(found.header)) == (
            "msgpack", ["params/Dense_0/kernel", "params/Dense_0/bias"],
        )  # fmt: skip
        assert same_bits(
            found.read("params/Dense_0/kernel"), CONTENT["params"]["Dense_0"]["kernel"]
        )
        assert found.notes == ("kept beside the weights, unchanged: step, params/empty, list",)
        save_like(found, tmp_path / "copy.msgpack", lambda n: found.read(n) + 1)
        again = save_like(found, tmp_path / "again.msgpack", found.read)
        with open_checkpoint(again.path) as other:
            assert other.order == found.order == [
                "step", "params/Dense_0/kernel", "params/Dense_0/bias", "params/empty", "list",
            ]  # fmt: skip
        out = save_like(found, tmp_path / "w.safetensors", found.read)
        assert out.notes == ("left behind: step, params/empty, list",)
    with open_checkpoint(tmp_path / "copy.msgpack") as copy:
        assert np.array_equal(copy.read("params/Dense_0/bias"), np.full(3, 2.0))
        assert {n: copy.kept(n) for n in copy.beside} == {
            "step": b"\xcd\x01\x00", "params/empty": b"\x80", "list": b"\x93\x01\xc0\xa1x",
        }  # fmt: skip


def test_every_type_and_size_survives(tmp_path: Path):
    whole = {n: k for n, k in DTYPES.items() if k.bits >= 8}
    arrays = {n: random_array(n, (2, 3), 5) for n in whole}
    arrays |= {f"size{n}": random_array("U8", (n,), n) for n in (0, 1, 2, 200, 300, 70_000)}
    arrays["deep/" * 20 + "x"] = np.array(1.5)
    found = read_all(written(tmp_path / "m.msgpack", arrays))
    assert found.keys() == arrays.keys()
    assert all(same_bits(found[n], a) for n, a in arrays.items())


def test_large_arrays_are_split_and_joined(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(write, "_CHUNK", 16)
    arrays = {"a": random_array("F32", (3, 5)), "b": np.ones(4, np.float32), "c": np.ones(0)}
    path = written(tmp_path / "m.msgpack", arrays)
    assert path.read_bytes().count(checkpoint.CHUNKED.encode()) == 1
    found = read_all(path)
    assert all(same_bits(found[n], a) for n, a in arrays.items())


def test_flax_and_the_program_write_the_same_bytes(tmp_path: Path, monkeypatch):
    serialization = pytest.importorskip("flax.serialization")
    arrays = {
        "params": {"b": random_array("F16", (300, 7)), "k": {"w": np.arange(3)}},
        "z": np.ones(()),
    }
    flat = {"params/b": arrays["params"]["b"], "params/k/w": np.arange(3), "z": np.ones(())}
    theirs = serialization.msgpack_serialize(arrays)
    path = written(tmp_path / "m.msgpack", flat)
    assert path.read_bytes() == theirs
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", 64)
    monkeypatch.setattr(write, "_CHUNK", 64)
    theirs = serialization.msgpack_serialize(arrays)
    assert written(path, flat).read_bytes() == theirs
    assert all(same_bits(read_all(path)[n], a) for n, a in flat.items())


def test_msgpack_reads_what_is_written(tmp_path: Path):
    msgpack = pytest.importorskip("msgpack")
    path = written(
        tmp_path / "m.msgpack", {"a/b": np.arange(3, dtype=np.int16), "c": np.ones(70_000)}
    )

    def made(code, data):
        shape, name, raw = msgpack.unpackb(data)
        return np.frombuffer(raw, name).reshape(shape)

    found = msgpack.unpackb(path.read_bytes(), ext_hook=made)
    assert np.array_equal(found["a"]["b"], np.arange(3))
    assert np.array_equal(found["c"], np.ones(70_000))


def test_names_that_no_tree_has(tmp_path: Path):
    for names in (["a", "a/b"], ["a/b", "a"]):
        with pytest.raises(OutputError, match="'a/b' would lie inside another tensor"):
            written(tmp_path / "m.msgpack", {n: np.ones(1) for n in names})
    with pytest.raises(OutputError, match="Flax has no F4"):
        write.check_msgpack({"x": TensorInfo("F4", (2,))}, "m.msgpack")
    assert not list(tmp_path.iterdir())


ONE = np.ones(3, np.float32)
DAMAGED = {
    "is there twice or has a '/'": tree({"a/b": ONE}),
    "beyond the end": tree({"a": ONE})[:-1],
    "something follows": tree({"a": ONE}) + b"\xc0",
    "holds no arrays": tree({"a": b"\xc0"}),
    "holds no dict": b"\x93\x01\x02\x03",
    "'float99'": tree({"a": ONE}).replace(b"float32", b"float99"),
    "which takes 16 bytes, found 12": tree({"a": ONE}).replace(b"\xce\0\0\0\3", b"\xce\0\0\0\4"),
    "larger than any memory": tree({"a": ONE}).replace(b"\xce\0\0\0\3", b"\xcf" + b"\x7f" * 8)[:99],
    "not an array in chunks": tree({"a": {checkpoint.CHUNKED: b"\xc3", "x": ONE}}),
    "no MessagePack value begins with 0xc1": tree({"a": b"\xc1"}),
    "nested too deeply": b"\x81\xa1a" * 300 + b"\xc0",
}


@pytest.mark.parametrize("reason", DAMAGED)
def test_damage_is_named(tmp_path: Path, reason: str):
    path = store(tmp_path / "m.msgpack", DAMAGED[reason])
    with pytest.raises(FormatError) as caught:
        read_all(path)
    if reason != "larger than any memory":  # its length is short of it, too
        assert reason in str(caught.value)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_trees_raise_nothing_else(tmp_path: Path, data: st.DataObject):
    content = bytearray(tree(CONTENT))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = store(tmp_path / "m.msgpack", bytes(content))
    try:
        with open_checkpoint(path) as found:
            for name in found.header:
                found.read(name)
            save_like(found, tmp_path / "out.msgpack", found.read, force=True)
    except RebasinError:
        pass
