"""Loop and Scan: what stays closed, what is caught, and what is none."""

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from loop_nets import TURNS, around, axes_of, fixed, recurrent, turns  # noqa: E402
from onnx_nets import NODE, array, graph, inferred, save, weight  # noqa: E402

from rebasin_hub.errors import InputError, RebasinError  # noqa: E402
from rebasin_hub.formats import open_checkpoint  # noqa: E402
from rebasin_hub.infer import infer_spec, run_rules  # noqa: E402
from rebasin_hub.infer.onnx_outline import read_outline  # noqa: E402
from rebasin_hub.infer.onnx_source import from_onnx  # noqa: E402
from rebasin_hub.infer.rules import RULES  # noqa: E402
from rebasin_hub.infer.rules.loops import DOMAIN  # noqa: E402


@pytest.mark.parametrize("growing", [True, False])
def test_loops_that_cannot_be_looked_into_fix_what_they_read(tmp_path, growing):
    """One whose state grows from turn to turn, and one that never runs."""
    if growing:
        step = turns("h", "e", NODE("Concat", ["s", "h"], ["t"], axis=0))
        after = NODE("Slice", ["e", "zero", "two", "zero"], ["d"])
    else:
        step = turns("h", "e", NODE("Neg", ["s"], ["t"]))
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
        turns(
            "h", "g", NODE("MatMul", ["s", "i"], ["t"]), weights=[weight("i", 5, 5)], name="open"
        ),
        NODE("MatMul", ["g", "b"], ["f"]),
        turns("f", "e", NODE("Concat", ["s", "f"], ["t"], axis=0), name="closed"),
        NODE("Slice", ["e", "zero", "two", "zero"], ["d"]),
        weights=[weight("b", 5, 5), array("zero", [0], np.int64), array("two", [2], np.int64)],
    )
    found, groups = inferred(path)
    assert groups == [(5, None)]
    assert axes_of(found, "open/body/i") == [axes_of(found, "a")[1]] * 2
    assert {("b", 1), ("c", 0)} <= fixed(found)


def test_a_window_that_turns_move_fixes_its_axis(tmp_path):
    """Each turn reads a stretch of the units that begins where its number says."""
    path = around(
        tmp_path,
        turns(
            "start",
            "d",
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
        turns("h", "d", NODE("MatMul", ["s", "i"], ["t"]), weights=[weight("i", 5, 5)]),
        before=[],
    )
    source = from_onnx(path, {}, seed=0)
    found = infer_spec(run_rules(source.graph), "net", "net", source.runner)
    assert found.certificate.removed


def test_quantized_weights_in_a_body_move_and_leave_the_outline(tmp_path):
    def made(name, seed):
        rng = np.random.default_rng(seed)
        packed = array("q", rng.integers(-100, 100, (5, 5)), np.int8)
        return around(
            tmp_path,
            turns(
                "h",
                "d",
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
        [
            NODE("MatMul", ["x", "a"], ["h"]),
            turns("h", "d", *nodes),
            NODE("MatMul", ["d", "c"], ["y"]),
        ],
        [2, 4],
        [2, 3],
        [weight("a", 4, 5), weight("c", 5, 3), TURNS],
    )
    path = save(tmp_path / "m.onnx", made, check=False)
    with pytest.raises(InputError, match="onnxruntime cannot run it"):
        from_onnx(path, {}, seed=0)
