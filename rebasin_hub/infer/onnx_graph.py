"""From an ONNX model to a graph. Shapes and constants are those of one run of the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, numpy_helper

from rebasin_hub.formats.onnx.places import scopes, subgraphs
from rebasin_hub.infer.graph import Array, Graph, Node, Shape, Stored
from rebasin_hub.infer.onnx_flat import PLAIN_DOMAINS, known_values
from rebasin_hub.tensors import DTYPES, Header

__all__ = ["captured", "graph_of", "weights_of"]

MOST_CONSTANT = 1 << 24
"""Elements of the largest constant that is kept."""

STRUCTURAL: Mapping[str, tuple[int, ...]] = {
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "Pad": (1, 2, 3),
    "Clip": (1, 2),
    "Dropout": (1, 2),
    "OneHot": (1, 2),
    "Range": (0, 1, 2),
    "Pow": (1,),
    "NonMaxSuppression": (2, 3, 4),
}
"""Inputs that say how an operator works, and are no weights."""


QUANTIZED: Mapping[str, tuple[int, ...]] = {
    "DequantizeLinear": (0, 2),
    "QuantizeLinear": (2,),
    "QLinearConv": (3, 5, 8),
    "QLinearMatMul": (0, 2, 3, 5),
    "MatMulInteger": (0, 1, 2, 3),
    "ConvInteger": (1, 3),
    "DynamicQuantizeMatMul": (1, 3),
    "MatMulIntegerToFloat": (0, 1, 4, 5),
    "QGemm": (0, 2, 3, 5, 6),
}
"""Inputs whose whole numbers are weights, quantized, and their zero points."""


def weights_of(graph: GraphProto, header: Header) -> frozenset[str]:
    """Return the tensors of a checkpoint that are weights of a graph, and no part of its program.

    Those are numbers in floating point, and whole ones that operators on quantized weights read;
    but nothing that says how an operator works, and nothing of one element.
    """
    readers = [
        (scope.names.get(name, name), node.op_type, place)
        for scope in scopes(graph)
        for node in scope.graph.node
        for place, name in enumerate(node.input)
    ]
    structural = {n for n, op, place in readers if place in STRUCTURAL.get(op, ())}
    quantized = {n for n, op, place in readers if place in QUANTIZED.get(op, ())}
    return frozenset(
        name
        for name, info in header.items()
        if info.size > 1
        and name not in structural
        and (DTYPES[info.dtype].floating or name in quantized)
    )


def graph_of(
    model: ModelProto,
    header: Header,
    seen: Mapping[str, Array],
    source: str,
    shapes: Mapping[str, Shape] | None = None,
) -> Graph:
    """Translate a model.

    Args:
        model: with one graph.
        header: the checkpoint's tensors.
        seen: the values of one run, those of inputs and weights included.
        source: what messages call it.
        shapes: of values that were not seen themselves.

    """
    known = {**(shapes or {}), **{n: tuple(np.shape(a)) for n, a in seen.items()}}
    builder = _Builder(model.graph, header, seen, known)
    for node in model.graph.node:
        builder.add(node)
    return builder.graph(source)


@dataclass(eq=False)
class _Builder:
    proto: GraphProto
    header: Header
    seen: Mapping[str, Array]
    shapes: Mapping[str, Shape]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array | None] = field(default_factory=dict)
    statistics: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.initial = {tensor.name for tensor in self.proto.initializer}
        self.weights = weights_of(self.proto, self.header)
        fixed = self.initial - self.weights
        self.known = known_values(filter(self.computes, self.proto.node), fixed)
        for name in fixed:
            self.constant(name)

    def computes(self, node: NodeProto) -> bool:
        """Tell whether a node is more than a weight that is written as a Constant."""
        return node.op_type != "Constant" or not any(name in self.weights for name in node.output)

    def constant(self, name: str) -> None:
        array = self.seen.get(name)
        kept = array is not None and array.size <= MOST_CONSTANT
        self.constants[name] = array if kept else None

    def add(self, node: NodeProto) -> None:
        if not self.computes(node):
            return
        outputs = [name for name in node.output if name]
        if outputs and all(name in self.known for name in outputs):
            for name in outputs:
                self.constant(name)
            return
        inputs = (*node.input, *captured(node))
        plain = node.domain in PLAIN_DOMAINS
        if node.op_type == "BatchNormalization" and plain:
            self.statistics.update(node.input[3:5])
        prefix = "onnx" if plain else node.domain
        self.nodes.append(
            Node(
                op=f"{prefix}.{node.op_type}",
                name=node.name or next(iter(node.output), ""),
                inputs=tuple(name or None for name in inputs),
                outputs=tuple(name if name in self.shapes else "" for name in node.output),
                attributes={a.name: _attribute(a) for a in node.attribute},
            )
        )

    def graph(self, source: str) -> Graph:
        shapes = self.shapes
        read = {o.name for o in self.proto.output}.union(*(node.given for node in self.nodes))
        stored = {
            name: Stored(
                shape=info.shape,
                value=name if name in shapes and name in read else None,
                floating=name in self.weights,
                statistic=name in self.statistics,
            )
            for name, info in self.header.items()
        }
        inputs = [i.name for i in self.proto.input if i.name not in self.initial]
        return Graph(
            tuple(self.nodes),
            shapes,
            stored,
            {name: a for name, a in self.constants.items() if name in shapes},
            tuple(name for name in inputs if name in shapes),
            tuple(o.name for o in self.proto.output if o.name in shapes),
            source,
        )


def captured(node: NodeProto) -> Iterator[str]:
    """Yield the values that the subgraphs of a node read from around them."""
    for graph in subgraphs(node):
        known = {i.name for i in (*graph.input, *graph.initializer)}
        for inner in graph.node:
            yield from (n for n in (*inner.input, *captured(inner)) if n and n not in known)
            known.update(inner.output)
        yield from (o.name for o in graph.output if o.name not in known)


def _attribute(attribute: AttributeProto) -> Any:  # noqa: ANN401 - any argument
    if attribute.type in {AttributeProto.GRAPH, AttributeProto.GRAPHS}:
        return None
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.type == AttributeProto.TENSOR:
        return numpy_helper.to_array(value)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return list(value) if attribute.type in _LISTS else value


_LISTS = frozenset({AttributeProto.INTS, AttributeProto.FLOATS, AttributeProto.STRINGS})
