from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from format_cases import same_bits
from safetensors.numpy import load_file, save_file

from rebasin_hub.errors import OutputError, ProofError
from rebasin_hub.formats import check_output, open_checkpoint, save_like, save_safetensors


def refused(source: Path, out: Path, *reasons: str, force: bool = False) -> None:
    before = source.read_bytes() if source.is_file() else sorted(source.rglob("*"))
    names = sorted(out.parent.iterdir()) if out.parent.is_dir() else None
    with open_checkpoint(source) as opened, pytest.raises(OutputError) as caught:
        save_like(opened, out, opened.read, force=force)
    for reason in reasons:
        assert reason in str(caught.value)
    assert before == (source.read_bytes() if source.is_file() else sorted(source.rglob("*")))
    assert names == (sorted(out.parent.iterdir()) if out.parent.is_dir() else None)


@pytest.mark.parametrize("force", [False, True])
def test_the_input_is_never_the_output(single: Path, sharded: Path, tmp_path: Path, force: bool):
    soft, hard = tmp_path / "soft.safetensors", tmp_path / "hard.safetensors"
    soft.symlink_to(single)
    hard.hardlink_to(single)
    for out in (single, soft, hard, single.parent / ".." / "in" / single.name):
        refused(single, out, "is the input itself", force=force)
    refused(soft, single, "is the input itself", force=force)
    refused(sharded, sharded, "is the input itself", force=force)
    linked = tmp_path / "linked"
    linked.symlink_to(sharded)
    refused(sharded, linked, "is the input itself", force=force)
    refused(linked, sharded, "is the input itself", force=force)


@pytest.mark.parametrize("force", [False, True])
def test_nothing_is_written_into_or_over_the_input_directory(sharded: Path, force: bool):
    refused(sharded, sharded / "out", "lies in the input directory", force=force)
    refused(sharded, sharded / "README.md", "lies in the input directory", force=force)
    refused(sharded, sharded / "new.safetensors", "lies in the input directory", force=force)
    refused(sharded, sharded.parent, "holds the input", force=force)


def test_the_other_inputs_of_a_merge_are_safe_too(single: Path, tmp_path: Path):
    other = tmp_path / "other.safetensors"
    save_file({"x": np.zeros(1)}, other)
    with (
        open_checkpoint(single) as a,
        open_checkpoint(other) as b,
        pytest.raises(OutputError, match="is the input itself"),
    ):
        check_output(a, other, others=[b], force=True)


def test_a_link_is_refused_rather_than_followed(single: Path, tmp_path: Path):
    other, link = tmp_path / "other", tmp_path / "link.safetensors"
    other.write_text("mine")
    link.symlink_to(other)
    refused(single, link, "is a symbolic link to", "remove the link", force=True)
    other.unlink()
    refused(single, link, "is a symbolic link to", force=True)


def test_an_existing_output_needs_force(single: Path, sharded: Path, tmp_path: Path):
    out = tmp_path / "out.safetensors"
    out.write_text("old")
    refused(single, out, "exists already", "--force")
    assert out.read_text() == "old"
    with open_checkpoint(single) as source:
        save_like(source, out, source.read, force=True)
    assert out.read_bytes() == single.read_bytes()
    folder = tmp_path / "out"
    with open_checkpoint(sharded) as source:
        save_like(source, folder, source.read)
        (folder / "stale.txt").touch()
        refused(sharded, folder, "exists already", "--force")
        save_like(source, folder, source.read, force=True)
    assert not (folder / "stale.txt").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_only_a_checkpoint_directory_is_replaced(sharded: Path, tmp_path: Path):
    mine = tmp_path / "photos"
    mine.mkdir()
    (mine / "cat.jpg").touch()
    refused(sharded, mine, "is no checkpoint, and is not replaced even by force", force=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    with open_checkpoint(sharded) as source:
        save_like(source, empty, source.read, force=True)
    assert (empty / "config.json").exists()


def test_files_and_directories_do_not_take_each_others_place(
    single: Path, sharded: Path, tmp_path: Path
):
    (tmp_path / "d.safetensors").mkdir()
    refused(single, tmp_path / "d.safetensors", "is a directory; name a file in it", force=True)
    (tmp_path / "f").touch()
    refused(sharded, tmp_path / "f", "is a file, and the output is a directory", force=True)
    os.mkfifo(tmp_path / "p.safetensors")
    refused(single, tmp_path / "p.safetensors", "neither a file nor a directory", force=True)


def test_conversions_that_are_not_offered(single: Path, sharded: Path, tmp_path: Path):
    refused(
        single,
        tmp_path / "x.pt",
        "from a safetensors file is written as .safetensors, not as '.pt'",
    )
    refused(single, tmp_path / "x", "a name without ending")
    refused(
        sharded, tmp_path / "x.bin", "from a directory is written as a directory or .safetensors"
    )


def test_a_directory_becomes_one_file(sharded: Path, weights, tmp_path: Path):
    with open_checkpoint(sharded) as source:
        saved = save_like(source, tmp_path / "x.safetensors", source.read)
    assert "left behind: 1_Pooling/config.json, README.md, config.json" in saved.notes[0]
    found = load_file(saved.path)
    assert found.keys() == weights.keys()
    assert all(same_bits(found[name], array) for name, array in weights.items())


def test_places_that_do_not_exist(single: Path, tmp_path: Path):
    refused(single, tmp_path / "no" / "x.safetensors", "does not exist; create it first")
    refused(single, single / "x.safetensors", "does not exist; create it first")
    refused(single, tmp_path / ("x" * 250 + ".safetensors"), "the name is too long")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_places_without_permission_themselves(single: Path, tmp_path: Path):
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    refused(single, locked / "x.safetensors", "no permission to write")


def test_places_without_permission(single: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    refused(single, tmp_path / "x.safetensors", "no permission to write in", "another place")


def test_what_was_produced_is_checked(single: Path, tmp_path: Path):
    out = tmp_path / "out.safetensors"
    with open_checkpoint(single) as source:
        for wrong in (np.zeros((3, 4), np.float32), np.zeros((4, 3)), np.array(["a"])):
            with pytest.raises(ProofError, match=r"tensor 'fc1.weight' came out as"):
                save_like(
                    source, out, lambda n, w=wrong: w if n == "fc1.weight" else source.read(n)
                )
        with pytest.raises(ValueError, match="same tensors"):
            save_like(source, out, source.read, header={})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_copy_is_byte_identical_and_its_digests_are_those_of_the_tensors(
    single: Path, weights, tmp_path: Path
):
    from hashlib import sha256

    order = []
    with open_checkpoint(single) as source:

        def produce(name: str) -> np.ndarray:
            order.append(name)
            return source.read(name)

        saved = save_like(source, tmp_path / "out.safetensors", produce)
        assert order == list(source.header)
    assert saved.path.read_bytes() == single.read_bytes()
    assert saved.files == (saved.path,)
    assert saved.nbytes == single.stat().st_size
    assert saved.tensors == {n: sha256(a.tobytes()).hexdigest() for n, a in weights.items()}


def test_metadata_can_be_given(single: Path, tmp_path: Path):
    with open_checkpoint(single) as source:
        saved = save_like(source, tmp_path / "x.safetensors", source.read, metadata={"é": "ü"})
    with open_checkpoint(saved.path) as found:
        assert found.metadata == {"é": "ü"}


def test_arrays_with_gaps_are_stored_in_order(tmp_path: Path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4).T[::2]
    saved = save_safetensors(tmp_path / "x.safetensors", {"x": array}, {"k": "v"})
    assert same_bits(load_file(saved.path)["x"], np.ascontiguousarray(array))
