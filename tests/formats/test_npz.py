"""Archives of NumPy arrays: read without pickle, written as NumPy does."""

from __future__ import annotations

import io
import zipfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from format_cases import random_array, same_bits, tensors
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rebasin_hub.errors import FormatError, OutputError, RebasinError
from rebasin_hub.formats import open_checkpoint, save_like
from rebasin_hub.formats.npz import _TYPES as TYPES
from rebasin_hub.formats.supply import Supply
from rebasin_hub.tensors import TensorInfo


def refused(path: Path, *reasons: str) -> None:
    with pytest.raises(FormatError) as caught:
        read_all(path)
    assert str(caught.value).startswith(f"{path}: ")
    for reason in reasons:
        assert reason in str(caught.value)


def read_all(path: Path) -> dict[str, np.ndarray]:
    with open_checkpoint(path) as found:
        return {name: found.read(name) for name in found.header}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("name", ["w.npz", "weights"])
def test_what_numpy_saves_is_read(tmp_path: Path, save, name: str):
    arrays = {f"a/{t}": random_array(t, (3, 4), 1) for t in sorted(TYPES)} | {"s": np.array(2.5)}
    arrays["turned"] = np.asfortranarray(random_array("F32", (5, 7)))
    arrays["big"] = random_array("F32", (2, 3)).byteswap().view(">f4")
    path = tmp_path / name
    with path.open("wb") as file:
        save(file, **arrays)
    found = read_all(path)
    assert list(found) == list(arrays)
    for key, array in arrays.items():
        plain = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("=")))
        assert same_bits(found[key], plain.reshape(array.shape)), key


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays=tensors(tuple(sorted(TYPES))))
def test_copies_are_those_that_numpy_itself_reads(tmp_path: Path, arrays):
    arrays = {name: a for name, a in arrays.items() if "\0" not in name} | {"x": np.ones(2)}
    np.savez(tmp_path / "a.npz", **{f"n{i}": a for i, a in enumerate(arrays.values())})
    with open_checkpoint(tmp_path / "a.npz") as source:
        save_like(source, tmp_path / "b.npz", source.read, force=True)
        save_like(source, tmp_path / "c.npz", source.read, force=True)
    with np.load(tmp_path / "b.npz", allow_pickle=False) as found:
        for number, array in enumerate(arrays.values()):
            assert same_bits(found[f"n{number}"], array)
    assert (tmp_path / "b.npz").read_bytes() == (tmp_path / "c.npz").read_bytes()


def test_objects_are_never_unpickled(tmp_path: Path):
    np.savez(tmp_path / "a.npz", w=np.array([{"code": print}], dtype=object))
    refused(tmp_path / "a.npz", "'w'", "is a pickle, which is never loaded")


def test_types_that_numpy_has_no_name_for(tmp_path: Path):
    np.savez(tmp_path / "a.npz", w=random_array("BF16", (2,)))
    refused(tmp_path / "a.npz", "'w'", "bfloat16")
    np.savez(tmp_path / "a.npz", w=np.array(["text"]))
    refused(tmp_path / "a.npz", "none that weights have")
    np.savez(tmp_path / "b.npz", w=np.ones(2))
    with (
        open_checkpoint(tmp_path / "b.npz") as source,
        pytest.raises(OutputError, match=r"no BF16.*--dtype float32"),
    ):
        save_like(source, tmp_path / "c.npz", source.read, header={"w": TensorInfo("BF16", (2,))})


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as made:
        for name, data in members.items():
            made.writestr(f"{name}.npy", data)
    return path


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_damage_is_named(tmp_path: Path):
    whole = npy(np.ones(3))
    refused(archive(tmp_path / "a.npz", w=whole[:-1]), "another length than its header says")
    refused(archive(tmp_path / "a.npz", w=whole + b"x"), "another length than its header says")
    refused(archive(tmp_path / "a.npz", w=b"nothing"), "is no NumPy array")
    lying = whole.replace(b"(3,)", b"(9,)")
    refused(archive(tmp_path / "a.npz", w=lying), "another length")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as made:
        made.writestr("w.npy", whole)
        with pytest.warns(UserWarning, match="Duplicate"):
            made.writestr("w.npy", whole)
    refused(tmp_path / "b.npz", "is there twice")


SMALL = {}


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), compress=st.booleans())
def test_mutated_archives_raise_nothing_else(tmp_path: Path, data: st.DataObject, compress: bool):
    if compress not in SMALL:
        file = io.BytesIO()
        save = np.savez_compressed if compress else np.savez
        save(file, a=np.arange(6.0).reshape(2, 3), b=np.array(3), c=np.asfortranarray(np.eye(3)))
        SMALL[compress] = file.getvalue()
    content = bytearray(SMALL[compress])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "a.npz").write_bytes(content)
    with suppress(RebasinError):
        read_all(tmp_path / "a.npz")


def test_a_supply_is_asked_for_one_tensor_at_a_time(tmp_path: Path):
    np.savez(tmp_path / "a.npz", a=np.ones(2), b=np.zeros(3))
    asked = []
    with open_checkpoint(tmp_path / "a.npz") as source:

        def produce(name: str) -> np.ndarray:
            asked.append(name)
            return source.read(name)

        saved = save_like(source, tmp_path / "b.npz", produce)
        assert asked == ["a", "b"]
        assert saved.tensors.keys() == {"a", "b"}
        assert Supply(source.header, source.read).take("a") == np.ones(2).tobytes()
