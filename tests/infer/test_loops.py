"""Loop and Scan: what happens in their bodies counts as what happens around them."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from loop_nets import around, axes_of, body, fixed, loop, recurrent, scan, turns  # noqa: E402
from onnx_nets import NODE, array, graph, inferred, save, weight  # noqa: E402

from rebasin_hub.formats import open_checkpoint  # noqa: E402


def test_a_recurrent_cell_that_is_written_as_a_scan(tmp_path):
    found, groups = inferred(recurrent(tmp_path))
    assert groups == [(5, None), (6, None)]
    assert found.layout.share == 1
    hidden = axes_of(found, "run/body/R")[0]
    assert axes_of(found, "run/body/R") == [hidden, hidden]
    assert axes_of(found, "run/body/gain") == [hidden]
    assert axes_of(found, "o")[0] == hidden == axes_of(found, "start")[1]
    assert axes_of(found, "run/body/W") == [axes_of(found, "i")[1], hidden]


def test_a_scan_along_other_axes(tmp_path):
    """Parts are taken along the second axis, and laid along the last."""
    made = graph(
        [
            NODE("MatMul", ["x", "i"], ["e"]),
            scan(
                ["e"],
                ["all"],
                ["part"],
                ["seen"],
                NODE("MatMul", ["part", "w"], ["seen"]),
                scanned=1,
                weights=[weight("w", 5, 6)],
                scan_input_axes=[1],
                scan_input_directions=[1],
                scan_output_axes=[-1],
                scan_output_directions=[1],
            ),
            NODE("Transpose", ["all"], ["d"], perm=[0, 2, 1]),
            NODE("MatMul", ["d", "o"], ["y"]),
        ],
        [2, 7, 4],
        [2, 7, 3],
        [weight("i", 4, 5), weight("o", 6, 3)],
    )
    found, groups = inferred(save(tmp_path / "m.onnx", made))
    assert groups == [(5, None), (6, None)]
    assert found.layout.share == 1


def test_a_loop_over_weights_around_it_and_in_it(tmp_path):
    path = around(
        tmp_path,
        turns(
            "h",
            "d",
            NODE("MatMul", ["s", "outer"], ["u"]),
            NODE("Relu", ["u"], ["v"]),
            NODE("MatMul", ["v", "inner"], ["w"]),
            NODE("Add", ["w", "h"], ["t"]),
            weights=[weight("inner", 7, 5)],
        ),
        weights=[weight("outer", 5, 7)],
    )
    found, groups = inferred(path)
    assert groups == [(5, None), (7, None)]
    assert found.layout.share == 1
    assert axes_of(found, "repeat/body/inner") == axes_of(found, "outer")[::-1]


def test_the_turns_of_a_stacked_value_keep_their_order(tmp_path):
    """The stack of what the turns gave is read by two matrices along the axis of turns."""
    path = around(
        tmp_path,
        loop(
            ["h"],
            ["", "all"],
            ["s"],
            ["t", "s2"],
            NODE("MatMul", ["s", "i"], ["t"]),
            NODE("Identity", ["t"], ["s2"]),
            weights=[weight("i", 5, 5)],
        ),
        NODE("Transpose", ["all"], ["turned"], perm=[1, 2, 0]),
        NODE("MatMul", ["turned", "mix"], ["m"]),
        NODE("MatMul", ["turned", "mix too"], ["n"]),
        NODE("Mul", ["m", "n"], ["mixed"]),
        NODE("MatMul", ["mixed", "again"], ["one"]),
        NODE("Squeeze", ["one", "last"], ["d"]),
        weights=[
            weight("mix", 3, 6),
            weight("mix too", 3, 6),
            weight("again", 6, 1),
            array("last", [2], np.int64),
        ],
    )
    found, groups = inferred(path)
    assert groups == [(5, None), (6, None)]
    assert {("mix", 0), ("mix too", 0)} <= fixed(found)


def test_the_turns_of_a_scanned_value_keep_their_order(tmp_path):
    """Two layers give what is scanned, one unit after another."""
    path = around(
        tmp_path,
        NODE("MatMul", ["x", "w"], ["p"]),
        NODE("MatMul", ["x", "v"], ["q"]),
        NODE("Mul", ["p", "q"], ["e"]),
        scan(
            ["h", "e"],
            ["d"],
            ["s", "part"],
            ["t"],
            NODE("Unsqueeze", ["part", "one"], ["u"]),
            NODE("MatMul", ["s", "r"], ["m"]),
            NODE("Mul", ["m", "u"], ["n"]),
            NODE("Add", ["n", "u"], ["t"]),
            scanned=1,
            scan_input_axes=[1],
            weights=[weight("r", 5, 5)],
        ),
        weights=[weight("w", 4, 3), weight("v", 4, 3), array("one", [1], np.int64)],
    )
    found, groups = inferred(path)
    assert groups == [(5, None)]
    assert {("w", 1), ("v", 1)} <= fixed(found)


def test_an_axis_that_a_turn_does_not_map_to_itself(tmp_path):
    """The state is moved by one place: only all places together would stay what they are."""
    path = around(
        tmp_path,
        turns(
            "h",
            "d",
            NODE("Split", ["s"], ["p", "q"], axis=1, num_outputs=2),
            NODE("Concat", ["q", "p"], ["t"], axis=1),
        ),
        hidden=6,
    )
    # Both halves trade places, so that they may be renumbered, but only alike.
    found, groups = inferred(path)
    assert groups == [(3, None)]
    path = around(
        tmp_path,
        turns(
            "h",
            "d",
            NODE("Slice", ["s", "zero", "one", "one"], ["p"]),
            NODE("Slice", ["s", "one", "six", "one"], ["q"]),
            NODE("Concat", ["q", "p"], ["t"], axis=1),
        ),
        hidden=6,
        weights=[array(n, [v], np.int64) for n, v in (("zero", 0), ("one", 1), ("six", 6))],
    )
    found, groups = inferred(path)
    assert groups == []
    # Each place has become a part of its own.
    assert axes_of(found, "a")[1] == ()


def test_states_that_trade_places_are_renumbered_alike(tmp_path):
    path = around(
        tmp_path,
        loop(
            ["h", "g"],
            ["d", "f"],
            ["s", "t"],
            ["t2", "s2"],
            NODE("Tanh", ["t"], ["t2"]),
            NODE("MatMul", ["s", "i"], ["s2"]),
            weights=[weight("i", 5, 5)],
        ),
        before=[NODE("MatMul", ["x", "b"], ["g"])],
        weights=[weight("b", 4, 5)],
    )
    found, groups = inferred(path)
    assert groups == [(5, None)]
    (hidden,) = {axes_of(found, "a")[1], axes_of(found, "b")[1], *axes_of(found, "repeat/body/i")}
    assert len(hidden) == 1


def test_a_state_that_begins_with_zeros_is_no_constant(tmp_path):
    path = around(
        tmp_path,
        turns("none", "d", NODE("Add", ["s", "h"], ["t"])),
        weights=[array("none", np.zeros((2, 5)), np.float32)],
    )
    found, groups = inferred(path)
    assert groups == [(5, None)]
    assert axes_of(found, "a")[1] == axes_of(found, "c")[0]


def test_a_loop_in_a_loop_and_a_choice_in_it(tmp_path):
    def branch(width):
        return body(
            [],
            ["out"],
            NODE("MatMul", ["r", "v"], ["m"]),
            NODE("MatMul", ["m", "w"], ["out"]),
            weights=[weight("v", 6, width), weight("w", width, 6)],
        )

    inner = loop(
        ["u"],
        ["k"],
        ["r"],
        ["e"],
        NODE("ReduceSum", ["r"], ["total"], keepdims=0),
        NODE("Greater", ["total", "bound"], ["which"]),
        NODE(
            "If",
            ["which"],
            ["e"],
            name="choose",
            then_branch=branch(7),
            else_branch=branch(8),
        ),
        name="inside",
    )
    path = around(
        tmp_path,
        turns(
            "h",
            "d",
            NODE("MatMul", ["s", "i"], ["u"]),
            inner,
            NODE("MatMul", ["k", "j"], ["t"]),
            weights=[weight("i", 5, 6), weight("j", 6, 5)],
        ),
        weights=[array("bound", 0, np.float32)],
    )
    found, groups = inferred(path)
    assert groups == [(5, None), (6, None), (7, None), (8, None)]
    assert "repeat/body/inside/body/choose/else_branch/w" in found.layout.axes
    assert found.layout.share == pytest.approx(1, abs=0.01)
    with open_checkpoint(path) as opened:
        assert opened.header.keys() == found.layout.axes.keys()


def test_a_loop_in_a_branch(tmp_path):
    def branch(inner):
        return body(
            [], ["out"], NODE("MatMul", ["h", "b"], ["g"]), inner, weights=[weight("b", 5, 6)]
        )

    one, other = (
        turns("g", "out", NODE("MatMul", ["s", "i"], ["t"]), weights=[weight("i", 6, 6)])
        for _ in range(2)
    )
    path = around(
        tmp_path,
        NODE("ReduceSum", ["x"], ["total"], keepdims=0),
        NODE("Greater", ["total", "bound"], ["which"]),
        NODE(
            "If",
            ["which"],
            ["f"],
            name="choose",
            then_branch=branch(one),
            else_branch=branch(other),
        ),
        NODE("MatMul", ["f", "k"], ["d"]),
        weights=[weight("k", 6, 5), array("bound", 0, np.float32)],
    )
    found, groups = inferred(path)
    assert groups == [(5, None), (5, None), (6, None)]
    assert found.layout.share == 1


def test_heads_inside_a_loop_depend_on_one_another(tmp_path):
    cut = array("cut", [2, 3, 4], np.int64)
    path = around(
        tmp_path,
        turns("h3", "d3", NODE("Mul", ["s", "gain"], ["t"]), weights=[weight("gain", 3, 4)]),
        NODE("Reshape", ["d3", "joined"], ["d"]),
        before=[NODE("Reshape", ["h", "cut"], ["h3"])],
        hidden=12,
        weights=[cut, array("joined", [2, 12], np.int64)],
    )
    assert inferred(path)[1] == [(3, None), (4, 3)]
