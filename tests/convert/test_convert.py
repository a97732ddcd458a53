"""Conversions between formats: there and back, what is lost, what is refused."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rebasin_hub.errors import IncompatibleError, InputError, OutputError, RebasinError
from rebasin_hub.formats import open_checkpoint
from rebasin_hub.formats.shards import deal_out
from rebasin_hub.pipeline.convert import ConversionPlan, Converted, Wish, convert
from rebasin_hub.tensors import TensorInfo


@pytest.fixture
def model(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    arrays = {
        "fc1.weight": rng.normal(size=(5, 3)).astype(np.float32),
        "fc1.bias": rng.normal(size=5).astype(np.float32),
        "fc2.weight": rng.normal(size=(2, 5)).astype(np.float32),
        "fc2.bias": np.array([np.nan, -0.0], np.float32),
        "half": rng.normal(size=(2, 2)).astype(np.float16),
        "steps": np.array(7, np.int64),
        "mask": np.array([True, False]),
    }
    save_file(arrays, tmp_path / "a.safetensors", {"format": "pt"})
    return tmp_path / "a.safetensors"


def digest(path: Path) -> str:
    done = convert(path, path.parent / "again.safetensors", force=True)
    assert isinstance(done, Converted)
    assert done.source_digest == done.digest
    return done.digest


OUTPUTS = ["b.safetensors", "b.pt", "b.bin", "b.npz", "b.msgpack", "folder", "llama-3.1-8b"]


@pytest.mark.parametrize("name", OUTPUTS)
def test_there_and_back_is_the_same_file(model: Path, name: str):
    if name.endswith((".pt", ".bin")):
        pytest.importorskip("torch")
    before = model.read_bytes()
    there = convert(model, model.with_name(name))
    assert isinstance(there, Converted)
    assert there.digest == there.source_digest == digest(model)
    assert there.casts == ()
    back = convert(there.output, model.with_name("back.safetensors"))
    assert isinstance(back, Converted)
    assert back.digest == there.digest
    if there.plan.format in {"safetensors", "torch", "directory"}:  # these say `pt`, too
        assert back.output.read_bytes() == before
    assert model.read_bytes() == before


def test_torch_loads_what_is_written(model: Path):
    torch = pytest.importorskip("torch")
    convert(model, model.with_name("b.pt"))
    found = torch.load(model.with_name("b.pt"), weights_only=True)
    arrays = load_file(model)
    assert found.keys() == arrays.keys()
    assert all(
        np.array_equal(found[n].numpy(), a, equal_nan=a.dtype.kind == "f")
        for n, a in arrays.items()
    )


def test_equal_input_gives_equal_bytes(model: Path):
    for name in OUTPUTS[:5]:
        convert(model, model.with_name(name))
        first = model.with_name(name).read_bytes()
        convert(model, model.with_name(name), force=True)
        assert model.with_name(name).read_bytes() == first


def test_shards_are_dealt_out_in_order():
    header = {
        name: TensorInfo("U8", (size,)) for name, size in zip("abcde", (3, 3, 9, 1, 4), strict=True)
    }
    assert deal_out(header, None) == {"model.safetensors": ["a", "b", "c", "d", "e"]}
    assert list(deal_out(header, 6).values()) == [["a", "b"], ["c"], ["d", "e"]]
    assert list(deal_out(header, 1).values()) == [["a"], ["b"], ["c"], ["d"], ["e"]]
    assert list(deal_out(header, 6)) == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]


def test_shards_have_an_index_and_side_files_go_along(model: Path):
    (model.parent / "in").mkdir()
    model.rename(model.parent / "in" / "model.safetensors")
    folder = model.parent / "in"
    (folder / "config.json").write_text('{"torch_dtype": "float32", "n": 1}')
    (folder / "tokenizer.json").write_text("{}")
    done = convert(folder, model.parent / "out", Wish(shard_size=64, dtype="BF16"))
    assert isinstance(done, Converted)
    out = model.parent / "out"
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert set(index["weight_map"]) == set(load_file(folder / "model.safetensors"))
    assert len(set(index["weight_map"].values())) == done.plan.shards > 1
    assert json.loads((out / "config.json").read_text()) == {"torch_dtype": "bfloat16", "n": 1}
    assert (out / "tokenizer.json").exists()
    with open_checkpoint(out) as found:
        assert found.notes == ()
        assert {i.dtype for i in found.header.values()} == {"BF16", "I64", "BOOL"}
    one = convert(out, model.parent / "one", Wish())
    assert isinstance(one, Converted)
    assert one.digest == done.digest
    assert {p.name for p in one.output.iterdir()} == {
        "model.safetensors",
        "config.json",
        "tokenizer.json",
    }


def test_casts_are_reported_for_each_tensor(model: Path):
    arrays = load_file(model)
    arrays["fc1.bias"][:2] = 1e9, 1e-12
    save_file(arrays, model)
    done = convert(model, model.with_name("b.safetensors"), Wish(dtype="F16"))
    assert isinstance(done, Converted)
    casts = {found.tensor: found for found in done.casts}
    assert casts.keys() == {n for n in arrays if n.startswith("fc")}
    assert (casts["fc1.bias"].overflowed, casts["fc1.bias"].underflowed) == (1, 1)
    assert 0 < casts["fc1.weight"].largest_error < 2**-10
    assert casts["fc2.bias"].exact
    found = load_file(done.output)
    assert found["fc1.bias"][0] == np.inf
    assert found["steps"] == 7
    assert done.digest != done.source_digest


def test_tying_and_untying(model: Path):
    torch = pytest.importorskip("torch")
    shared = torch.arange(6.0).reshape(2, 3)
    state = {"head": shared, "embed": shared, "other": shared.clone(), "last": shared + 1}
    torch.save(state, model.with_name("tied.pt"))
    tied = model.with_name("tied.pt")
    plain = convert(tied, model.with_name("b.safetensors"))
    assert isinstance(plain, Converted)
    assert load_file(plain.output).keys() == {"head", "other", "last"}
    assert "embed shares head's values and is left out" in plain.notes
    apart = convert(tied, model.with_name("c.npz"), Wish(untie={"embed": "head"}))
    with open_checkpoint(apart.output) as found:
        assert set(found.header) == {"head", "embed", "other", "last"}
        assert np.array_equal(found.read("embed"), shared.numpy())
    again = convert(
        apart.output, model.with_name("d.pt"), Wish(tie={"embed": "head", "other": "head"})
    )
    with open_checkpoint(again.output) as found:
        assert dict(found.tied) in (
            {"embed": "head", "other": "head"},
            {"head": "embed", "other": "embed"},
        )
    made = convert(plain.output, model.with_name("e.safetensors"), Wish(untie={"new": "last"}))
    assert np.array_equal(load_file(made.output)["new"], shared.numpy() + 1)
    for wish, reason in {
        "--tie last=head: their values differ": Wish(tie={"last": "head"}),
        "'nothing'": Wish(tie={"nothing": "head"}),
        "has values of its own already": Wish(untie={"last": "head"}),
        "is tied to 'head'": Wish(untie={"embed": "last"}),
    }.items():
        with pytest.raises(InputError, match=wish):
            convert(tied, model.with_name("no.pt"), reason)
        assert not model.with_name("no.pt").exists()


def test_a_dry_run_plans_and_writes_nothing(model: Path):
    before = sorted(model.parent.iterdir())
    steps = convert(
        model, model.with_name("folder"), Wish(dtype="F16", shard_size=50), dry_run=True
    )
    assert isinstance(steps, ConversionPlan)
    assert (steps.format, steps.tensors, steps.cast) == ("directory", 7, 4)
    assert sorted(model.parent.iterdir()) == before
    done = convert(model, model.with_name("folder"), Wish(dtype="F16", shard_size=50))
    assert isinstance(done, Converted)
    assert done.plan == steps
    assert steps.shards == len(list(done.output.glob("*.safetensors"))) > 1
    assert steps.nbytes == sum(
        a.nbytes for s in done.output.glob("*.safetensors") for a in load_file(s).values()
    )


REFUSED = {
    "a.safetensors": (Wish(), "is the input itself"),
    "b.gguf": (Wish(), "'.gguf' files are not written"),
    "b.pt": (Wish(shard_size=5), "only a directory has shards"),
    "b.onnx": (Wish(), "with --into"),
    "b.npz": (Wish(dtype="BF16"), "no BF16"),
    "c.npz": (Wish(dtype="F7"), "'F7' is none of"),
    "d.npz": (Wish(layout="nothing"), "there is no layout 'nothing'; there are"),
    "e.npz": (Wish(layout="flax"), "does not fit layout 'flax'"),
    "there": (Wish(), "exists already"),
    "no/b.npz": (Wish(), "does not exist; create it first"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_leaves_nothing_behind(model: Path, name: str):
    (model.parent / "there").mkdir()
    before = sorted(model.parent.iterdir())
    wish, reason = REFUSED[name]
    with pytest.raises(RebasinError, match=reason.replace("(", r"\(")):
        convert(model, model.with_name(name) if "/" not in name else model.parent / name, wish)
    assert sorted(model.parent.iterdir()) == before


@pytest.mark.parametrize("name", ["b.safetensors", "b.pt", "b.npz", "b.msgpack", "folder"])
def test_memory_is_bounded_by_the_largest_tensor(tmp_path: Path, name: str):
    if name == "b.pt":
        pytest.importorskip("torch")
    size = 1 << 20
    save_file(
        {f"t{i}": np.full(size, i, np.float32) for i in range(12)}, tmp_path / "a.safetensors"
    )
    convert(tmp_path / "a.safetensors", tmp_path / f"warm-{name}")
    tracemalloc.start()
    convert(tmp_path / "a.safetensors", tmp_path / name)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * 4 * size  # of 48 MiB in all; two tensors and what the disk gives back


def test_weights_go_into_an_onnx_graph(tmp_path: Path):
    onnx = pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from onnx import helper, numpy_helper

    rng = np.random.default_rng(4)
    arrays = {"w": rng.normal(size=(3, 2)), "b": rng.normal(size=2)}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["s"]),
        helper.make_node("Mul", ["s", "two"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info(n, 1, s) for n, s in (("x", ["n", 3]), ("y", ["n", 2]))]
    blank = {"w": np.zeros((3, 2)), "b": np.zeros(2), "two": np.array(2.0)}
    weights = [numpy_helper.from_array(a.astype(np.float32), n) for n, a in blank.items()]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, tmp_path / "g.onnx")
    np.savez(tmp_path / "w.npz", **arrays)
    done = convert(tmp_path / "w.npz", tmp_path / "out.onnx", Wish(into=tmp_path / "g.onnx"))
    assert isinstance(done, Converted)
    assert {c.tensor: (c.before, c.after) for c in done.casts} == {
        "w": ("F64", "F32"),
        "b": ("F64", "F32"),
    }
    assert "kept as the graph has them: 1 tensors, such as two" in done.notes
    x = rng.normal(size=(4, 3)).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    (found,) = onnxruntime.InferenceSession(done.output, options).run(None, {"x": x})
    assert np.allclose(found, 2 * (x @ arrays["w"] + arrays["b"]), atol=1e-5)
    back = convert(done.output, tmp_path / "back.npz")
    with open_checkpoint(back.output) as again:
        assert np.array_equal(again.read("w"), arrays["w"].astype(np.float32))
    refused = {
        "v: is no weight": {"v": arrays["w"]},
        r"the graph takes \[3, 2\]": {"w": arrays["b"]},
        "w: is I64, the graph takes F32": {"w": np.zeros((3, 2), int)},
    }
    for reason, wrong in refused.items():
        np.savez(tmp_path / "wrong.npz", **wrong)
        with pytest.raises(IncompatibleError, match=reason):
            convert(tmp_path / "wrong.npz", tmp_path / "no.onnx", Wish(into=tmp_path / "g.onnx"))
    with pytest.raises(InputError, match="is no ONNX model"):
        convert(tmp_path / "w.npz", tmp_path / "no.onnx", Wish(into=tmp_path / "w.npz"))
    with pytest.raises(OutputError, match="is the input itself"):
        convert(tmp_path / "w.npz", tmp_path / "g.onnx", Wish(into=tmp_path / "g.onnx"), force=True)
