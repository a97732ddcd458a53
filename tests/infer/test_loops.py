"""Loop and Scan: what happens in their bodies counts as what happens around them."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper  # noqa: E402
from onnx_nets import NODE, array, graph, inferred, save, weight  # noqa: E402

from rebasin_hub.errors import InputError, RebasinError  # noqa: E402
from rebasin_hub.formats import open_checkpoint  # noqa: E402
from rebasin_hub.infer import infer_spec, run_rules  # noqa: E402
from rebasin_hub.infer.onnx_outline import read_outline  # noqa: E402
from rebasin_hub.infer.onnx_source import from_onnx  # noqa: E402
from rebasin_hub.infer.rules import RULES  # noqa: E402
from rebasin_hub.infer.rules.loops import DOMAIN  # noqa: E402

FLOAT, BOOL, INT = TensorProto.FLOAT, TensorProto.BOOL, TensorProto.INT64
TURNS = array("turns", 3, np.int64)


def values(entries):
    """Return declared values; a name alone is a float of some shape."""
    given = [e if isinstance(e, tuple) else (e, FLOAT, None) for e in entries]
    return [helper.make_tensor_value_info(*entry) for entry in given]


def body(inputs, outputs, *nodes, weights=()):
    return helper.make_graph(list(nodes), "body", values(inputs), values(outputs), list(weights))


def loop(inputs, outputs, states, results, *nodes, weights=(), name="repeat"):
    """Return a Loop of three turns."""
    turn, go, goes = (f"{name}_{n}" if name == "inside" else n for n in ("turn", "go", "goes"))
    inner = body(
        [(turn, INT, []), (go, BOOL, []), *states],
        [(goes, BOOL, []), *results],
        NODE("Identity", [go], [goes]),
        *nodes,
        weights=weights,
    )
    return NODE("Loop", ["turns", "", *inputs], outputs, name=name, body=inner)


def scan(inputs, outputs, parts, results, *nodes, scanned, weights=(), **axes):
    inner = body(parts, results, *nodes, weights=weights)
    return NODE("Scan", inputs, outputs, name="run", body=inner, num_scan_inputs=scanned, **axes)


def around(tmp_path, *middle, hidden=5, weights=(), shape=(2, 4), before=(), name="m.onnx"):
    """Return a file of `middle` between a layer that gives `h`, and one that reads `d`."""
    made = graph(
        [NODE("MatMul", ["x", "a"], ["h"]), *before, *middle, NODE("MatMul", ["d", "c"], ["y"])],
        list(shape),
        [*shape[:-1], 3],
        [weight("a", 4, hidden), weight("c", hidden, 3), TURNS, *weights],
    )
    return save(tmp_path / name, made)


def axes_of(found, name):
    labels = found.layout.labels
    return [tuple(labels.atoms(axis)) for axis in found.layout.axes[name]]


def fixed(found):
    return {(f.tensor, f.axis) for f in found.layout.fixed}


def recurrent(tmp_path, time=7, name="rnn.onnx", **axes):
    """Return a file of h' = tanh(x W + h R + b), written as a Scan, with its weights inside."""
    made = graph(
        [
            NODE("MatMul", ["x", "i"], ["e"]),
            scan(
                ["start", "e"],
                ["last", "all"],
                ["h", "part"],
                ["next", "seen"],
                NODE("MatMul", ["part", "W"], ["p"]),
                NODE("MatMul", ["h", "R"], ["q"]),
                NODE("Sum", ["p", "q", "b"], ["s"]),
                NODE("Tanh", ["s"], ["next"]),
                NODE("Constant", [], ["gain"], value=weight("gain", 6)),
                NODE("Mul", ["next", "gain"], ["seen"]),
                scanned=1,
                weights=[weight("W", 5, 6), weight("R", 6, 6), weight("b", 6)],
                **axes,
            ),
            NODE("MatMul", ["all", "o"], ["y"]),
        ],
        [time, 2, 4],
        [time, 2, 3],
        [weight("i", 4, 5), weight("o", 6, 3), array("start", np.zeros((2, 6)), np.float32)],
    )
    return save(tmp_path / name, made)


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
        loop(
            ["h"],
            ["d"],
            ["s"],
            ["t"],
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
        loop(["h"], ["", "all"], ["s"], ["t", "s2"], NODE("MatMul", ["s", "i"], ["t"]),
             NODE("Identity", ["t"], ["s2"]), weights=[weight("i", 5, 5)]),
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
    )  # fmt: skip
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
        loop(
            ["h"],
            ["d"],
            ["s"],
            ["t"],
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
        loop(
            ["h"],
            ["d"],
            ["s"],
            ["t"],
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
        loop(["h", "g"], ["d", "f"], ["s", "t"], ["t2", "s2"], NODE("Tanh", ["t"], ["t2"]),
             NODE("MatMul", ["s", "i"], ["s2"]), weights=[weight("i", 5, 5)]),
        before=[NODE("MatMul", ["x", "b"], ["g"])],
        weights=[weight("b", 4, 5)],
    )  # fmt: skip
    found, groups = inferred(path)
    assert groups == [(5, None)]
    (hidden,) = {axes_of(found, "a")[1], axes_of(found, "b")[1], *axes_of(found, "repeat/body/i")}
    assert len(hidden) == 1


def test_a_state_that_begins_with_zeros_is_no_constant(tmp_path):
    path = around(
        tmp_path,
        loop(["none"], ["d"], ["s"], ["t"], NODE("Add", ["s", "h"], ["t"])),
        weights=[array("none", np.zeros((2, 5)), np.float32)],
    )
    found, groups = inferred(path)
    assert groups == [(5, None)]
    assert axes_of(found, "a")[1] == axes_of(found, "c")[0]


def test_a_loop_in_a_loop_and_a_choice_in_it(tmp_path):
    def branch(width):
        return body([], ["out"], NODE("MatMul", ["r", "v"], ["m"]),
                    NODE("MatMul", ["m", "w"], ["out"]),
                    weights=[weight("v", 6, width), weight("w", width, 6)])  # fmt: skip

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
        loop(
            ["h"],
            ["d"],
            ["s"],
            ["t"],
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
        return body([], ["out"], NODE("MatMul", ["h", "b"], ["g"]), inner,
                    weights=[weight("b", 5, 6)])  # fmt: skip

    turns = [
        loop(["g"], ["out"], ["s"], ["t"], NODE("MatMul", ["s", "i"], ["t"]),
             weights=[weight("i", 6, 6)])
        for _ in range(2)
    ]  # fmt: skip
    path = around(
        tmp_path,
        NODE("ReduceSum", ["x"], ["total"], keepdims=0),
        NODE("Greater", ["total", "bound"], ["which"]),
        NODE(
            "If",
            ["which"],
            ["f"],
            name="choose",
            then_branch=branch(turns[0]),
            else_branch=branch(turns[1]),
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
        loop(
            ["h3"],
            ["d3"],
            ["s"],
            ["t"],
            NODE("Mul", ["s", "gain"], ["t"]),
            weights=[weight("gain", 3, 4)],
        ),
        NODE("Reshape", ["d3", "joined"], ["d"]),
        before=[NODE("Reshape", ["h", "cut"], ["h3"])],
        hidden=12,
        weights=[cut, array("joined", [2, 12], np.int64)],
    )
    assert inferred(path)[1] == [(3, None), (4, 3)]


@pytest.mark.parametrize("growing", [True, False])
def test_loops_that_cannot_be_looked_into_fix_what_they_read(tmp_path, growing):
    """One whose state grows from turn to turn, and one that never runs."""
    if growing:
        step = loop(["h"], ["e"], ["s"], ["t"], NODE("Concat", ["s", "h"], ["t"], axis=0))
        after = NODE("Slice", ["e", "zero", "two", "zero"], ["d"])
    else:
        step = loop(["h"], ["e"], ["s"], ["t"], NODE("Neg", ["s"], ["t"]))
        step.input[0] = "never"
        after = NODE("Identity", ["e"], ["d"])
    path = around(
        tmp_path,
        step,
        after,
        before=[],
        weights=[
            array("zero", [0], np.int64),
            array("two", [2], np.int64),
            array("never", 0, np.int64),
        ],
    )
    source = from_onnx(path, {}, seed=0)
    found = infer_spec(run_rules(source.graph), "net", "net", source.runner)
    assert not found.layout.groups
    assert found.layout.flow.unruled == {"onnx.Loop": 1}


def test_one_loop_that_stays_closed_does_not_close_the_others(tmp_path):
    path = around(
        tmp_path,
        loop(["h"], ["g"], ["s"], ["t"], NODE("MatMul", ["s", "i"], ["t"]),
             weights=[weight("i", 5, 5)], name="open"),
        NODE("MatMul", ["g", "b"], ["f"]),
        loop(["f"], ["e"], ["s"], ["t"], NODE("Concat", ["s", "f"], ["t"], axis=0),
             name="closed"),
        NODE("Slice", ["e", "zero", "two", "zero"], ["d"]),
        weights=[weight("b", 5, 5), array("zero", [0], np.int64), array("two", [2], np.int64)],
    )  # fmt: skip
    found, groups = inferred(path)
    assert groups == [(5, None)]
    assert axes_of(found, "open/body/i") == [axes_of(found, "a")[1]] * 2
    assert {("b", 1), ("c", 0)} <= fixed(found)


def test_a_window_that_turns_move_fixes_its_axis(tmp_path):
    """Each turn reads a stretch of the units that begins where its number says."""
    path = around(
        tmp_path,
        loop(
            ["start"],
            ["d"],
            ["s"],
            ["t"],
            NODE("Unsqueeze", ["turn", "zero"], ["first"]),
            NODE("Add", ["first", "two"], ["end"]),
            NODE("Slice", ["h", "first", "end", "one"], ["p"]),
            NODE("MatMul", ["p", "i"], ["q"]),
            NODE("Add", ["s", "q"], ["t"]),
            weights=[weight("i", 2, 5)],
        ),
        weights=[
            *(array(n, [v], np.int64) for n, v in (("zero", 0), ("one", 1), ("two", 2))),
            array("start", np.zeros((2, 5)), np.float32),
        ],
    )
    found, groups = inferred(path)
    assert groups == [(5, None)]  # what the loop gives
    assert {("a", 1), ("repeat/body/i", 0)} <= fixed(found)


def test_a_certificate_catches_a_rule_that_forgets_the_next_turn(tmp_path, monkeypatch):
    """Without it, the state would be renumbered on its way in, and not on its way round."""
    monkeypatch.setitem(RULES, f"{DOMAIN}.Leave", lambda _: None)
    path = around(
        tmp_path,
        loop(["h"], ["d"], ["s"], ["t"], NODE("MatMul", ["s", "i"], ["t"]),
             weights=[weight("i", 5, 5)]),
        before=[],
    )  # fmt: skip
    source = from_onnx(path, {}, seed=0)
    found = infer_spec(run_rules(source.graph), "net", "net", source.runner)
    assert found.certificate.removed


def test_quantized_weights_in_a_body_move_and_leave_the_outline(tmp_path):
    def made(name, seed):
        rng = np.random.default_rng(seed)
        packed = array("q", rng.integers(-100, 100, (5, 5)), np.int8)
        return around(
            tmp_path,
            loop(
                ["h"],
                ["d"],
                ["s"],
                ["t"],
                NODE("DequantizeLinear", ["q", "scale"], ["i"]),
                NODE("MatMul", ["s", "i"], ["t"]),
                weights=[packed, array("scale", 0.01, np.float32)],
            ),
            name=name,
        )

    one, other = made("a.onnx", 0), made("b.onnx", 1)
    found, groups = inferred(one)
    assert groups == [(5, None)]
    assert axes_of(found, "repeat/body/q") == [axes_of(found, "a")[1]] * 2
    outlines = []
    for path in (one, other):
        with open_checkpoint(path) as opened:
            outlines.append(read_outline(path, opened.header))
    assert outlines[0].difference(outlines[1]) is None


def test_damaged_bodies_give_known_errors(tmp_path):
    whole = recurrent(tmp_path).read_bytes()
    path, rng = tmp_path / "damaged.onnx", np.random.default_rng(1)
    failed = 0
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            with open_checkpoint(path) as opened:
                read_outline(path, opened.header)
            from_onnx(path, {}, seed=0)
        except RebasinError:
            failed += 1
    assert failed


@pytest.mark.parametrize(
    "nodes",
    [
        # A cycle, a value of the next turn, and a body that reads what the loop gives.
        [NODE("Add", ["s", "q"], ["p"]), NODE("Neg", ["p"], ["q"]), NODE("Neg", ["q"], ["t"])],
        [NODE("Neg", ["t"], ["t"])],
        [NODE("Add", ["s", "d"], ["t"])],
        [NODE("MatMul", ["s", "nowhere"], ["t"])],
    ],
)
def test_bodies_that_are_none(tmp_path, nodes):
    made = graph(
        [NODE("MatMul", ["x", "a"], ["h"]), loop(["h"], ["d"], ["s"], ["t"], *nodes),
         NODE("MatMul", ["d", "c"], ["y"])],
        [2, 4], [2, 3], [weight("a", 4, 5), weight("c", 5, 3), TURNS],
    )  # fmt: skip
    path = save(tmp_path / "m.onnx", made, check=False)
    with pytest.raises(InputError, match="onnxruntime cannot run it"):
        from_onnx(path, {}, seed=0)
