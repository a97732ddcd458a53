"""Quantized ONNX models: scales and zero points move along with the axis that they are for."""

import numpy as np
import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from onnx_nets import NODE, array, graph, inferred, integers, save, weight

from rebasin_hub.infer import infer_spec, run_rules
from rebasin_hub.infer.onnx_source import from_onnx

MICROSOFT = "com.microsoft"
SCALE, ZERO = array("s", 0.02, np.float32), array("z", 3, np.uint8)


def scales(name, *shape):
    values = np.random.default_rng(0).uniform(0.002, 0.02, shape)
    return array(name, values, np.float32)


def quantize(value, name):
    return [
        NODE("QuantizeLinear", [value, "s", "z"], [f"{name}q"]),
        NODE("DequantizeLinear", [f"{name}q", "s", "z"], [name]),
    ]


def test_scales_of_channels_move_along(tmp_path):
    made = graph(
        [
            *quantize("x", "x1"),
            NODE("DequantizeLinear", ["w1", "w1s", "w1z"], ["v1"], axis=0),
            NODE("DequantizeLinear", ["b1", "b1s"], ["c1"], axis=0),
            NODE("Conv", ["x1", "v1", "c1"], ["h"], pads=[1, 1, 1, 1]),
            NODE("Relu", ["h"], ["r"]),
            *quantize("r", "r1"),
            NODE("DequantizeLinear", ["w2", "w2s"], ["v2"], axis=0),
            NODE("Conv", ["r1", "v2"], ["g"]),
            NODE("GlobalAveragePool", ["g"], ["p"]),
            NODE("Flatten", ["p"], ["f"]),
            NODE("DequantizeLinear", ["w3", "w3s"], ["v3"]),
            NODE("MatMul", ["f", "v3"], ["y"]),
        ],
        ["N", 2, 4, 4],
        ["N", 3],
        [
            SCALE,
            ZERO,
            integers("w1", 6, 2, 3, 3),
            scales("w1s", 6),
            integers("w1z", 6, low=-3, high=3),
            integers("b1", 6, dtype=np.int32),
            scales("b1s", 6),
            integers("w2", 5, 6, 1, 1),
            scales("w2s", 5),
            integers("w3", 5, 3),
            array("w3s", 0.01, np.float32),
        ],
    )
    found, groups = inferred(save(tmp_path / "q.onnx", made))
    assert groups == [(5, None), (6, None)]
    names = {name for name, axes in found.layout.axes.items() for e in axes for a in e if a}
    moved = {
        name
        for name, axes in found.layout.axes.items()
        if any(a in found.layout.groups for e in axes for a in found.layout.labels.atoms(e))
    }
    assert names >= moved == {"w1", "w1s", "w1z", "b1", "b1s", "w2", "w2s", "w3"}
    assert found.layout.share > 0.98


def test_scales_are_for_the_second_axis_where_nothing_is_said(tmp_path):
    made = graph(
        [
            NODE("DequantizeLinear", ["w", "ws"], ["v"]),
            NODE("MatMul", ["x", "v"], ["h"]),
            NODE("MatMul", ["h", "b"], ["y"]),
        ],
        ["N", 3],
        ["N", 2],
        [integers("w", 3, 7), scales("ws", 7), weight("b", 7, 2)],
    )
    assert inferred(save(tmp_path / "d.onnx", made))[1] == [(7, None)]


def test_scales_of_blocks_cut_their_axis(tmp_path):
    made = graph(
        [
            NODE("MatMul", ["x", "a"], ["h"]),
            NODE("DequantizeLinear", ["w", "ws"], ["v"], axis=0, block_size=4),
            NODE("MatMul", ["h", "v"], ["y"]),
        ],
        ["N", 3],
        ["N", 2],
        [weight("a", 3, 12), integers("w", 12, 2), scales("ws", 3, 2)],
    )
    # Blocks trade places, and so do elements of one block, in every block as they like.
    assert inferred(save(tmp_path / "b.onnx", made))[1] == [(3, None), (4, 3)]


S, Z = ["s", "z"], ["s", "zi"]
ENDS = [NODE("QuantizeLinear", ["x", *S], ["xq"]), NODE("DequantizeLinear", ["yq", *S], ["y"])]
HIDDEN = [integers("w1", 5, 7), scales("s1", 7), array("z1", [0] * 7, np.int8)]
OUT = [integers("w2", 7, 3), scales("s2", 3), array("z2", [0] * 3, np.int8)]
LAST_AXIS = array("end", [2], np.int64)
COMMON = [SCALE, ZERO, *HIDDEN, *OUT]


def own(*arguments, **attributes):
    return NODE(*arguments, domain=MICROSOFT, **attributes)


