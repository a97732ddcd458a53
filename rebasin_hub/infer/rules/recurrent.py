"""Recurrent networks as one operator."""

from __future__ import annotations

from rebasin_hub.infer.labels import ONE, Expression, product
from rebasin_hub.infer.rules.table import rule
from rebasin_hub.infer.step import Step, UnsupportedError

__all__ = ["recurrent"]

GATES = {"onnx.LSTM": 4, "onnx.GRU": 3, "onnx.RNN": 1}


@rule(*GATES)
def recurrent(step: Step) -> None:
    """Bind the hidden units, which stand on both axes of the recurrent weights."""
    source, weight, inner, *others = (*step.node.inputs, *[None] * 8)[:8]
    bias, lengths, first, cell, peephole = others
    if step.attribute("layout", 0) or peephole:
        raise UnsupportedError("has a layout or peepholes that are not covered")
    directions, rows, _ = step.shape(weight)
    gates = GATES[step.node.op]
    if directions != 1:
        raise UnsupportedError("runs in two directions")
    length, batch, width = step.shape(source)
    read, hidden = step.index(width), step.index(rows // gates)
    time, many = step.fixed(length, "neighbours in time count"), step.index(batch)
    stacked = _gates(gates, hidden)
    step.bind(source, [time, many, read])
    step.bind(weight, [ONE, stacked, read])
    step.bind(inner, [ONE, stacked, hidden])
    step.bind(bias, [ONE, (*stacked, *stacked)])
    step.bind(lengths, [many])
    for name in (first, cell):
        step.bind(name, [ONE, many, hidden])
    whole, *last = step.node.outputs
    step.bind(whole, [time, ONE, many, hidden])
    for name in last:
        step.bind(name, [ONE, many, hidden])


def _gates(count: int, hidden: Expression) -> Expression:
    """Return the rows of all gates; they stay in their order."""
    return tuple(term for _ in range(count) for term in product(hidden))
