from __future__ import annotations

import collections
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from format_cases import random_array, same_bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rebasin_hub.digest import plain_digest
from rebasin_hub.errors import FormatError, MissingExtraError
from rebasin_hub.formats import open_checkpoint, save_like
from rebasin_hub.formats import torchfile as writing
from rebasin_hub.formats.torch import DTYPE_NAMES
from rebasin_hub.tensors import DTYPES, TensorInfo

torch = pytest.importorskip("torch")


def load(path: Path) -> dict:
    return torch.load(path, weights_only=True, mmap=True, map_location="cpu")


def store(path: Path, content: object, **options) -> Path:
    torch.save(content, path, **options)
    return path


def copied(path: Path, out: Path, **options):
    with open_checkpoint(path) as source:
        return save_like(source, out, source.read, **options)


def refused(path: Path, *reasons: str) -> None:
    with pytest.raises(FormatError) as caught:
        open_checkpoint(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    for reason in reasons:
        assert reason in str(caught.value)


def random_tensor(name: str, shape: tuple[int, ...], seed: int = 0):
    array = random_array(DTYPE_NAMES[name], shape, seed)
    if name == "float4_e2m1fn_x2":
        raw = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    else:
        raw = array.reshape(-1).view(np.uint8)
    if not raw.size:
        return torch.empty(shape, dtype=getattr(torch, name))
    return torch.from_numpy(raw.copy()).view(getattr(torch, name)).reshape(shape)


def raw(tensor) -> bytes:
    if not tensor.numel():
        return b""
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    kinds=st.lists(st.sampled_from(list(DTYPE_NAMES)), min_size=1, max_size=5),
    shape=st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple),
    seed=st.integers(0, 99),
)
def test_every_bit_of_every_type_survives(kinds, shape, seed, tmp_path: Path):
    model = {f"{i}.ö": random_tensor(name, shape, seed + i) for i, name in enumerate(kinds)}
    path = store(tmp_path / "a.pt", model)
    with open_checkpoint(path) as found:
        for name, tensor in model.items():
            array = found.read(name)
            info = found.header[name]
            assert (array.shape, array.dtype) == (info.shape, DTYPES[info.dtype].numpy)
            if info.dtype == "F4":
                low, high = array.reshape(-1).view(np.uint8).reshape(-1, 2).T
                assert (low | high << 4).tobytes() == raw(tensor)
            else:
                assert array.tobytes() == raw(tensor)
    copied(path, tmp_path / "b.pt", force=True)
    again = load(tmp_path / "b.pt")
    assert list(again) == list(model)
    for name, tensor in model.items():
        assert (again[name].dtype, again[name].shape) == (tensor.dtype, tensor.shape)
        assert raw(again[name]) == raw(tensor)


def test_scalars(tmp_path: Path):
    names = [name for name in DTYPE_NAMES if name != "float4_e2m1fn_x2"]
    model = {name: random_tensor(name, ()) for name in names}
    copied(store(tmp_path / "a.pt", model), tmp_path / "b.pt")
    again = load(tmp_path / "b.pt")
    assert all(raw(again[name]) == raw(model[name]) for name in names)
    assert all(again[name].shape == () for name in names)


NESTINGS = {
    "plain": lambda sd: sd,
    "state_dict": lambda sd: {"state_dict": sd, "epoch": 3},
    "model_state_dict": lambda sd: {"model_state_dict": sd, "loss": 0.5, "name": "ä"},
    "model": lambda sd: {"model": sd, "ema": {"w": torch.zeros(2)}},
    "deeper": lambda sd: {"model": {"state_dict": sd, "step": 7}, "lr": [0.1]},
    "any name": lambda sd: {"net": sd, "optimizer": {"state": {0: {"m": torch.ones(3)}}}},
    "beside a tensor": lambda sd: {"state_dict": sd, "rng": torch.zeros(4, dtype=torch.uint8)},
}


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("nesting", NESTINGS)
def test_the_state_dict_is_found_and_written_back_in_its_place(nesting, prefix, tmp_path: Path):
    state = collections.OrderedDict(
        {prefix + "b.weight": torch.randn(3, 2), prefix + "a.bias": torch.randn(3)}
    )
    state._metadata = {"": {"version": 2}}
    content = NESTINGS[nesting](state)
    path = store(tmp_path / "a.ckpt", content)
    before = path.read_bytes()
    with open_checkpoint(path) as source:
        assert source.format == "torch"
        assert list(source.header) == ["b.weight", "a.bias"]
        saved = save_like(source, tmp_path / "b.ckpt", lambda name: source.read(name) + 1)
    assert path.read_bytes() == before
    again = load(saved.path)
    for name in list(state):
        state[name] = state[name] + 1
    assert str(again) == str(content)
    assert [*again] == [*content]
    found = next(d for d in (again, *again.values()) if prefix + "a.bias" in str(d))
    while prefix + "a.bias" not in found:
        found = next(iter(found.values()))
    assert type(found) is collections.OrderedDict
    assert found._metadata == {"": {"version": 2}}


