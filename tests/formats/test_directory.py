from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from format_cases import same_bits
from safetensors.numpy import load_file, save_file

from rebasin_hub.errors import FormatError
from rebasin_hub.formats import open_checkpoint, save_like
from rebasin_hub.tensors import DTYPES, TensorInfo

INDEX = "model.safetensors.index.json"
FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def change_index(directory: Path, change) -> None:
    path = directory / INDEX
    index = json.loads(path.read_text())
    change(index)
    path.write_text(json.dumps(index))


def refused(path: Path, *reasons: str) -> None:
    with pytest.raises(FormatError) as caught:
        open_checkpoint(path)
    for reason in reasons:
        assert reason in str(caught.value)


def test_shards_read_as_one(sharded: Path, weights):
    with open_checkpoint(sharded) as found:
        assert (found.path, found.format) == (sharded, "directory")
        assert found.files == (sharded / FIRST, sharded / SECOND)
        assert found.header.keys() == weights.keys()
        assert found.metadata == {"format": "pt"}
        assert found.config == {"model_type": "mlp", "hidden_size": 4}
        for name, array in weights.items():
            assert same_bits(found.read(name), array)
        assert found.notes == ("neither read nor copied: onnx/model.onnx, pytorch_model.bin",)


def test_a_directory_with_one_file(single: Path, weights):
    with open_checkpoint(single.parent) as found:
        assert found.format == "directory"
        assert found.header.keys() == weights.keys()
    single.rename(single.with_name("adapter.safetensors"))
    with open_checkpoint(single.parent) as found:
        assert found.files == (single.with_name("adapter.safetensors"),)


