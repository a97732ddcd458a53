"""Inference on ONNX graphs: dynamic shapes, recurrent layers, subgraphs, quantities of a run."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from rebasin_hub.errors import InputError, RebasinError  # noqa: E402
from rebasin_hub.infer import infer_spec, run_rules  # noqa: E402
from rebasin_hub.infer.onnx_source import from_onnx  # noqa: E402

NODE = helper.make_node


def weight(name, *shape, positive=False):
    rng = np.random.default_rng(len(name) + sum(shape))
    values = rng.uniform(0.5, 2, shape) if positive else rng.standard_normal(shape)
    return numpy_helper.from_array(values.astype(np.float32), name)


def numbers(name, values):
    return numpy_helper.from_array(np.array(values, np.int64), name)


@pytest.fixture
def write(tmp_path):
    def call(nodes, shape, result, weights):
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)],
            weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
        model.ir_version = 9
        onnx.checker.check_model(model)
        onnx.save(model, tmp_path / "net.onnx")
        return tmp_path / "net.onnx"

    return call


def inferred(path, **shapes):
    source = from_onnx(path, shapes, seed=0)
    found = infer_spec(run_rules(source.graph), "net", "net", source.runner)
    assert not found.certificate.removed
    assert not found.certificate.unnoticed
    groups = found.layout.groups
    return found, sorted(
        ((g.size, groups[g.parent].size if g.parent else None) for g in groups.values()), key=str
    )


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


def test_what_a_branch_reads_is_fixed(write):
    branch = helper.make_graph(
        [NODE("MatMul", ["h", "inner"], ["z"])],
        "branch",
        [],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        [weight("inner", 4, 3)],
    )
    path = write(
        [
            NODE("MatMul", ["x", "a"], ["g"]),
            NODE("Tanh", ["g"], ["r"]),
            NODE("MatMul", ["r", "b"], ["h"]),
            NODE("ReduceSum", ["h"], ["total"], keepdims=0),
            NODE("Greater", ["total", "zero"], ["which"]),
            NODE("If", ["which"], ["y"], name="branches", then_branch=branch, else_branch=branch),
        ],
        ["N", 2],
        ["N", 3],
        [weight("a", 2, 5), weight("b", 5, 4), numpy_helper.from_array(np.float32(0), "zero")],
    )
    found, groups = inferred(path)
    assert groups == [(5, None)]
    assert "onnx.If" in found.layout.flow.unruled
    assert {n for n in found.layout.axes if n.startswith("branches/")}


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