def test_what_lies_beside_the_weights_is_named(tmp_path: Path):
    content = {
        "model": {"w": torch.ones(2), "_extra_state": None},
        "epoch": 3,
        "optimizer": {"state": {0: {"m": torch.ones(2)}}},
    }
    with open_checkpoint(store(tmp_path / "a.pt", content)) as found:
        assert found.notes == (
            "kept beside the weights, unchanged: epoch, optimizer (holds tensors: not "
            "renumbered), model._extra_state",
        )
        saved = save_like(found, tmp_path / "x.safetensors", found.read)
    assert saved.notes == ("left behind: epoch, optimizer, model._extra_state",)


def test_tensors_beside_the_weights_keep_values_and_ties(tmp_path: Path):
    whole = torch.arange(12.0)
    content = {
        "model": {"w": torch.ones(2)},
        "optimizer": {"a": whole[2:8].reshape(2, 3).T, "b": whole, "empty": torch.zeros(0)},
    }
    copied(store(tmp_path / "a.pt", content), tmp_path / "b.pt")
    kept = load(tmp_path / "b.pt")["optimizer"]
    assert str(kept) == str(content["optimizer"])
    kept["b"][2] = -1
    assert kept["a"][0, 0] == -1


def test_only_whole_names_lose_their_prefix(tmp_path: Path):
    content = {"module.a": torch.ones(1), "modules.b": torch.ones(1)}
    with open_checkpoint(store(tmp_path / "a.pt", content)) as found:
        assert list(found.header) == ["module.a", "modules.b"]


def test_tied_tensors_stay_tied(tmp_path: Path):
    weight = torch.randn(4, 3)
    content = {"embed": weight, "other": torch.randn(4, 3), "head": weight}
    path = store(tmp_path / "a.pt", content)
    with open_checkpoint(path) as source:
        assert source.tied == {"head": "embed"}
        assert source.notes == ()
        saved = save_like(source, tmp_path / "b.pt", lambda name: source.read(name)[::-1])
        apart = save_like(source, tmp_path / "c.pt", lambda n: source.read(n) * (1 + (n == "head")))
    again = load(saved.path)
    again["head"][0, 0] = 9.0
    assert again["embed"][0, 0] == 9.0
    assert torch.equal(again["other"], content["other"].flip(0))
    assert saved.notes == ()
    assert saved.tensors["head"] == saved.tensors["embed"]
    assert saved.path.stat().st_size < path.stat().st_size + 200
    other = load(apart.path)
    assert torch.equal(other["head"], 2 * other["embed"])
    assert apart.notes == ("head is no longer tied to embed: they now differ",)


def test_one_safetensors_file_holds_tied_values_once(tmp_path: Path):
    weight = torch.randn(4, 3)
    content = {"embed": weight, "other": torch.randn(4, 3), "head": weight, "tail": weight}
    calls = []
    with open_checkpoint(store(tmp_path / "a.pt", content)) as source:
        saved = save_like(
            source,
            tmp_path / "a.safetensors",
            lambda name: source.read(name)[::-1],
            progress=lambda *both: calls.append(both),
        )
        digest = plain_digest(source.header, lambda n: source.read(n)[::-1], source.tied)
    assert saved.notes == tuple(
        f"{name} shares embed's values and is left out, as transformers does"
        for name in ("head", "tail")
    )
    assert saved.tensors.keys() == {"embed", "other"}
    assert calls == [(n * 48, 192) for n in range(1, 5)]
    with open_checkpoint(saved.path) as found:
        assert found.metadata == {"format": "pt"}
        assert found.header.keys() == {"embed", "other"}
        assert plain_digest(found.header, found.read) == digest
        assert same_bits(found.read("embed"), weight.numpy()[::-1])


