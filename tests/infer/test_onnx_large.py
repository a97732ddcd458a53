"""ONNX models with large values, which are read where they lie."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, numpy_helper  # noqa: E402
from onnx_nets import NODE, array, graph, integers, save, weight  # noqa: E402

from rebasin_hub.errors import DetectionError, FormatError, OutputError  # noqa: E402
from rebasin_hub.formats import open_checkpoint  # noqa: E402
from rebasin_hub.formats.onnx import places, write  # noqa: E402
from rebasin_hub.infer import infer_spec, onnx_session, run_rules  # noqa: E402
from rebasin_hub.infer.onnx_probe import Place, Probe  # noqa: E402
from rebasin_hub.infer.onnx_source import from_onnx, read_onnx  # noqa: E402
from rebasin_hub.pipeline.canonicalize import canonicalize  # noqa: E402

MIB = 1 << 20
LIMIT = 1000
"""Bytes from which on a value is large here."""
WAYS = {"inside": (), "beside": (0, ""), "at odd places": (1, ""), "in folders": (0, "{name}/")}


def moved_out(model, folder, offset, place):
    """Put the values of all weights but the smallest into files beside the model."""
    for number, tensor in enumerate(model.graph.initializer):
        values = numpy_helper.to_array(tensor).tobytes()
        if len(values) < LIMIT:
            continue
        location = place.format(name=tensor.name) + f"{number}.data"
        (folder / location).parent.mkdir(exist_ok=True)
        (folder / location).write_bytes(b"?" * offset + values)
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        places = {"location": location, "offset": offset, "length": len(values)}
        for key, value in places.items():
            tensor.external_data.add(key=key, value=str(value))


def net(folder, way="inside", inner=300):
    """Save a network that computes with a transposed matrix and one of whole numbers."""
    made = graph(
        [
            NODE("MatMul", ["x", "a"], ["h"]),
            NODE("Gather", ["h", "order"], ["g"], axis=0),
            NODE("Transpose", ["b"], ["t"], perm=[1, 0]),
            NODE("DequantizeLinear", ["q", "scale"], ["w"]),
            NODE("MatMul", ["g", "t"], ["u"]),
            NODE("MatMul", ["u", "w"], ["y"]),
        ],
        [2, 4],
        [500, 30],
        [
            weight("a", 4, inner),
            array("order", [0, 1] * 250, np.int64),
            weight("b", inner, inner),
            integers("q", inner, 30),
            array("scale", 0.1, np.float32),
        ],
    )
    path = save(folder / "m.onnx", made, check=False)
    if WAYS[way]:
        model = onnx.load(path)
        moved_out(model, folder, *WAYS[way])
        path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def messages(monkeypatch):
    """Return the sizes of the messages from which sessions are made."""
    monkeypatch.setattr(onnx_session, "LARGE", LIMIT)
    sizes = []
    session = onnx_session.onnxruntime.InferenceSession

    def watched(content, *args, **options):
        sizes.append(len(content))
        return session(content, *args, **options)

    monkeypatch.setattr(onnx_session.onnxruntime, "InferenceSession", watched)
    return sizes


def spec_of(path, *, certified):
    source = from_onnx(path, {}, seed=0, certified=certified)
    found = infer_spec(run_rules(source.graph), "net", "net", source.runner)
    assert not certified or not (found.certificate.removed or found.certificate.unnoticed)
    return found.written.text


@pytest.mark.parametrize("certified", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_messages_hold_no_large_values_and_nothing_else_changes(
    tmp_path, messages, monkeypatch, way, certified
):
    path = net(tmp_path, way)
    text = spec_of(path, certified=certified)
    assert messages[0] < 2 * LIMIT
    monkeypatch.setattr(onnx_session, "LARGE", 100 * MIB)
    messages.clear()
    assert spec_of(path, certified=certified) == text
    assert messages[0] > 300 * 300 * 4


def test_large_values_beside_a_model_are_mapped(tmp_path, messages):
    _, header, weights, apart = read_onnx(net(tmp_path, "beside"))
    assert apart.mapped.keys() == {"a", "b", "q", "order"}
    assert not apart.arrays
    assert {name for name in header if isinstance(weights[name].base, np.memmap)} == {*apart.mapped}
    _, _, weights, apart = read_onnx(net(tmp_path, "at odd places"))
    assert apart.mapped.keys() == {"q"}
    assert apart.arrays.keys() == {"a", "b", "order"}
    _, _, again, apart = read_onnx(net(tmp_path, "in folders"))
    assert [name for name in header if name in apart.mapped] == ["b"]  # one folder: the largest
    for name, values in weights.items():
        np.testing.assert_array_equal(again[name], values)


def test_of_what_is_made_of_weights_alone_only_shapes_are_seen(tmp_path, messages):
    path = net(tmp_path)
    model, header, weights, apart = read_onnx(path)
    seen = Probe(Place(path, header, apart), model).run({"x": np.ones((2, 4), np.float32)})
    assert seen.shapes == {"t": (300, 300), "w": (300, 30)}
    assert seen.values.keys() == {"h", "g", "u", "y"}
    expected = (np.ones((2, 4)) @ weights["a"])[weights["order"]]
    np.testing.assert_allclose(seen.values["g"], expected, rtol=1e-5)


def test_large_constants_of_the_program_keep_their_values(tmp_path, messages):
    graph = from_onnx(net(tmp_path, "beside"), {}, seed=0, certified=False).graph
    np.testing.assert_array_equal(graph.constants["order"], [0, 1] * 250)
    assert graph.shapes["t"] == (300, 300)


@pytest.mark.parametrize("way", WAYS)
def test_large_values_are_renumbered_where_they_lie(tmp_path, monkeypatch, way):
    monkeypatch.setattr(onnx_session, "LARGE", LIMIT)
    path = net(tmp_path, way)
    done = canonicalize(path)
    assert min(done.moved.values()) > 250
    with open_checkpoint(path) as old, open_checkpoint(done.output) as new:
        assert old.header == new.header
        before, after = old.read("a"), new.read("a")
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(np.sort(after, axis=1), np.sort(before, axis=1))
    x = np.random.default_rng(0).standard_normal((2, 4)).astype(np.float32)
    plain = onnxruntime.SessionOptions()  # whose operators compute what they are said to
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    sessions = [onnxruntime.InferenceSession(str(one), plain) for one in (path, done.output)]
    one, other = (session.run(None, {"x": x})[0] for session in sessions)
    np.testing.assert_allclose(other, one, rtol=0, atol=1e-5 * np.abs(one).max())


def test_what_protobuf_cannot_read_is_said_to_be_too_large(tmp_path, monkeypatch):
    path = net(tmp_path)
    with open_checkpoint(path) as opened:
        assert opened.read("b").shape == (300, 300)  # positions are all that is needed for that
        monkeypatch.setattr(write, "LARGEST", path.stat().st_size - 1)
        with pytest.raises(OutputError, match="2 GiB that protobuf reads; save it with external"):
            canonicalize(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["m.onnx"]
    monkeypatch.setattr(places, "LARGEST", path.stat().st_size - 1)
    with pytest.raises(FormatError, match=r"2 GiB that protobuf reads.* external data"):
        from_onnx(path, {}, seed=0)
    with pytest.raises(DetectionError, match="2 GiB"):
        canonicalize(path)
