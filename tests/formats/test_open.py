from __future__ import annotations

import gzip
import os
import pickle
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from format_cases import entry, random_array, raw_file, same_bits, tensors
from hypothesis import HealthCheck, given, settings
from safetensors import safe_open

from rebasin_hub.errors import FormatError
from rebasin_hub.formats import open_checkpoint, save_like, save_safetensors
from rebasin_hub.tensors import DTYPES


def refused(path: Path, *reasons: str) -> None:
    with pytest.raises(FormatError) as caught:
        open_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    for reason in reasons:
        assert reason in str(caught.value)


def test_a_file_is_described_before_any_value_is_read(single: Path, weights):
    with open_checkpoint(str(single)) as found:
        assert (found.path, found.format, found.files) == (single, "safetensors", (single,))
        with safe_open(single, "np") as theirs:
            assert list(found.header) == list(theirs.offset_keys())
        assert {name: info.shape for name, info in found.header.items()} == {
            name: array.shape for name, array in weights.items()
        }
        assert found.metadata == {"format": "pt"}
        assert (found.config, found.tied, found.notes) == (None, {}, ())
        for name, array in weights.items():
            assert same_bits(found.read(name), array)


def test_every_read_gives_fresh_contiguous_memory(single: Path):
    with open_checkpoint(single) as found:
        first, second = found.read("fc1.weight"), found.read("fc1.weight")
    first[:] = 0
    assert second.any()
    assert second.flags.c_contiguous
    assert second.flags.writeable


def test_unknown_names_are_key_errors(single: Path):
    with open_checkpoint(single) as found, pytest.raises(KeyError):
        found.read("nothing")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(arrays=tensors())
def test_every_bit_of_every_type_survives(arrays: dict[str, np.ndarray], tmp_path: Path):
    path = tmp_path / "x.safetensors"
    save_safetensors(path, arrays, force=True)
    with open_checkpoint(path) as found:
        assert found.header.keys() == arrays.keys()
        for name, array in arrays.items():
            assert same_bits(found.read(name), array)


def test_all_values_of_the_small_types_survive(tmp_path: Path):
    small = {name: kind for name, kind in DTYPES.items() if kind.bits <= 8 and name != "BOOL"}
    arrays = {
        name: np.arange(2**kind.bits, dtype=np.uint8).view(kind.numpy)
        for name, kind in small.items()
    }
    save_safetensors(tmp_path / "x.safetensors", arrays)
    with open_checkpoint(tmp_path / "x.safetensors") as found:
        assert all(same_bits(found.read(name), array) for name, array in arrays.items())


def test_a_file_that_shrinks_while_open_is_an_error_and_no_crash(single: Path):
    with open_checkpoint(single) as found:
        os.truncate(single, single.stat().st_size - 1)
        with pytest.raises(FormatError, match=r"tensor 'fc1.bias': the file ends within it"):
            found.read("fc1.bias")


def test_links_are_followed_and_keep_their_place(single: Path, tmp_path: Path):
    # As in the cache of huggingface_hub: the name and config.json are in the link's folder.
    link = tmp_path / "snapshot" / "model.safetensors"
    link.parent.mkdir()
    link.symlink_to(single)
    (link.parent / "config.json").write_text('{"a": 1}')
    with open_checkpoint(link) as found:
        assert found.path == link
        assert found.config == {"a": 1}


def test_config_belongs_to_the_only_model_of_a_folder(single: Path):
    (single.parent / "config.json").write_text('{"a": 1}')
    (single.parent / "pytorch_model.bin").write_bytes(b"the same model")
    with open_checkpoint(single) as found:
        assert found.config == {"a": 1}
        assert found.notes == ()


