"""Run the rules over a graph: what stands on the axes of every value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from rebasin_hub.infer.graph import Array, Graph, Node
from rebasin_hub.infer.labels import Labels, Reason
from rebasin_hub.infer.rewrite import slice_fused
from rebasin_hub.infer.rules import RULES
from rebasin_hub.infer.rules.pointwise import FILLS, ONNX, pointwise
from rebasin_hub.infer.rules.reshaping import RESHAPES
from rebasin_hub.infer.rules.table import operators
from rebasin_hub.infer.step import Axes, Record, Rule, Step, UnsupportedError

__all__ = ["Flow", "run_rules"]

MOVES = frozenset(
    [
        *RESHAPES,
        *ONNX,
        *operators("aten", "expand permute transpose clone slice select unbind split repeat"),
        *operators("aten", "split_with_sizes alias _to_copy where"),
        *operators("onnx", "Expand Transpose Slice Split Tile"),
    ]
)
"""Operators that give equal elements for equal elements."""

NO_RULE = "the operator has no rule"


@dataclass(eq=False)
class Flow:
    """What the rules found.

    `axes` holds what stands on the axes of every value that an operator touched; `records` keeps
    for every operator its own indices on all its values; `unruled` counts operators without a rule;
    `uniform` holds the values whose elements are all equal.
    """

    graph: Graph
    labels: Labels
    axes: dict[str, Axes]
    records: list[Record] = field(default_factory=list)
    unruled: dict[str, int] = field(default_factory=dict)
    uniform: set[str] = field(default_factory=set)

    def fix(self, value: str, reason: Reason) -> None:
        """Let all axes of a value stay."""
        for expression in self.axes_of(value):
            self.labels.fix(expression, reason)

    def axes_of(self, value: str) -> Axes:
        """Return what stands on the axes of a value."""
        if value not in self.axes:
            self.axes[value] = tuple(self.labels.atom(n) for n in self.graph.shapes[value])
        return self.axes[value]


def run_rules(graph: Graph, rules: Mapping[str, Rule] = RULES) -> Flow:
    """Apply every operator's rule once.

    The time is proportional to the number of operators, as long as axes have few parts.

    Args:
        graph: the computation.
        rules: by operator.

    """
    graph = slice_fused(graph)
    flow = Flow(graph, Labels(), {})
    _fix_ends(flow)
    for node in graph.nodes:
        _apply(flow, node, rules.get(node.op, pointwise if node.pointwise else None))
    return flow


def _fix_ends(flow: Flow) -> None:
    """Fix what the outside world numbers: inputs, outputs, and constants of the program."""
    graph = flow.graph
    for name in graph.inputs:
        flow.fix(name, Reason("reaches an input", name))
    for name in graph.outputs:
        flow.fix(name, Reason("reaches an output", name))
    for stored in graph.stored.values():
        if stored.value is not None and not stored.floating:
            flow.fix(stored.value, Reason("is no floating-point weight", ""))
    for name, array in graph.constants.items():
        if array is not None and array.size and (array == array.flat[0]).all():
            flow.uniform.add(name)
            continue
        for axis, expression in enumerate(flow.axes_of(name)):
            if array is None or not _uniform(array, axis):
                flow.labels.fix(expression, Reason("meets a constant of the program", name))


def _uniform(array: Array, axis: int) -> bool:
    """Tell whether all elements along an axis are equal."""
    first = np.take(array, [0], axis=axis) if array.shape[axis] else array
    return bool(np.array_equal(np.broadcast_to(first, array.shape), array))


def _gives_uniform(flow: Flow, node: Node) -> bool:
    """Tell whether all elements of a node's results are equal."""
    if node.op in FILLS:
        return True
    moves = node.pointwise or node.op in MOVES
    return moves and bool(node.given) and all(name in flow.uniform for name in node.given)


def _apply(flow: Flow, node: Node, rule: Rule | None) -> None:
    if not any(node.outputs):
        return
    if _gives_uniform(flow, node):
        flow.uniform.update(filter(None, node.outputs))
        return
    record: list[Axes] = []
    step = Step(node, flow.graph, flow.labels, flow.axes, record, flow.uniform)
    reason = NO_RULE
    if rule is not None:
        try:
            rule(step)
        except UnsupportedError as problem:
            reason = str(problem)
        except (LookupError, TypeError, ValueError, ZeroDivisionError):
            reason = "its arguments are not understood"
        else:
            flow.records.append(tuple(record))
            return
    else:
        flow.unruled[node.op] = flow.unruled.get(node.op, 0) + 1
    for name in (*node.given, *filter(None, node.outputs)):
        if name in flow.graph.shapes:
            flow.fix(name, Reason(reason, step.where))
