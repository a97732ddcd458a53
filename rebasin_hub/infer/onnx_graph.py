"""From an ONNX model to a graph. Shapes and constants are those of one run of the model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, numpy_helper

from rebasin_hub.infer.graph import Array, Graph, Node, Shape, Stored
from rebasin_hub.tensors import DTYPES, Header

__all__ = ["PLAIN_DOMAINS", "captured", "graph_of", "structural"]

PLAIN_DOMAINS = frozenset({"", "ai.onnx"})
SHAPES = frozenset({"Shape", "Size"})
"""Operators that look at shapes alone."""

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


def structural(graph: GraphProto) -> frozenset[str]:
    """Return the values that say how operators work."""
    return frozenset(
        node.input[place]
        for node in graph.node
        for place in STRUCTURAL.get(node.op_type, ())
        if place < len(node.input)
    )


def graph_of(model: ModelProto, header: Header, seen: Mapping[str, Array], source: str) -> Graph:
    """Translate a model.

    Args:
        model: with one graph.
        header: the checkpoint's tensors.
        seen: the values of one run, those of inputs and weights included.
        source: what messages call it.

    """
    builder = _Builder(model.graph, header, seen)
    for node in model.graph.node:
        builder.add(node)
    return builder.graph(source)


@dataclass(eq=False)
class _Builder:
    proto: GraphProto
    header: Header
    seen: Mapping[str, Array]
    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, Array | None] = field(default_factory=dict)
    statistics: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.initial = {tensor.name for tensor in self.proto.initializer}
        fixed = structural(self.proto)
        self.weights = {
            name
            for name, info in self.header.items()
            if DTYPES[info.dtype].floating and info.size > 1 and name not in fixed
        }
        for name in self.initial - self.weights:
            self.constant(name)

    def constant(self, name: str) -> None:
        array = self.seen.get(name)
        kept = array is not None and array.size <= MOST_CONSTANT
        self.constants[name] = array if kept else None

    def add(self, node: NodeProto) -> None:
        inputs = (*node.input, *captured(node))
        weight = node.op_type == "Constant" and any(name in self.weights for name in node.output)
        if weight:
            return
        plain = node.domain in PLAIN_DOMAINS
        known = all(name in self.constants for name in inputs if name)
        if plain and (known or node.op_type in SHAPES) and not _random(node):
            for name in filter(None, node.output):
                self.constant(name)
            return
        if node.op_type == "BatchNormalization" and plain:
            self.statistics.update(node.input[3:5])
        prefix = "onnx" if plain else node.domain
        self.nodes.append(
            Node(
                op=f"{prefix}.{node.op_type}",
                name=node.name or next(iter(node.output), ""),
                inputs=tuple(name or None for name in inputs),
                outputs=tuple(name if name in self.seen else "" for name in node.output),
                attributes={a.name: _attribute(a) for a in node.attribute},
            )
        )

    def graph(self, source: str) -> Graph:
        shapes: dict[str, Shape] = {n: tuple(np.shape(a)) for n, a in self.seen.items()}
        stored = {
            name: Stored(
                shape=info.shape,
                value=name if name in shapes else None,
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


def _random(node: NodeProto) -> bool:
    return node.op_type.startswith("Random") or node.op_type in {"Bernoulli", "Multinomial"}


def captured(node: NodeProto) -> Iterator[str]:
    """Yield the values that the subgraphs of a node read from around them."""
    for attribute in node.attribute:
        graphs = [*attribute.graphs]
        if attribute.type == AttributeProto.GRAPH:
            graphs.append(attribute.g)
        for graph in graphs:
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