NOT_TAKEN = ("config.json lies beside but may belong to another of the folder's models",)
BESIDE = {
    # the file, what else lies in its folder, whether config.json is taken to be the file's
    "what transformers loads": ("model.safetensors", ["gpt2.safetensors", "p.pt"], True),
    "its canonical copy": ("model.canonical.safetensors", ["gpt2.safetensors"], True),
    "another variant": ("model.fp16.safetensors", ["model.safetensors", "p.safetensors"], True),
    "one of its shards": ("model-00001-of-00002.safetensors", ["p.safetensors"], True),
    "a variant's shard": ("model.fp16-00001-of-00002.safetensors", ["p.safetensors"], True),
    "not the main model": ("p.safetensors", ["model.safetensors"], False),
    "only similar": ("model_a.safetensors", ["model_b.safetensors"], False),
    "the only model": ("gpt2.safetensors", ["optimizer.pt", "._gpt2_.safetensors"], True),
    "the only model's copy": ("gpt2.canonical.safetensors", ["gpt2.safetensors"], True),
    "the only model with a copy": ("gpt2.safetensors", ["gpt2.canonical.safetensors"], True),
    "versions are no copies": ("gpt2-1.5b.safetensors", ["gpt2-1.safetensors"], False),
    "a torch model beside": ("gpt2.safetensors", ["best.ckpt"], False),
}


@pytest.mark.parametrize("case", BESIDE)
def test_config_belongs_to_the_main_or_only_model_of_a_folder(case: str, single: Path):
    name, others, taken = BESIDE[case]
    path = single.rename(single.with_name(name))
    for other in others:
        path.with_name(other).touch()
    (path.parent / "config.json").write_text('{"a": 1}')
    with open_checkpoint(path) as found:
        assert (found.config, found.notes) == (({"a": 1}, ()) if taken else (None, NOT_TAKEN))
    (path.parent / "config.json").unlink()
    with open_checkpoint(path) as found:
        assert (found.config, found.notes) == (None, ())


def test_config_is_not_taken_where_the_folder_cannot_be_listed(single: Path, monkeypatch):
    path = single.rename(single.with_name("gpt2.safetensors"))
    (path.parent / "config.json").write_text("{}")

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with open_checkpoint(path) as found:
        assert (found.config, found.notes) == (None, NOT_TAKEN)


@pytest.mark.parametrize("text", ["{", "[1]", "[" * 100_000])
def test_a_damaged_config_is_named(single: Path, text: str):
    (single.parent / "config.json").write_text(text)
    with pytest.raises(FormatError, match=r"config.json: "):
        open_checkpoint(single)


def test_missing_files_suggest_their_neighbours(single: Path):
    refused(single.with_name("modl.safetensors"), "does not exist; did you mean model.safetensors")
    refused(single.with_name("zzz"), "does not exist; check the name")
    refused(single.parent / "no" / "x", "neither does the directory")


def test_paths_that_no_system_can_hold(tmp_path: Path):
    refused(tmp_path / "a\0b", "cannot be opened")
    refused(tmp_path / ("x" * 300), "cannot be opened")


def test_broken_links_name_what_they_point_to(tmp_path: Path):
    link = tmp_path / "model.safetensors"
    link.symlink_to("blobs/gone")
    refused(link, "is a link to blobs/gone, which does not exist")
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    refused(loop, "cannot be opened")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_files_without_permission_say_so_themselves(single: Path):
    single.chmod(0)
    refused(single, "no permission to read it")


