"""ONNX models as checkpoints: every stored form, written in place, and no read elsewhere."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from format_cases import same_bits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rebasin_hub.errors import FormatError, OutputError, RebasinError
from rebasin_hub.formats import open_checkpoint, save_like
from rebasin_hub.formats.onnx.wire import varint
from rebasin_hub.tensors import TensorInfo

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_cases import branches, every_type, external, mlp, model, tensor  # noqa: E402


def run(path: Path, x: np.ndarray) -> np.ndarray:
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    return onnxruntime.InferenceSession(path, options).run(None, {"x": x})[0]


def read_all(path: Path) -> None:
    with open_checkpoint(path) as opened:
        for name in opened.header:
            opened.read(name)


def refused(path: Path, *reasons: str) -> None:
    with pytest.raises(FormatError) as caught:
        read_all(path)
    assert str(caught.value).startswith(f"{path}")
    for reason in reasons:
        assert reason in str(caught.value)


def renumbered(read, order):
    """Return a reader of the chain with its hidden units in another order."""
    axes = {"fc1.weight": 0, "fc1.bias": 0, "fc2.weight": 1}
    return lambda n: (
        np.ascontiguousarray(np.take(read(n), order, axes[n])) if n in axes else read(n)
    )


X = np.random.default_rng(3).normal(size=(4, 3)).astype(np.float32)


@pytest.mark.parametrize("raw", [True, False])
def test_every_type_in_every_form_reads_as_it_is_stored(tmp_path: Path, raw: bool):
    cases = every_type()
    names = [f"t{kind}" for kind, _ in cases]
    weights = [tensor(f"t{kind}", array, kind, raw=raw) for kind, array in cases]
    path = tmp_path / "m.onnx"
    path.write_bytes(model([helper.make_node("Identity", ["x"], ["y"])], weights))
    with open_checkpoint(path) as found:
        assert (found.format, list(found.header)) == ("onnx", names)
        for name, (kind, array) in zip(names, cases, strict=True):
            if kind in {TensorProto.FLOAT, TensorProto.COMPLEX64} and not raw:
                # Floats of protobuf pass through Python, which quiets signalling NaNs.
                quiet = array.view(np.float32) + np.float32(0)
                assert np.array_equal(found.read(name).view(np.float32), quiet, equal_nan=True)
            else:
                assert same_bits(found.read(name), array), name
        save_like(found, tmp_path / "copy.onnx", found.read)
        # Other values: what was numbers becomes raw bytes, in a model that is still one.
        saved = save_like(found, tmp_path / "other.onnx", lambda n: found.read(n)[::-1].copy())
        assert saved.tensors.keys() == found.header.keys()
        with open_checkpoint(saved.path) as other:
            assert all(same_bits(other.read(n), found.read(n)[::-1].copy()) for n in names)
    assert (tmp_path / "copy.onnx").read_bytes() == path.read_bytes()
    onnx.load(tmp_path / "other.onnx")


@pytest.mark.parametrize("layout", ["inside", "one file", "apart"])
def test_renumbering_in_place_keeps_graph_function_and_layout(tmp_path: Path, layout: str):
    path = tmp_path / "in" / "m.onnx"
    path.parent.mkdir()
    if layout == "inside":
        path.write_bytes(mlp())
    else:
        external(path, mlp(), apart=layout == "apart")
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    order = [4, 2, 0, 1, 3]
    with open_checkpoint(path) as source:
        saved = save_like(source, tmp_path / "b.onnx", renumbered(source.read, order))
        assert set(saved.files) == {p for p in tmp_path.iterdir() if p.is_file()}
        copy = save_like(source, tmp_path / "m.onnx", source.read)
    assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before
    assert len(saved.files) == len(before)
    names = {"inside": set(), "one file": {"b.onnx.data"}}.get(layout)
    if names is not None:
        assert {p.name for p in saved.files} - {"b.onnx"} == names
    one, two = onnx.load(path), onnx.load(saved.path)
    for old, new in zip(one.graph.initializer, two.graph.initializer, strict=True):
        axis = {"fc1.weight": 0, "fc1.bias": 0, "fc2.weight": 1}.get(old.name)
        array = numpy_helper.to_array(old)
        expected = array if axis is None else np.take(array, order, axis)
        assert np.array_equal(numpy_helper.to_array(new), expected)
        old.CopyFrom(new)
    assert one == two  # IR, opset, nodes, names, metadata
    assert np.allclose(run(path, X), run(saved.path, X), rtol=0, atol=1e-6)
    if layout != "apart":
        assert {p.name: p.read_bytes() for p in copy.files} == before


def test_constants_subgraphs_and_functions_have_names_of_their_own(tmp_path: Path):
    path = tmp_path / "m.onnx"
    path.write_bytes(branches())
    with open_checkpoint(path) as found:
        assert set(found.header) == {
            "flag", "times",
            "choose/then_branch/w", "choose/then_branch/b",
            "choose/else_branch/w", "choose/else_branch/b", "choose/else_branch/looped/body/step",
            "z2/then_branch/w", "z2/then_branch/b", "z2/else_branch/w", "z2/else_branch/b",
            "mine::Shift/by",
        }  # fmt: skip
        assert found.header["choose/else_branch/looped/body/step"] == TensorInfo("F32", (1, 4))
        save_like(found, tmp_path / "copy.onnx", found.read)
        order = [3, 0, 2, 1]

        def produce(name: str) -> np.ndarray:
            array = found.read(name)
            return array if not array.ndim else np.ascontiguousarray(array[..., order])

        save_like(found, tmp_path / "turned.onnx", produce)
    assert (tmp_path / "copy.onnx").read_bytes() == path.read_bytes()
    assert np.array_equal(run(tmp_path / "turned.onnx", X), run(path, X)[:, order])


def test_a_model_of_constants_may_have_them_outside(tmp_path: Path):
    path = external(tmp_path / "m.onnx", branches())
    with open_checkpoint(path) as found:
        saved = save_like(found, tmp_path / "copy.onnx", found.read)
        assert {p.name for p in saved.files} == {"copy.onnx", "copy.onnx.data"}
    # onnxruntime loads neither: it does not find the data of a function's constants.
    assert onnx.load(saved.path) == onnx.load(path)


def test_what_no_array_can_hold_is_kept_and_named(tmp_path: Path):
    text = helper.make_tensor("words", TensorProto.STRING, [2], [b"a", b"b"])
    four = TensorProto(name="four", data_type=TensorProto.INT4, dims=[2], raw_data=b"\x21")
    path = tmp_path / "m.onnx"
    made = onnx.load_from_string(mlp())
    made.graph.initializer.extend([text, four])
    path.write_bytes(made.SerializeToString())
    with open_checkpoint(path) as found:
        assert "words" not in found.header
        assert "kept as they are: words (STRING), four (INT4)" in found.notes[0]
        save_like(found, tmp_path / "out.onnx", found.read)
        saved = save_like(found, tmp_path / "out.safetensors", found.read)
    assert (tmp_path / "out.onnx").read_bytes() == path.read_bytes()
    assert saved.notes == ("left behind: the graph, words, four",)


def test_the_graph_keeps_its_types(tmp_path: Path):
    path = tmp_path / "m.onnx"
    path.write_bytes(mlp())
    with open_checkpoint(path) as found:
        header = {n: TensorInfo("F16", i.shape) for n, i in found.header.items()}
        with pytest.raises(OutputError, match=r"takes 'fc1.weight' as F32 \[5, 3\], not as F16"):
            save_like(
                found,
                tmp_path / "o.onnx",
                lambda n: found.read(n).astype(np.float16),
                header=header,
            )
    assert [p.name for p in tmp_path.iterdir()] == ["m.onnx"]


def test_weights_stored_as_one_are_tied(tmp_path: Path):
    path = external(tmp_path / "m.onnx", mlp(widths=(3, 3, 3)))
    made = onnx.load(path, load_external_data=False)
    first, second = (t for t in made.graph.initializer if t.name.endswith("weight"))
    for one, other in zip(first.external_data, second.external_data, strict=True):
        other.CopyFrom(one)
    path.write_bytes(made.SerializeToString())
    with open_checkpoint(path) as found:
        assert found.tied == {"fc2.weight": "fc1.weight"}
        save_like(found, tmp_path / "copy.onnx", found.read)
        with pytest.raises(OutputError, match="stored as one, and they now differ"):
            save_like(found, tmp_path / "o.onnx", renumbered(found.read, [2, 0, 1]))
    left = {p.name for p in tmp_path.iterdir()}
    assert left == {"m.onnx", "m.onnx.data", "copy.onnx", "copy.onnx.data"}


def test_model_and_data_appear_together_or_not_at_all(tmp_path: Path, monkeypatch):
    path = external(tmp_path / "m.onnx", mlp())
    (tmp_path / "o.onnx.data").write_text("mine")
    with open_checkpoint(path) as found:
        with pytest.raises(OutputError, match=r"o\.onnx\.data: exists already"):
            save_like(found, tmp_path / "o.onnx", found.read)
        assert not (tmp_path / "o.onnx").exists()
        save_like(found, tmp_path / "o.onnx", found.read, force=True)
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        real = Path.rename

        def fail(self, target):
            if Path(target).name == "o.onnx" and not state:
                state.append(1)
                raise OSError(28, "No space left on device")
            return real(self, target)

        state: list[int] = []
        monkeypatch.setattr(Path, "rename", fail)
        with pytest.raises(OutputError, match="the disk is full"):
            save_like(
                found, tmp_path / "o.onnx", renumbered(found.read, [1, 0, 2, 4, 3]), force=True
            )
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_data_of_the_input_is_never_written_over(tmp_path: Path):
    path = external(tmp_path / "m.onnx", mlp(), location="o.onnx.data")
    with open_checkpoint(path) as found, pytest.raises(OutputError, match="is the input itself"):
        save_like(found, tmp_path / "o.onnx", found.read, force=True)


def with_location(path: Path, **entries: str) -> None:
    made = onnx.load(path, load_external_data=False)
    for kept in made.graph.initializer:
        if kept.name == "fc1.weight":
            values = {e.key: e.value for e in kept.external_data} | entries
            del kept.external_data[:]
            for key, text in values.items():
                kept.external_data.add(key=key, value=text)
    path.write_bytes(made.SerializeToString())


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "a/../../secret", "..\\secret", "C:\\secret", "",
                 "link", "folder/secret", "a\0b"],
)  # fmt: skip
def test_nothing_outside_the_models_folder_is_read(tmp_path: Path, location: str, monkeypatch):
    (tmp_path / "secret").write_bytes(bytes(1000))
    (tmp_path / "in").mkdir()
    path = external(tmp_path / "in" / "m.onnx", mlp())
    (tmp_path / "in" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "in" / "folder").symlink_to(tmp_path)
    with_location(path, location=location)
    opened = []
    real = Path.open
    monkeypatch.setattr(
        Path, "open", lambda self, *a, **k: opened.append(self.name) or real(self, *a, **k)
    )
    refused(path, "not in the model's folder")
    assert "secret" not in opened


def test_missing_wrong_and_lying_data(tmp_path: Path):
    path = external(tmp_path / "m.onnx", mlp())
    whole = path.read_bytes()
    cases = {
        "which is missing beside the model": {"location": "gone"},
        "no regular file": {"location": "folder"},
        "the model itself": {"location": "m.onnx"},
        "said to end at": {"offset": "100000000"},
        "external data is said to have 4": {"length": "4"},
        "the offset of external data is '-1'": {"offset": "-1"},
        "overlap in": {"offset": "4"},
    }
    (tmp_path / "folder").mkdir()
    for reason, entries in cases.items():
        path.write_bytes(whole)
        with_location(path, **entries)
        refused(path, reason)


def test_links_of_a_cache_are_followed(tmp_path: Path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "1"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    path = external(blobs / "m.onnx", mlp())
    path.rename(blobs / "abc")
    (blobs / "m.onnx.data").rename(blobs / "def")
    (snapshot / "m.onnx").symlink_to("../../blobs/abc")
    (snapshot / "m.onnx.data").symlink_to("../../blobs/def")
    with open_checkpoint(snapshot / "m.onnx") as found:
        assert found.read("fc1.bias").shape == (5,)


def test_shapes_that_lie(tmp_path: Path):
    path = tmp_path / "m.onnx"
    for dims in ([5, 4], [2**40, 3], [2**62, 2**62], [-1], [0]):
        made = onnx.load_from_string(mlp())
        del made.graph.initializer[0].dims[:]
        made.graph.initializer[0].dims.extend(dims)
        path.write_bytes(made.SerializeToString())
        refused(path, "fc1.weight")
    for kind in (TensorProto.INT32, TensorProto.FLOAT16, TensorProto.BOOL):
        numbers = TensorProto(name="w", data_type=kind, dims=[2], int32_data=[70_000, 1 << 30])
        made = onnx.load_from_string(mlp())
        made.graph.initializer.append(numbers)
        path.write_bytes(made.SerializeToString())
        if kind != TensorProto.INT32:
            refused(path, "too large for its type")
        numbers.dims[0] = 3
        made.graph.initializer[-1].CopyFrom(numbers)
        path.write_bytes(made.SerializeToString())
        refused(path, "3 elements, found 2" if kind == TensorProto.INT32 else "")


def test_two_weights_of_one_name_and_weights_without_a_name(tmp_path: Path):
    path = tmp_path / "m.onnx"
    for name, reason in (("fc1.bias", "two weights are called 'fc1.bias'"), ("", "has no name")):
        made = onnx.load_from_string(mlp())
        made.graph.initializer[0].name = name
        path.write_bytes(made.SerializeToString())
        refused(path, reason)


def test_graphs_nested_without_end(tmp_path: Path):
    def field(number: int, data: bytes) -> bytes:
        return varint(number << 3 | 2) + varint(len(data)) + data

    graph = b""
    for _ in range(2000):  # node 1, attribute 5, graph 6
        graph = field(1, field(5, field(6, graph)))
    (tmp_path / "m.onnx").write_bytes(b"\x08\x08" + field(7, graph))
    refused(tmp_path / "m.onnx", "nested too deeply")


def test_cyclic_graphs_hold_their_weights_like_any_other(tmp_path: Path):
    made = onnx.load_from_string(mlp())
    made.graph.node[0].input[0], made.graph.node[0].output[0] = "y", "h"
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    with open_checkpoint(tmp_path / "m.onnx") as found:
        assert len(found.header) == 4


@pytest.mark.parametrize("text", [b"<html>", b"version https://git-lfs.github.com/spec/v1\n", b"x"])
def test_files_that_only_bear_the_name(tmp_path: Path, text: bytes):
    (tmp_path / "m.onnx").write_bytes(text)
    refused(tmp_path / "m.onnx")


def small_models() -> list[bytes]:
    kinds = [tensor(f"t{k}", a[:1, :2], k, raw=k % 2 == 0) for k, a in every_type()]
    return [mlp(), branches(), model([helper.make_node("Identity", ["x"], ["y"])], kinds)]


MODELS = small_models()


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_an_error_and_nothing_else(tmp_path: Path, data: st.DataObject):
    content = bytearray(data.draw(st.sampled_from(MODELS)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.none() | st.integers(0, len(content)))
    path, out = tmp_path / "m.onnx", tmp_path / "out.onnx"
    path.write_bytes(content[:cut])
    try:
        with open_checkpoint(path) as found:
            for name in found.header:
                found.read(name)
            save_like(found, out, found.read, force=True)
            assert out.read_bytes() == path.read_bytes()
    except RebasinError:
        pass


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_models_with_external_data_read_nothing_else(tmp_path: Path, data: st.DataObject):
    path = tmp_path / "m.onnx"
    if not (tmp_path / "whole").exists():
        external(path, mlp())
        path.rename(tmp_path / "whole")
    content = bytearray((tmp_path / "whole").read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    inside = os.path.realpath(tmp_path)
    try:
        with open_checkpoint(path) as found:
            assert all(os.path.realpath(f).startswith(inside) for f in found.files)
            for name in found.header:
                found.read(name)
    except RebasinError:
        pass