def test_names_that_are_no_longer_tied_are_all_stored(tmp_path: Path):
    weight = torch.zeros(4, 3)
    path = store(tmp_path / "a.pt", {"embed": weight, "head": weight, "tail": weight})
    with open_checkpoint(path) as source:
        header = {**source.header, "tail": TensorInfo("I32", (4, 3))}  # the same bytes

        def produce(name: str) -> np.ndarray:
            if name == "tail":
                return source.read(name).view(np.int32)
            return -source.read(name) if name == "head" else source.read(name)  # -0.0 == 0.0

        saved = save_like(source, tmp_path / "a.safetensors", produce, header=header)
        assert saved.tensors.keys() == source.header.keys()
    assert saved.notes == tuple(
        f"{name} is no longer tied to embed: they now differ" for name in ("head", "tail")
    )
    with open_checkpoint(saved.path) as found:
        assert np.signbit(found.read("head")).all()
        assert not np.signbit(found.read("embed")).any()


def test_a_directory_of_torch_files_gives_one_file_without_ties(tmp_path: Path):
    (tmp_path / "in").mkdir()
    store(tmp_path / "in" / "pytorch_model.bin", dict.fromkeys(["a", "b"], torch.ones(2)))
    with open_checkpoint(tmp_path / "in") as source:
        saved = save_like(source, tmp_path / "x.safetensors", source.read)
    assert saved.tensors.keys() == {"a"}


def test_torch_files_of_a_directory_have_no_config_of_their_own(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"a": 1}')
    for name, file in (homes := {"v": "one.bin", "w": "two.bin"}).items():
        store(tmp_path / file, {name: torch.ones(2)})
    index = json.dumps({"weight_map": homes})
    (tmp_path / "pytorch_model.bin.index.json").write_text(index)
    with open_checkpoint(tmp_path) as found:
        assert (found.config, found.notes) == ({"a": 1}, ())


def test_config_beside_a_torch_file(tmp_path: Path):
    (tmp_path / "config.json").write_text('{"a": 1}')
    other = store(tmp_path / "best.pt", {"w": torch.ones(2)})
    with open_checkpoint(other) as found:
        assert (found.config, found.notes) == ({"a": 1}, ())
    with open_checkpoint(store(tmp_path / "pytorch_model.bin", {"w": torch.ones(2)})) as found:
        assert (found.config, found.notes) == ({"a": 1}, ())
    with open_checkpoint(other) as found:
        assert found.config is None
        assert found.notes[0].startswith("config.json lies beside but may belong to another")


def test_views_are_tied_only_when_they_are_the_same(tmp_path: Path):
    whole = torch.arange(16.0).reshape(4, 4)
    content = {
        "all": whole,
        "turned": whole.T,
        "part": whole[1:],
        "same part": whole[1:],
        "empty": torch.zeros(0),
        "empty too": torch.zeros(0),
    }
    path = store(tmp_path / "a.pt", content)
    with open_checkpoint(path) as source:
        assert source.tied == {"same part": "part"}
        assert source.notes == ("stored in one piece of memory, written apart: all, turned, part",)
        for name, tensor in content.items():
            assert same_bits(source.read(name), np.ascontiguousarray(tensor.numpy()))
    copied(path, tmp_path / "b.pt")
    again = load(tmp_path / "b.pt")
    assert all(torch.equal(again[name], content[name]) for name in content)
    again["all"][:] = 0
    assert torch.equal(again["part"], content["part"])


def test_lazily_conjugated_and_negated_tensors_are_resolved(tmp_path: Path):
    tensor = torch.tensor([1 + 2j, 3 - 4j], dtype=torch.complex64)
    content = {
        "conj": tensor.conj(),
        "neg": tensor.clone().conj().imag,
        "whole": torch._neg_view(torch.ones(2)),
    }
    path = store(tmp_path / "a.pt", content)
    with open_checkpoint(path) as found:
        assert found.read("whole").tolist() == [-1.0, -1.0]
        assert found.read("conj").tolist() == [1 - 2j, 3 + 4j]
        assert found.read("neg").tolist() == [-2.0, 4.0]


def test_parameters_stay_parameters(tmp_path: Path):
    model = torch.nn.Linear(2, 3)
    path = store(tmp_path / "a.pt", {"w": model.weight, "b": model.bias.requires_grad_(False)})
    copied(path, tmp_path / "b.pt")
    again = load(tmp_path / "b.pt")
    assert [type(t) for t in again.values()] == [torch.nn.Parameter] * 2
    assert [t.requires_grad for t in again.values()] == [True, False]
    assert torch.equal(again["w"], model.weight)