def test_files_without_permission_say_so(single: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(self, *args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    refused(single, "no permission to read it; change its mode or owner")


def test_pipes_are_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "is neither a file nor a directory")


def test_empty_files(tmp_path: Path):
    (tmp_path / "x.safetensors").touch()
    refused(tmp_path / "x.safetensors", "is empty", "again")


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 133466304\n"
FOREIGN = {
    "lfs": (LFS, "is a Git LFS pointer", "git lfs pull"),
    "html": (b"\n<!DOCTYPE html><html>404</html>", "is a web page", "download"),
    "pickle": (pickle.dumps({"w": 1}), "is a pickle", "name it .pt"),
    "gguf": (b"GGUF" + bytes(60), "is a GGUF file", "safetensors"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "is an HDF5 file", "safetensors"),
    "gzip": (gzip.compress(bytes(60)), "compressed with gzip", "unpack"),
    "json": (b'{"weight_map": {"a": "b"}}', "is JSON text", "directory"),
    "short": (b"abc", "has 3 bytes, too few", "again"),
    "noise": (b"\x10" + bytes(63), "is not a safetensors file: byte 9 must be '{'", "again"),
    "over the limit": (
        b"\xff\xff\xff\xff\0\0\0\0{}",
        "more than the limit of 100,000,000",
        "again",
    ),
    "cut in the header": (b"\x40" + bytes(7) + b"{}", "cut off within its header", "again"),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_files_that_only_bear_the_name_are_told_apart(case: str, tmp_path: Path):
    content, what, remedy = FOREIGN[case]
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    refused(path, what, remedy)


def test_a_zip_archive_named_safetensors(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "model.safetensors", "w") as archive:
        archive.writestr("x", "y")
    refused(tmp_path / "model.safetensors", "is a zip archive", ".pt")


@pytest.mark.parametrize("case", ["lfs", "html", "gguf", "json", "short", "noise"])
def test_other_names_do_not_help(case: str, tmp_path: Path):
    path = tmp_path / "weights"
    path.write_bytes(FOREIGN[case][0])
    refused(path, "is ")


def test_content_decides_when_the_name_does_not(single: Path):
    other = single.with_name("weights.st")
    single.rename(other)
    with open_checkpoint(other) as found:
        assert found.format == "safetensors"


def test_every_truncation_of_a_good_file_is_refused(tmp_path: Path):
    header = {"x": entry("F16", [3], 0, 6), "y": entry("U8", [0], 6, 6)}
    whole = raw_file(tmp_path / "whole.safetensors", header, b"abcdef").read_bytes()
    path = tmp_path / "cut.safetensors"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refused(path, "again")


def test_names_in_messages_cannot_steer_a_terminal(tmp_path: Path):
    path = raw_file(tmp_path / "x.safetensors", {"\x1b[2J": entry("F7", [1], 0, 1)}, b"a")
    with pytest.raises(FormatError) as caught:
        open_checkpoint(path)
    assert "\x1b" not in str(caught.value)
    assert re.search(r"tensor '\\x1b\[2J'", str(caught.value))


HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\0\u202e\x9b"


def test_metadata_is_text_whatever_it_holds(tmp_path: Path):
    metadata = {"format": HOSTILE, HOSTILE: "x"}
    path = raw_file(tmp_path / "x.safetensors", {"__metadata__": metadata})
    with open_checkpoint(path) as found:
        assert found.metadata == metadata
        saved = save_like(found, tmp_path / "y.safetensors", found.read)
    with open_checkpoint(saved.path) as again:
        assert again.metadata == metadata
    assert b"\x1b" not in saved.path.read_bytes()


@pytest.mark.parametrize(
    "header",
    [
        {"__metadata__": {HOSTILE * 9: 3}},
        {"__metadata__": {"\ud800" + HOSTILE * 9: "x"}},
        {"__metadata__": {"x": "\ud800"}},
        {"x": entry(HOSTILE * 9, [1], 0, 1)},
        b'{"__metadata__":{"x":"\x1b"}}',
    ],
)
def test_messages_quote_hostile_texts_shortly(header: object, tmp_path: Path):
    path = raw_file(tmp_path / "x.safetensors", header)
    with pytest.raises(FormatError) as caught:
        open_checkpoint(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < len(str(path)) + 350


def test_reading_from_several_threads_gives_whole_tensors(tmp_path: Path):
    from concurrent.futures import ThreadPoolExecutor

    arrays = {str(i): random_array("F32", (200, 50), i) for i in range(8)}
    save_safetensors(tmp_path / "x.safetensors", arrays)
    with open_checkpoint(tmp_path / "x.safetensors") as found, ThreadPoolExecutor(4) as pool:
        names = list(arrays) * 20
        for name, array in zip(names, pool.map(found.read, names), strict=True):
            assert same_bits(array, arrays[name])
