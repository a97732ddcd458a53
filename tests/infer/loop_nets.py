"""Small ONNX models with loops in them."""

import numpy as np
from onnx import TensorProto, helper
from onnx_nets import NODE, array, graph, save, weight

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


def turns(state, result, *nodes, **others):
    """Return a Loop of three turns with one state, which its body reads as `s` and gives as `t`."""
    return loop([state], [result], ["s"], ["t"], *nodes, **others)


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
