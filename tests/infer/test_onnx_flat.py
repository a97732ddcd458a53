"""Functions and branches of ONNX models, put where they are called."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402
from onnx_nets import NODE, array, graph, inferred, save, weight  # noqa: E402

from rebasin_hub.errors import InputError  # noqa: E402
from rebasin_hub.infer.onnx_source import from_onnx, read_onnx  # noqa: E402

ZERO = array("zero", 0, np.float32)


def branch(name, *nodes, weights=(), outputs=("out",)):
    values = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
    return helper.make_graph(list(nodes), name, [], values, list(weights))


def reads_hidden(name, width=None):
    """Return a branch that maps the 6 hidden units of `h` to 3 outputs, maybe by another layer."""
    if width is None:
        return branch(name, NODE("MatMul", ["h", "v"], ["out"]), weights=[weight("v", 6, 3)])
    return branch(
        name,
        NODE("MatMul", ["h", "v"], ["g"]),
        NODE("Constant", [], ["u"], value=weight("u", width, 3)),
        NODE("MatMul", ["g", "u"], ["out"]),
        weights=[weight("v", 6, width)],
    )


def model(then, other, *condition, weights=(), functions=()):
    return graph(
        [
            NODE("MatMul", ["x", "a"], ["h"]),
            *condition,
            NODE("If", ["which"], ["y"], name="choose", then_branch=then, else_branch=other),
        ],
        ["N", 4],
        ["N", 3],
        [weight("a", 4, 6), ZERO, *weights],
    )


COMPUTED = (
    NODE("ReduceSum", ["x"], ["total"], keepdims=0),
    NODE("Greater", ["total", "zero"], ["which"]),
)


def test_both_branches_of_a_computed_choice(tmp_path):
    made = model(reads_hidden("t", 5), reads_hidden("e", 8), *COMPUTED)
    path = save(tmp_path / "m.onnx", made)
    found, groups = inferred(path)
    assert groups == [(5, None), (6, None), (8, None)]
    places = {n: [found.layout.labels.size(a) for a in e] for n, e in found.layout.axes.items()}
    assert places["choose/then_branch/v"] == [6, 5]
    assert places["choose/else_branch/u"] == [8, 3]
    assert found.layout.share == 1


def test_the_branch_that_shapes_decide(tmp_path):
    shape = [
        NODE("Shape", ["x"], ["shape"]),
        NODE("Gather", ["shape", "last"], ["width"]),
        NODE("Equal", ["width", "four"], ["which"]),
    ]
    numbers = [array("last", 1, np.int64), array("four", 4, np.int64)]
    # Where the condition holds always, what does not fit in the other branch does no harm.
    wrong = branch("e", NODE("Add", ["h", "b"], ["out"]), weights=[weight("b", 6)])
    path = save(tmp_path / "m.onnx", model(reads_hidden("t", 5), wrong, *shape, weights=numbers))
    found, groups = inferred(path)
    assert groups == [(5, None), (6, None)]
    unread = {f.tensor for f in found.layout.fixed if "does not read" in f.reason.what}
    assert unread == {"choose/else_branch/b"}


@pytest.mark.parametrize("width", [1, 5])
def test_results_of_different_shapes_fix_what_they_read(tmp_path, width):
    """Even where one of them could be broadcast to the other."""
    other = branch("e", NODE("MatMul", ["h", "b"], ["out"]), weights=[weight("b", 6, width)])
    path = save(tmp_path / "m.onnx", model(reads_hidden("t"), other, *COMPUTED))
    found, groups = inferred(path)
    assert groups == []
    assert found.layout.flow.unruled == {"onnx.If": 1}


def test_a_choice_inside_a_choice(tmp_path):
    inner = branch(
        "t",
        NODE("MatMul", ["h", "v"], ["g"]),
        NODE(
            "If",
            ["which"],
            ["out"],
            name="again",
            then_branch=branch("tt", NODE("MatMul", ["g", "w"], ["in"]), outputs=["in"],
                               weights=[weight("w", 5, 3)]),
            else_branch=branch("te", NODE("MatMul", ["g", "w"], ["in"]), outputs=["in"],
                               weights=[weight("w", 5, 3)]),
        ),
        weights=[weight("v", 6, 5)],
    )  # fmt: skip
    path = save(tmp_path / "m.onnx", model(inner, reads_hidden("e"), *COMPUTED))
    found, groups = inferred(path)
    assert groups == [(5, None), (6, None)]
    # The names are those of the checkpoint's tensors.
    assert read_onnx(path)[1].keys() == found.layout.axes.keys()
    assert "choose/then_branch/again/else_branch/w" in found.layout.axes


def function(name, inputs, outputs, nodes):
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    return helper.make_function("own", name, inputs, outputs, nodes, opsets)


def calls(tmp_path, *functions, name="layer"):
    made = graph(
        [
            NODE(name, ["x", "a"], ["h"], domain="own"),
            NODE(name, ["h", "b"], ["y"], domain="own"),
        ],
        ["N", 4],
        ["N", 3],
        [weight("a", 4, 6), weight("b", 6, 3)],
    )
    return save(tmp_path / "m.onnx", made, functions=functions, domains=["own"], check=False)


def test_functions_stand_where_they_are_called(tmp_path):
    inner = function("act", ["i"], ["o"], [NODE("Tanh", ["i"], ["o"])])
    outer = function(
        "layer",
        ["i", "w"],
        ["o"],
        [NODE("MatMul", ["i", "w"], ["t"]), NODE("act", ["t"], ["o"], domain="own")],
    )
    assert inferred(calls(tmp_path, inner, outer))[1] == [(6, None)]


def test_functions_that_never_end(tmp_path):
    itself = function("layer", ["i", "w"], ["o"], [NODE("layer", ["i", "w"], ["o"], domain="own")])
    with pytest.raises(InputError, match="calls itself"):
        from_onnx(calls(tmp_path, itself), {}, seed=0)


def test_functions_that_grow_beyond_measure(tmp_path):
    """Every function calls the next one ten times."""
    functions = [function("f9", ["i", "w"], ["o"], [NODE("Add", ["i", "w"], ["o"])])]
    for number in range(9):
        chain = [
            NODE(f"f{number + 1}", [f"t{k}" if k else "i", "w"], [f"t{k + 1}" if k < 9 else "o"],
                 domain="own")
            for k in range(10)
        ]  # fmt: skip
        functions.append(function(f"f{number}", ["i", "w"], ["o"], chain))
    with pytest.raises(InputError, match="more than 200,000 operators"):
        from_onnx(calls(tmp_path, *functions, name="f0"), {}, seed=0)