def test_other_types_than_the_source_has(tmp_path: Path):
    path = store(tmp_path / "a.pt", {"w": torch.arange(6.0).reshape(2, 3)})
    header = {"w": TensorInfo("BF16", (2, 3))}
    kind = DTYPES["BF16"].numpy
    with open_checkpoint(path) as source:
        save_like(source, tmp_path / "b.pt", lambda n: source.read(n).astype(kind), header=header)
    again = load(tmp_path / "b.pt")["w"]
    assert again.dtype == torch.bfloat16
    assert torch.equal(again.float(), torch.arange(6.0).reshape(2, 3))


@pytest.mark.parametrize("limit", [writing._ZIP64_LIMIT, 10])
def test_archives_are_sound_aligned_and_always_the_same(tmp_path: Path, monkeypatch, limit):
    monkeypatch.setattr(writing, "_ZIP64_LIMIT", limit)
    path = store(tmp_path / "a.pt", {"a": torch.randn(3), "b": torch.randn(50), "s": "x"})
    first, second = copied(path, tmp_path / "b.pt"), copied(path, tmp_path / "c.pt")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.nbytes == first.path.stat().st_size
    with zipfile.ZipFile(first.path) as archive:
        assert archive.testzip() is None
        for entry in archive.infolist():
            with first.path.open("rb") as file:
                file.seek(entry.header_offset + 26)
                name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
            assert (entry.header_offset + 30 + name + extra) % 64 == 0
    for options in ({"mmap": True}, {"mmap": False}):
        again = torch.load(first.path, weights_only=True, **options)
        assert torch.equal(again["b"], load(path)["b"])
    copied(first.path, tmp_path / "d.pt")
    assert (tmp_path / "d.pt").read_bytes() == first.path.read_bytes()


def test_legacy_files(tmp_path: Path):
    content = {"state_dict": {"w": torch.randn(3)}, "epoch": 1}
    path = store(tmp_path / "a.pth", content, _use_new_zipfile_serialization=False)
    with open_checkpoint(path) as found:
        assert same_bits(found.read("w"), content["state_dict"]["w"].numpy())
    copied(path, tmp_path / "b.pth")
    assert str(load(tmp_path / "b.pth")) == str(content)


class Evil:
    def __reduce__(self):
        return os.system, ("touch pwned",)


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("form", ["zip", "legacy", "pickle"])
def test_code_is_named_and_not_run(form, protocol, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.pt"
    content = {"w": torch.ones(2), "x": Evil()}
    if form == "pickle":
        path.write_bytes(pickle.dumps({"x": Evil()}, protocol))
    else:
        new = form == "zip"
        store(path, content, pickle_protocol=protocol, _use_new_zipfile_serialization=new)
    refused(path, f"wants to run code when it is loaded ({os.name}.system)", "was not run")
    assert not (tmp_path / "pwned").exists()


def test_a_whole_model_is_named_by_its_classes(tmp_path: Path):
    refused(store(tmp_path / "a.pt", torch.nn.Linear(2, 2)), "torch.nn.modules.linear.Linear")


def test_torchscript_is_no_state_dict(tmp_path: Path):
    # What torch.jit.save writes, without its deprecated front end.
    path = store(tmp_path / "a.pt", {"w": torch.ones(2)})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("a/constants.pkl", b"")
    refused(path, "is a TorchScript program")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (torch.ones(2), "holds no tensors that have names, but a Tensor"),
        ({}, "an empty dict"),
        ({"epoch": 1}, "the keys 'epoch'"),
        ([torch.ones(2)], "a list"),
        ({0: torch.ones(2)}, "holds no tensors that have names"),
        ({"g": {"w": torch.ones(2)}, "d": {"w": torch.ones(2)}}, "several places ('g', 'd')"),
        ({"net": {"w": torch.ones(2)}, "rng": torch.ones(2)}, "several places ('net', 'rng')"),
        ({"w": torch.eye(2).to_sparse()}, "tensor 'w': is sparse"),
        ({"w": torch.ones(2, dtype=torch.complex128)}, "tensor 'w': its element type"),
        ({"w": torch.ones(2, device="meta")}, "tensor 'w': has no values (device meta)"),
    ],
)
def test_files_without_a_usable_state_dict(content, reason, tmp_path: Path):
    refused(store(tmp_path / "a.pt", content), reason)


@pytest.mark.filterwarnings("ignore")
def test_quantized_tensors(tmp_path: Path):
    tensor = torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)
    refused(store(tmp_path / "a.pt", {"w": tensor}), "tensor 'w': is quantized")