def test_a_directory_of_torch_files(sharded: Path, weights, tmp_path: Path):
    torch = pytest.importorskip("torch")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
    torch.save({"state_dict": tensors}, whole / "pytorch_model.bin")
    homes = {name: f"pytorch_model-{i}.bin" for i, name in enumerate(tensors)}
    for name, file in homes.items():
        torch.save({name: tensors[name]}, parts / file)
    (parts / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": homes}))
    torch.save({"state": 1}, whole / "optimizer.pt")
    for directory in (whole, parts):
        with open_checkpoint(directory) as found:
            assert found.header.keys() == weights.keys()
            saved = save_like(found, tmp_path / f"out-{directory.name}", found.read)
        with open_checkpoint(saved.path) as again:
            assert all(same_bits(again.read(name), array) for name, array in weights.items())
    assert {file.name for file in saved.files} == {
        *homes.values(),
        "pytorch_model.bin.index.json",
    }


@pytest.mark.parametrize(
    "name",
    [
        *("../x.safetensors", "/etc/x.safetensors", "..\\x.safetensors", "sub/x.safetensors"),
        *("a\0.safetensors", "C:x.safetensors", "x.bin", "", "..", 3, None, ["x"], "\ud800"),
        *("config.json", "\x1b[2J.safetensors"),
    ],
)
def test_shards_outside_the_directory_are_an_attack(sharded: Path, name: object):
    save_file({"x": np.zeros(1)}, sharded.parent / "x.safetensors")
    change_index(sharded, lambda index: index["weight_map"].update({"fc1.bias": name}))
    refused(sharded, f"{sharded / INDEX}: tensor 'fc1.bias': its shard", "do not trust")


def test_a_missing_shard_is_named(sharded: Path):
    (sharded / SECOND).unlink()
    refused(sharded, f"{sharded / SECOND}: this shard is missing", "promises 2 tensors", "again")


def test_a_tensor_that_the_index_promises_in_vain(sharded: Path):
    change_index(sharded, lambda index: index["weight_map"].update({"x": FIRST}))
    refused(sharded, f"{sharded / FIRST}: lacks tensor 'x'", "not there")


def test_a_tensor_in_another_shard_than_promised(sharded: Path):
    change_index(sharded, lambda index: index["weight_map"].update({"fc1.bias": SECOND}))
    refused(sharded, f"{sharded / SECOND}: lacks tensor 'fc1.bias'", f"found in {FIRST}")


def test_a_tensor_that_the_index_does_not_list(sharded: Path):
    change_index(sharded, lambda index: index["weight_map"].pop("fc1.bias"))
    refused(sharded, f"{sharded / FIRST}: holds fc1.bias, which {INDEX} does not list")


def test_a_tensor_in_two_shards(sharded: Path):
    tensors = load_file(sharded / SECOND) | {"fc1.bias": np.zeros(1)}
    save_file(tensors, sharded / SECOND)
    refused(sharded, f"{sharded / SECOND}: tensor 'fc1.bias' is in {FIRST} as well")


@pytest.mark.parametrize("text", ["{}", '{"weight_map": []}', "[]", "{", '{"weight_map": 3}'])
def test_damaged_indexes(sharded: Path, text: str):
    (sharded / INDEX).write_text(text)
    refused(sharded, f"{sharded / INDEX}: ")


def test_a_damaged_shard_is_named_and_the_others_are_closed(sharded: Path):
    os.truncate(sharded / SECOND, 40)
    refused(sharded, f"{sharded / SECOND}: is cut off")


def test_a_wrong_total_size_is_a_note(sharded: Path):
    change_index(sharded, lambda index: index["metadata"].update(total_size=7))
    with open_checkpoint(sharded) as found:
        assert any("says 7 bytes in all" in note for note in found.notes)


def test_several_candidates_without_an_index(sharded: Path):
    (sharded / INDEX).unlink()
    (sharded / "pytorch_model.bin").unlink()
    refused(sharded, str(sharded), FIRST, SECOND, "give one of these files")


def test_a_directory_without_weights(tmp_path: Path):
    (tmp_path / "optimizer.pt").touch()
    refused(tmp_path, f"{tmp_path}: holds no weights", "model.safetensors")


def test_an_index_given_as_the_file_points_to_its_directory(sharded: Path):
    refused(sharded / INDEX, "is JSON text; give the file or directory")


def test_an_unchanged_copy_is_byte_identical(sharded: Path, tmp_path: Path):
    out = tmp_path / "out"
    calls = []
    with open_checkpoint(sharded) as source:
        saved = save_like(source, out, source.read, progress=lambda *both: calls.append(both))
    written = {path.relative_to(out) for path in saved.files}
    assert written == {
        *map(Path, (FIRST, SECOND, INDEX, "config.json", "tokenizer.json", "README.md")),
        Path("1_Pooling/config.json"),
    }
    for path in written:
        assert (out / path).read_bytes() == (sharded / path).read_bytes()
    assert saved.nbytes == sum(path.stat().st_size for path in saved.files)
    total = calls[-1][1]
    assert calls[-1] == (total, total)
    assert sorted(calls) == calls


def test_new_types_change_the_total_size_and_nothing_else_of_the_index(
    sharded: Path, tmp_path: Path
):
    with open_checkpoint(sharded) as source:
        header = {
            name: type(info)("F16", info.shape) if info.dtype != "I64" else info
            for name, info in source.header.items()
        }

        def halved(name: str) -> np.ndarray:
            array = source.read(name)
            return array.astype(np.float16) if array.dtype != np.int64 else array

        save_like(source, tmp_path / "out", halved, header=header, metadata={"a": "b"})
        old = json.loads((sharded / INDEX).read_text())
    new = json.loads((tmp_path / "out" / INDEX).read_text())
    assert new["metadata"] == {"total_size": 2 * (12 + 4 + 8) + 8, "total_parameters": 25}
    assert new["weight_map"] == old["weight_map"]
    with open_checkpoint(tmp_path / "out") as found:
        assert found.metadata == {"a": "b"}
        assert found.notes == ()


def test_links_to_side_files_are_copied_as_files(sharded: Path, tmp_path: Path):
    (tmp_path / "blob").write_text("x")
    (sharded / "merges.txt").symlink_to(tmp_path / "blob")
    (sharded / "gone.txt").symlink_to(tmp_path / "nothing")
    (sharded / "loop").symlink_to(sharded)
    with open_checkpoint(sharded) as source:
        assert "gone.txt, loop, onnx" in source.notes[0]
        save_like(source, tmp_path / "out", source.read)
    copied = tmp_path / "out" / "merges.txt"
    assert copied.read_text() == "x"
    assert not copied.is_symlink()
    assert not {"loop", "gone.txt"} & {left.name for left in (tmp_path / "out").iterdir()}


def as_type(source, dtype: str):
    """Return header and producer of a checkpoint whose floating tensors have another type."""
    header = {
        name: TensorInfo(dtype, info.shape) if DTYPES[info.dtype].floating else info
        for name, info in source.header.items()
    }
    return header, lambda name: source.read(name).astype(DTYPES[header[name].dtype].numpy)


DTYPE_KEYS = ("dtype", "torch_dtype")
CONFIG = """{
  "z": {"dtype": "float32", "torch_dtype": "float32"},\r
\t"dtype" : "float32" ,
  "eps": 1E-5, "list": ["dtype", {}, [1]], "text": "\\"dtype\\": \\u00e9 ä",
  "torch_dtype": "float32",
  "a": null}  """


@pytest.mark.parametrize(
    ("dtype", "called"),
    [("F16", "float16"), ("BF16", "bfloat16"), ("F64", "float64"), ("F32", "float32")],
)
def test_config_names_the_new_type_and_is_the_same_otherwise(
    sharded: Path, tmp_path: Path, dtype: str, called: str
):
    (sharded / "config.json").write_bytes(CONFIG.encode())
    (sharded / "1_Pooling" / "config.json").write_bytes(CONFIG.encode())
    with open_checkpoint(sharded) as source:  # of several types
        header, produce = as_type(source, dtype)
        saved = save_like(source, tmp_path / "out", produce, header=header)
    expected = CONFIG.replace('"dtype" : "float32"', f'"dtype" : "{called}"')
    expected = expected.replace('  "torch_dtype": "float32"', f'  "torch_dtype": "{called}"')
    assert (tmp_path / "out" / "config.json").read_bytes() == expected.encode()
    assert (tmp_path / "out" / "1_Pooling" / "config.json").read_bytes() == CONFIG.encode()
    changed = [f"config.json: {key} is now {called}, was float32" for key in DTYPE_KEYS]
    assert saved.notes == (() if called == "float32" else tuple(changed))


@pytest.mark.parametrize(
    "text",
    [
        '{"torch_dtype": "float16"}\n',
        '\ufeff{"torch_dtype":"float16"}',
        '{"torch_dtype": "float32", "dtype": null, "a": 1}',
        "{}",
        " { } ",
    ],
)
def test_config_keeps_its_form(sharded: Path, tmp_path: Path, text: str):
    (sharded / "config.json").write_bytes(text.encode())
    with open_checkpoint(sharded) as source:
        header, produce = as_type(source, "F16")
        save_like(source, tmp_path / "out", produce, header=header)
    written = (tmp_path / "out" / "config.json").read_bytes()
    assert written == text.replace("float32", "float16").encode()


def test_config_stays_while_the_types_do_or_are_several(sharded: Path, tmp_path: Path):
    text = '{"torch_dtype": "float16"}'
    (sharded / "config.json").write_text(text)
    with open_checkpoint(sharded) as source:
        header, produce = as_type(source, "F32")
        mixed = {**header, "fc1.bias": source.header["fc1.bias"]}
        save_like(
            source,
            tmp_path / "mixed",
            lambda n: source.read(n) if n == "fc1.bias" else produce(n),
            header=mixed,
        )
        save_like(source, tmp_path / "one", produce, header=header)
    assert (tmp_path / "mixed" / "config.json").read_text() == text
    (tmp_path / "one" / "config.json").write_text(text)  # as wrong as its author left it
    with open_checkpoint(tmp_path / "one") as source:
        save_like(source, tmp_path / "same", source.read)
    assert (tmp_path / "same" / "config.json").read_text() == text


def test_a_config_damaged_since_it_was_read_is_named(sharded: Path, tmp_path: Path):
    with open_checkpoint(sharded) as source:
        header, produce = as_type(source, "F16")
        (sharded / "config.json").write_text('{"dtype": "float32"')
        with pytest.raises(FormatError, match=r"config.json: is not valid JSON"):
            save_like(source, tmp_path / "out", produce, header=header)
    assert not (tmp_path / "out").exists()


def test_parts_of_a_directory_have_no_config_of_their_own(sharded: Path):
    change_index(
        sharded,
        lambda index: index.update(
            weight_map={n: f.replace("model", "part") for n, f in index["weight_map"].items()}
        ),
    )
    for shard in (FIRST, SECOND):
        (sharded / shard).rename(sharded / shard.replace("model", "part"))
    with open_checkpoint(sharded) as found:
        assert not any("config.json" in note for note in found.notes)


def test_tensor_parallel_parts_are_told_from_files_to_choose_from(tmp_path: Path):
    for number in range(2):
        (tmp_path / f"consolidated.{number:02}.pth").write_bytes(b"weights")
    refused(tmp_path, "one model in 2 parts", "consolidated.00.pth, consolidated.01.pth")
    (tmp_path / "other.pth").write_bytes(b"weights")
    refused(tmp_path, "no index that joins them; give one of these files")
