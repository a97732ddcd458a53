"""Recurrent networks as one operator."""

from __future__ import annotations

from rebasin_hub.infer.labels import Expression, product
from rebasin_hub.infer.rules.table import rule
from rebasin_hub.infer.step import Step, UnsupportedError

__all__ = ["recurrent"]

GATES = {"onnx.LSTM": 4, "onnx.GRU": 3, "onnx.RNN": 1}
PEEPHOLES = 3
"""Gates that see the cell's state."""


@rule(*GATES)
def recurrent(step: Step) -> None:
    """Bind the hidden units, which stand on both axes of the recurrent weights."""
    source, weight, inner, *others = (*step.node.inputs, *[None] * 8)[:8]
    bias, lengths, first, cell, peepholes = others
    if step.attribute("layout", 0):
        raise UnsupportedError("has a layout that is not covered")
    directions, rows, _ = step.shape(weight)
    gates = GATES[step.node.op]
    length, batch, width = step.shape(source)
    read, hidden = step.index(width), step.index(rows // gates)
    time, many = step.fixed(length, "neighbours in time count"), step.index(batch)
    # Both directions are renumbered alike: their weights lie in one tensor.
    way = step.fixed(directions, "is a direction")
    stacked = _gates(gates, hidden)
    step.bind(source, [time, many, read])
    step.bind(weight, [way, stacked, read])
    step.bind(inner, [way, stacked, hidden])
    step.bind(bias, [way, (*stacked, *stacked)])
    step.bind(lengths, [many])
    for name in (first, cell):
        step.bind(name, [way, many, hidden])
    step.bind(peepholes, [way, _gates(PEEPHOLES, hidden)])
    whole, *last = step.node.outputs
    step.bind(whole, [time, way, many, hidden])
    for name in last:
        step.bind(name, [way, many, hidden])


def _gates(count: int, hidden: Expression) -> Expression:
    """Return the rows of all gates; they stay in their order."""
    return tuple(term for _ in range(count) for term in product(hidden))