def test_empty_tensors_with_any_strides(tmp_path: Path):
    tensor = torch.from_numpy(np.zeros(0, np.uint8)).reshape(0, 3).to(torch.int16)
    path = store(tmp_path / "a.pt", {"w": tensor.as_strided((0, 3), (0, 0))})
    saved = copied(path, tmp_path / "b.pt")
    assert load(saved.path)["w"].shape == (0, 3)


def test_dict_cycles_end(tmp_path: Path):
    content: dict = {"epoch": 1}
    content["model"] = content
    refused(store(tmp_path / "a.pt", content), "holds no tensors")


def test_every_truncation_of_a_good_file_is_refused(tmp_path: Path):
    whole = store(tmp_path / "a.pt", {"w": torch.ones(2)}).read_bytes()
    path = tmp_path / "b.pt"
    for length in range(4, len(whole), 37):
        path.write_bytes(whole[:length])
        refused(path, "is cut off or damaged", "again")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(place=st.integers(0), value=st.integers(0, 255))
def test_a_damaged_byte_raises_nothing_else(place: int, value: int, tmp_path: Path):
    buffer = io.BytesIO()
    torch.save({"w": torch.ones(2)}, buffer)
    content = bytearray(buffer.getvalue())
    content[place % len(content)] = value
    path = tmp_path / "b.pt"
    path.write_bytes(content)
    try:
        with open_checkpoint(path) as found:
            found.read("w")
    except (FormatError, KeyError):
        pass


def test_zip_archives_of_others(tmp_path: Path):
    for name in ("a.pt", "a.npz"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("notes.txt", "no weights")
        refused(tmp_path / name, "is a zip archive")


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_git_lfs_pointers_in_torch_files(suffix: str, tmp_path: Path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n")
    refused(path, "is a Git LFS pointer")


def test_big_endian_files_are_read_right(tmp_path: Path):
    good = store(tmp_path / "a.pt", {"w": torch.arange(3.0)})
    path = tmp_path / "b.pt"
    with zipfile.ZipFile(good) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name.endswith("byteorder"):
                content = b"big"
            if name.endswith("data/0"):
                content = np.arange(3, dtype=">f4").tobytes()
            new.writestr(name, content)
    with open_checkpoint(path) as found:
        assert found.read("w").tolist() == [0.0, 1.0, 2.0]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_reading_leaves_the_mapping_empty(tmp_path: Path, monkeypatch):
    path = store(
        tmp_path / "a b.pt", {"w": torch.arange(3.0), "v": torch.ones(2), "e": torch.ones(0)}
    )
    monkeypatch.setattr("rebasin_hub.formats.torch.torch_bytes", None)
    with open_checkpoint(path) as found:
        assert found.read("w").tolist() == [0.0, 1.0, 2.0]
        assert found.read("v").tolist() == [1.0, 1.0]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs Linux")
def test_a_file_that_shrinks_while_open_is_an_error_and_no_crash(tmp_path: Path):
    path = store(tmp_path / "a.pt", {"w": torch.arange(10_000.0)})
    with open_checkpoint(path) as found:
        os.truncate(path, 5000)
        with pytest.raises(FormatError, match="changed while open"):
            found.read("w")


def test_where_mappings_are_unknown_they_are_used(tmp_path: Path, monkeypatch):
    path = store(tmp_path / "a.pt", {"w": torch.arange(3.0)})
    monkeypatch.setattr("rebasin_hub.formats.mapped._regions", lambda *_: [])
    with open_checkpoint(path) as found:
        assert found.read("w").tolist() == [0.0, 1.0, 2.0]


def test_without_torch_the_extra_is_named(tmp_path: Path, monkeypatch):
    path = store(tmp_path / "a.pt", {"w": torch.ones(2)})
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"reading torch files .*rebasin-hub\[torch\]"):
        open_checkpoint(path)


def test_an_interruption_leaves_nothing(tmp_path: Path):
    path = store(tmp_path / "a.pt", {"w": torch.ones(2), "v": torch.ones(2)})

    def produce(name: str) -> np.ndarray:
        if name == "v":
            raise KeyboardInterrupt
        return np.ones(2, np.float32)

    with open_checkpoint(path) as source, pytest.raises(KeyboardInterrupt):
        save_like(source, tmp_path / "b.pt", produce)
    assert [left.name for left in tmp_path.iterdir()] == ["a.pt"]