CASES = {
    "QLinearMatMul": (
        [
            ENDS[0],
            NODE("QLinearMatMul", ["xq", *S, "w1", "s1", "z1", *S], ["hq"]),
            NODE("QLinearMatMul", ["hq", *S, "w2", "s2", "z2", *S], ["yq"]),
            ENDS[1],
        ],
        COMMON,
    ),
    "QLinearConv": (
        [
            NODE("Unsqueeze", ["x", "end"], ["xu"]),
            NODE("QuantizeLinear", ["xu", *S], ["xq"]),
            NODE("QLinearConv", ["xq", *S, "k1", "s1", "z1", *S, "b1"], ["hq"]),
            NODE("QLinearConv", ["hq", *S, "k2", "s2", "z2", *S], ["yu"]),
            NODE("Squeeze", ["yu", "end"], ["yq"]),
            ENDS[1],
        ],
        [
            *(SCALE, ZERO, *HIDDEN[1:], *OUT[1:], LAST_AXIS),
            *(integers("k1", 7, 5, 1), integers("k2", 3, 7, 1)),
            integers("b1", 7, dtype=np.int32),
        ],
    ),
    "MatMulInteger": (
        [
            NODE("DynamicQuantizeLinear", ["x"], ["xq", "xs", "xz"]),
            NODE("MatMulInteger", ["xq", "w1", "xz", "z1"], ["hi"]),
            NODE("Cast", ["hi"], ["hf"], to=1),
            NODE("Mul", ["hf", "s1"], ["h"]),
            NODE("DynamicQuantizeLinear", ["h"], ["hq", "hs", "hz"]),
            NODE("MatMulInteger", ["hq", "w2", "hz"], ["yi"]),
            NODE("Cast", ["yi"], ["yf"], to=1),
            NODE("Mul", ["yf", "hs"], ["y"]),
        ],
        COMMON,
    ),
    "ConvInteger": (
        [
            NODE("Unsqueeze", ["x", "end"], ["xu"]),
            NODE("DynamicQuantizeLinear", ["xu"], ["xq", "xs", "xz"]),
            NODE("ConvInteger", ["xq", "k1", "xz"], ["hi"]),
            NODE("Cast", ["hi"], ["hf"], to=1),
            NODE("Mul", ["hf", "t1"], ["h"]),
            NODE("Conv", ["h", "k2"], ["yu"]),
            NODE("Squeeze", ["yu", "end"], ["y"]),
        ],
        [integers("k1", 7, 5, 1), weight("k2", 3, 7, 1), scales("t1", 7, 1), LAST_AXIS],
    ),
    "QGemm": (
        [
            ENDS[0],
            own("QGemm", ["xq", *S, "w1", "s1", "z1", "b1", *S], ["hq"]),
            own("QGemm", ["hq", *S, "w2", "s2", "z2", "", *S], ["yq"]),
            ENDS[1],
        ],
        [*COMMON, integers("b1", 7, dtype=np.int32)],
    ),
    "DynamicQuantizeMatMul": (
        [
            own("DynamicQuantizeMatMul", ["x", "w1", "s1", "z1", "b1"], ["h"]),
            NODE("QuantizeLinear", ["h", *S], ["hq"]),
            own("QLinearAdd", ["hq", *S, "hq", *S, *S], ["gq"]),
            NODE("DequantizeLinear", ["gq", *S], ["g"]),
            own("DynamicQuantizeMatMul", ["g", "w2", "s2", "z2"], ["y"]),
        ],
        [*COMMON, weight("b1", 7)],
    ),
    "FusedMatMul": (
        [
            own("FusedMatMul", ["x", "f1"], ["h"], transB=1),
            own("BiasGelu", ["h", "b1"], ["g"]),
            own("SkipLayerNormalization", ["g", "h", "n1"], ["n"]),
            own("FusedMatMul", ["n", "f2"], ["y"]),
        ],
        [weight("f1", 7, 5), weight("b1", 7), weight("n1", 7), weight("f2", 7, 3)],
    ),
    "FusedConv": (
        [
            NODE("Unsqueeze", ["x", "end"], ["xu"]),
            NODE("Conv", ["xu", "k1"], ["h"]),
            own("FusedConv", ["xu", "k3", "b1", "h"], ["g"], activation="Relu"),
            NODE("Conv", ["g", "k2"], ["yu"]),
            NODE("Squeeze", ["yu", "end"], ["y"]),
        ],
        [
            *(weight("k1", 7, 5, 1, 1), weight("k3", 7, 5, 1, 1), weight("k2", 3, 7, 1, 1)),
            *(weight("b1", 7), array("end", [2, 3], np.int64)),
        ],
    ),
}
"""Operators from `x` to `y` with 7 hidden units, and their weights."""


@pytest.mark.parametrize("kind", CASES)
def test_every_operator(tmp_path, kind):
    nodes, weights = CASES[kind]
    made = graph(nodes, ["N", 5], ["N", 3], weights)
    path = save(tmp_path / "q.onnx", made, domains=[MICROSOFT], check=False)
    assert inferred(path)[1] == [(7, None)]


def test_packed_weights_are_refused_with_the_reason(tmp_path):
    made = graph(
        [
            NODE("MatMul", ["x", "a"], ["h"]),
            NODE("MatMulNBits", ["h", "w", "ws"], ["y"], domain=MICROSOFT, K=32, N=3, bits=4,
                 block_size=32),
        ],
        ["N", 4],
        ["N", 3],
        [weight("a", 4, 32), integers("w", 3, 1, 16, dtype=np.uint8, low=0), scales("ws", 3)],
    )  # fmt: skip
    path = save(tmp_path / "p.onnx", made, domains=[MICROSOFT], check=False)
    found = infer_spec(run_rules(from_onnx(path, {}, seed=0, certified=False).graph), "n", "n")
    assert not found.layout.groups
    reasons = {f.reason.what for f in found.layout.fixed if f.tensor == "a"}
    assert "its weights are packed, several to a byte" in reasons


def test_whole_numbers_that_are_no_weights_stay(tmp_path):
    made = graph(
        [
            NODE("DequantizeLinear", ["w", "ws"], ["v"], axis=1),
            NODE("Gather", ["v", "picked"], ["u"], axis=1),
            NODE("MatMul", ["x", "u"], ["y"]),
        ],
        ["N", 5],
        ["N", 2],
        [integers("w", 5, 4), scales("ws", 4), array("picked", [2, 1], np.int64)],
    )
    assert inferred(save(tmp_path / "g.onnx", made))[1] == []
