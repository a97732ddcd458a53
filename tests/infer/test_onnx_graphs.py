"""Inference on ONNX graphs: dynamic shapes, recurrent layers, subgraphs, quantities of a run."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_nets import NODE, array, graph, inferred, save, weight  # noqa: E402

from rebasin_hub.errors import FormatError, InputError, RebasinError  # noqa: E402
from rebasin_hub.infer import onnx_session  # noqa: E402
from rebasin_hub.infer.onnx_source import from_onnx  # noqa: E402


def numbers(name, values):
    return array(name, values, np.int64)


@pytest.fixture
def write(tmp_path):
    def call(nodes, shape, result, weights, *, check=True):
        made = graph(nodes, shape, result, weights)
        return save(tmp_path / "net.onnx", made, opset=17, check=check)

    return call


def test_convolutions(write):
    path = write(
        [
            NODE("Conv", ["x", "w1", "b1"], ["c1"], pads=[1, 1, 1, 1]),
            NODE("BatchNormalization", ["c1", "g", "b", "m", "v"], ["n1"]),
            NODE("Relu", ["n1"], ["r1"]),
            NODE("Conv", ["r1", "dw"], ["d"], group=6, pads=[1, 1, 1, 1]),
            NODE("Conv", ["d", "w2"], ["c2"]),
            NODE("Flatten", ["c2"], ["f"]),
            NODE("Gemm", ["f", "fw", "fb"], ["y"], transB=1),
        ],
        ["N", 3, 4, 4],
        ["N", 4],
        [
            weight("w1", 6, 3, 3, 3),
            *(weight(n, 6) for n in ("b1", "g", "b", "m")),
            weight("v", 6, positive=True),
            weight("dw", 6, 1, 3, 3),
            weight("w2", 5, 6, 1, 1),
            weight("fw", 4, 80),
            weight("fb", 4),
        ],
    )
    found, groups = inferred(path)
    assert groups == [(5, None), (6, None)]
    assert found.layout.statistics == {"m", "v"}


def test_attention_with_computed_shapes(write):
    nodes = []
    for letter, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        nodes += [
            NODE("MatMul", ["x", f"w{letter}"], [f"{letter}0"]),
            NODE("Reshape", [f"{letter}0", "cut"], [f"{letter}1"]),
            NODE("Transpose", [f"{letter}1"], [letter], perm=order),
        ]
    path = write(
        [
            NODE("Shape", ["x"], ["shape"], start=0, end=2),
            NODE("Concat", ["shape", "heads"], ["cut"], axis=0),
            *nodes,
            NODE("MatMul", ["q", "k"], ["s"]),
            NODE("Softmax", ["s"], ["p"], axis=-1),
            NODE("MatMul", ["p", "v"], ["c"]),
            NODE("Transpose", ["c"], ["t"], perm=[0, 2, 1, 3]),
            NODE("Concat", ["shape", "rest"], ["join"], axis=0),
            NODE("Reshape", ["t", "join"], ["m"]),
            NODE("MatMul", ["m", "wo"], ["y"]),
        ],
        ["N", "S", 7],
        ["N", "S", 3],
        [
            *(weight(f"w{letter}", 7, 12) for letter in "qkv"),
            weight("wo", 12, 3),
            numbers("heads", [3, 4]),
            numbers("rest", [-1]),
        ],
    )
    assert inferred(path)[1] == [(3, None), (4, 3), (4, 3)]


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent(write, operator, gates):
    path = write(
        [
            NODE(operator, ["x", "W", "R", "B"], ["h"], hidden_size=5),
            NODE("Squeeze", ["h", "one"], ["s"]),
            NODE("MatMul", ["s", "o"], ["y"]),
        ],
        ["T", "N", 3],
        ["T", "N", 2],
        [
            weight("W", 1, 5 * gates, 3),
            weight("R", 1, 5 * gates, 5),
            weight("B", 1, 10 * gates),
            weight("o", 5, 2),
            numbers("one", [1]),
        ],
    )
    assert inferred(path)[1] == [(5, None)]


@pytest.mark.parametrize(("operator", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_recurrent_in_both_directions(write, operator, gates):
    peepholes = ["", "", "", "P"] if operator == "LSTM" else []
    path = write(
        [
            NODE("MatMul", ["x", "i"], ["j"]),
            NODE(operator, ["j", "W", "R", "B", *peepholes], ["h"], hidden_size=5,
                 direction="bidirectional"),
            NODE("Transpose", ["h"], ["t"], perm=[0, 2, 1, 3]),
            NODE("Reshape", ["t", "joined"], ["s"]),
            NODE("MatMul", ["s", "o"], ["y"]),
        ],
        ["T", "N", 3],
        ["T", "N", 2],
        [
            weight("i", 3, 4),
            weight("W", 2, 5 * gates, 4),
            weight("R", 2, 5 * gates, 5),
            weight("B", 2, 10 * gates),
            *([weight("P", 2, 15)] if peepholes else []),
            weight("o", 10, 2),
            numbers("joined", [0, 0, 10]),
        ],
    )  # fmt: skip
    # Both directions are renumbered alike.
    assert inferred(path)[1] == [(4, None), (5, None)]


def test_windows_that_overlap_many_times(write):
    """Cutting them makes a chain of a thousand atoms, which no recursion may follow."""
    size, window, hop = 4004, 8, 4
    early = [0], [size - hop], [1]
    late = [hop], [size], [1]
    names = [[f"{n}{k}" for k in ("start", "end", "axis")] for n in ("a", "b")]
    path = write(
        [
            NODE("MatMul", ["x", "w"], ["h"]),
            NODE("Slice", ["h", *names[0]], ["p"]),
            NODE("Slice", ["h", *names[1]], ["q"]),
            NODE("Reshape", ["p", "cut"], ["p1"]),
            NODE("Reshape", ["q", "cut"], ["q1"]),
            NODE("Concat", ["p1", "q1"], ["f"], axis=2),
            NODE("MatMul", ["f", "v"], ["y"]),
        ],
        [2, 3],
        [2, size // hop - 1, 2],
        [
            weight("w", 3, size),
            weight("v", window, 2),
            *map(numbers, names[0], early),
            *map(numbers, names[1], late),
            numbers("cut", [2, -1, hop]),
        ],
    )
    assert inferred(path)[1] == [(4, None)]


def test_names_that_yaml_takes_for_something_else(write):
    path = write(
        [NODE("MatMul", ["x", "215"], ["h"]), NODE("MatMul", ["h", "no"], ["y"])],
        ["N", 3],
        ["N", 2],
        [weight("215", 3, 5), weight("no", 5, 2), weight("nothing", 0)],
    )
    found, groups = inferred(path)
    assert groups == [(5, None)]
    assert "nothing: holds no elements" in found.written.text


def test_a_model_that_does_not_run(write):
    path = write([NODE("MatMul", ["x", "a"], ["y"])], ["N", "M"], ["N", 3], [weight("a", 5, 3)])
    with pytest.raises(InputError, match="give --inputs"):
        inferred(path)
    assert inferred(path, x=(2, 5))[1] == []
    with pytest.raises(InputError, match="its inputs are x"):
        inferred(path, z=(2, 5))


def test_damaged_files_give_known_errors(write):
    path = write([NODE("MatMul", ["x", "a"], ["y"])], ["N", 5], ["N", 3], [weight("a", 5, 3)])
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        path.write_bytes(
            bytes(data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.3 else data)
        )
        try:
            from_onnx(path, {}, seed=0)
        except RebasinError:
            continue


@pytest.mark.parametrize("nodes", [
    [NODE("Add", ["x", "b"], ["a"]), NODE("Add", ["a", "x"], ["b"]), NODE("Neg", ["b"], ["y"])],
    [NODE("Neg", ["y"], ["y"])],
    [NODE("Add", ["x", "nowhere"], ["y"])],
    [NODE("Neg", ["x"], ["y"]), NODE("Neg", ["x"], ["y"])],
])  # fmt: skip
def test_graphs_that_are_none(write, nodes):
    path = write(nodes, [2, 3], [2, 3], [], check=False)
    with pytest.raises(InputError, match="onnxruntime cannot run it"):
        from_onnx(path, {}, seed=0)


def test_shapes_that_lie(write):
    tensor = weight("a", 5, 3)
    tensor.dims[0] = 50
    path = write([NODE("MatMul", ["x", "a"], ["y"])], ["N", 5], ["N", 3], [tensor], check=False)
    with pytest.raises(FormatError, match="'a'"):
        from_onnx(path, {}, seed=0)
    path = write([NODE("MatMul", ["x", "a"], ["y"])], [2, 7], [9, 9], [weight("a", 5, 3)],
                 check=False)  # fmt: skip
    with pytest.raises(InputError, match=r"cannot run it|does not run"):
        from_onnx(path, {}, seed=0)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("missing.bin", "missing"),
        ("../secret.bin", "not in the model's folder"),
        ("/etc/hostname", "not in the model's folder"),
        ("link.bin", "not in the model's folder"),
    ],
)
def test_values_that_lie_elsewhere(write, tmp_path, location, said):
    (tmp_path.parent / "secret.bin").write_bytes(bytes(60))
    (tmp_path / "link.bin").symlink_to(tmp_path.parent / "secret.bin")
    tensor = weight("a", 5, 3)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    path = write([NODE("MatMul", ["x", "a"], ["y"])], ["N", 5], ["N", 3], [tensor], check=False)
    with pytest.raises(FormatError, match=said):
        from_onnx(path, {}, seed=0)


def test_a_model_too_large_for_one_message(write, monkeypatch):
    """Its weights are handed over one by one; here all models are too large."""
    path = write(
        [
            NODE("MatMul", ["x", "a"], ["h"]),
            NODE("Reshape", ["h", "shape"], ["g"]),
            NODE("MatMul", ["g", "b"], ["y"]),
        ],
        [2, 3],
        [2, 5],
        [weight("a", 3, 300), weight("b", 300, 5), numbers("shape", [2, 300])],
    )
    whole = inferred(path)
    monkeypatch.setattr(onnx_session, "MOST_BYTES", 0)
    sizes = []
    real = onnx_session.onnxruntime.InferenceSession

    def session(content, *args, **kwargs):
        sizes.append(len(content))
        return real(content, *args, **kwargs)

    monkeypatch.setattr(onnx_session.onnxruntime, "InferenceSession", session)
    found, groups = inferred(path)
    assert groups == [(300, None)] == whole[1]
    assert found.written.text == whole[0].written.text
    assert max(sizes) < 3 * 300 * 4
