"""The weights of an ONNX model, and the names that they have as tensors of a checkpoint.

The law of names, which files of permutations and specs depend on:

- an initializer of the main graph has its own name;
- the value of a Constant node has the name of the node's output;
- inside a subgraph (of If, Loop, Scan) that name stands behind the place of the subgraph:
  `NODE/ATTRIBUTE/name`, or `NODE/ATTRIBUTE/NUMBER/name` where an attribute holds several graphs.
  NODE is the name of the node, or its first output where it has no name of its own among the nodes
  of its graph;
- inside a local function it stands behind `DOMAIN::FUNCTION/`, with `:OVERLOAD` where there is one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rebasin_hub.formats.onnx.tensor import NAMES, Parsed, parse_tensor
from rebasin_hub.formats.onnx.wire import BYTES, Field, Frame, Wire

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Contents", "read_model"]

_MAX_DEPTH = 32

# Field numbers in onnx.proto.
_MODEL_GRAPH, _MODEL_TRAINING, _MODEL_FUNCTIONS = 7, 20, 25
_TRAINING_GRAPHS = (1, 2)
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE = 1, 5, 15
_NODE_OUTPUT, _NODE_NAME, _NODE_TYPE, _NODE_ATTRIBUTE, _NODE_DOMAIN = 2, 3, 4, 5, 7
_ATTRIBUTE_NAME, _TENSOR, _GRAPH, _TENSORS, _GRAPHS, _SPARSE, _SPARSES = 1, 5, 6, 10, 11, 22, 23
_FUNCTION_NAME, _FUNCTION_NODE, _FUNCTION_DOMAIN, _FUNCTION_OVERLOAD = 1, 7, 10, 13
_FUNCTION_DEFAULTS = 11
_SPARSE_PARTS = (1, 2)

_Frames = tuple[Frame, ...]


@dataclass
class Contents:
    """What was found in a model."""

    tensors: dict[str, Parsed] = field(default_factory=dict)
    """The weights, by their names, in stored order."""
    hidden: list[Parsed] = field(default_factory=list)
    """Tensors that are no weights: of other attributes, sparse ones, of the training graphs."""
    skipped: dict[str, str] = field(default_factory=dict)
    """Weights that no array can hold, and their element types."""


def read_model(wire: Wire) -> Contents:
    """Find the weights of the model that a file holds.

    Raises:
        FormatError: it is damaged, or no model.

    """
    contents = Contents()
    walk = _Walk(wire, contents)
    graphs = 0
    for part in wire.fields(0, wire.size):
        if part.number == _MODEL_GRAPH:
            walk.graph((_frame(wire, part, "the graph"),), "")
            graphs += 1
        elif part.number == _MODEL_FUNCTIONS:
            walk.function((_frame(wire, part, "a function"),))
        elif part.number == _MODEL_TRAINING:
            own = _frame(wire, part, "what is said of training")
            for inner in wire.fields(own.start, own.end):
                if inner.number in _TRAINING_GRAPHS:
                    walk.graph((own, _frame(wire, inner, "a graph")), None)
    if graphs != 1:
        raise wire.damaged(0, f"expected an ONNX model with one graph, found {graphs}")
    return contents


def _frame(wire: Wire, part: Field, what: str) -> Frame:
    wire.expect(part, BYTES, what)
    return part.frame


@dataclass(frozen=True)
class _Node:
    """What has to be known of a node: its outputs, its attributes and what it is."""

    name: str
    outputs: tuple[str, ...]
    constant: bool
    frames: _Frames
    attributes: tuple[Field, ...]


@dataclass(frozen=True)
class _Walk:
    """Collects the tensors of a model; a `place` of None is one whose tensors have no names."""

    wire: Wire
    contents: Contents

    def graph(self, frames: _Frames, place: str | None) -> None:
        if len(frames) > 3 * _MAX_DEPTH:  # a graph, a node and an attribute for each depth
            raise self.wire.damaged(frames[-1].start, "its graphs are nested too deeply")
        nodes = []
        for part in self.wire.fields(frames[-1].start, frames[-1].end):
            if part.number in {_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_SPARSE}:
                inner = (*frames, _frame(self.wire, part, "a part of a graph"))
                if part.number == _GRAPH_NODE:
                    nodes.append(self.node(inner))
                elif part.number == _GRAPH_INITIALIZER:
                    found = parse_tensor(self.wire, inner)
                    self.add(found, None if place is None else place + found.name)
                else:
                    self.sparse(inner)
        self.nodes(nodes, place)

    def function(self, frames: _Frames) -> None:
        nodes, texts = [], dict.fromkeys((_FUNCTION_NAME, _FUNCTION_DOMAIN, _FUNCTION_OVERLOAD), "")
        for part in self.wire.fields(frames[-1].start, frames[-1].end):
            if part.number in texts:
                texts[part.number] = self.wire.text(part, "a function's name")
            elif part.number == _FUNCTION_NODE:
                nodes.append(self.node((*frames, _frame(self.wire, part, "a node"))))
            elif part.number == _FUNCTION_DEFAULTS:
                inner = (*frames, _frame(self.wire, part, "an attribute"))
                self.attribute(inner, None, constant=None)
        name, domain, overload = texts.values()
        self.nodes(nodes, f"{domain}::{name}{overload and ':'}{overload}/")

    def node(self, frames: _Frames) -> _Node:
        texts = {_NODE_NAME: "", _NODE_TYPE: "", _NODE_DOMAIN: ""}
        outputs, attributes = [], []
        for part in self.wire.fields(frames[-1].start, frames[-1].end):
            if part.number in texts:
                texts[part.number] = self.wire.text(part, "a node's name or type")
            elif part.number == _NODE_OUTPUT:
                outputs.append(self.wire.text(part, "a node's output"))
            elif part.number == _NODE_ATTRIBUTE:
                self.wire.expect(part, BYTES, "an attribute")
                attributes.append(part)
        constant = texts[_NODE_TYPE] == "Constant" and texts[_NODE_DOMAIN] in {"", "ai.onnx"}
        return _Node(texts[_NODE_NAME], tuple(outputs), constant, frames, tuple(attributes))

    def nodes(self, nodes: Iterable[_Node], place: str | None) -> None:
        """Go through the attributes of a graph's nodes."""
        nodes = [node for node in nodes if node.attributes]
        times = Counter(node.name for node in nodes)
        for node in nodes:
            first = next(filter(None, node.outputs), "")
            own = node.name if node.name and times[node.name] == 1 else first
            constant = place + first if node.constant and place is not None else None
            for part in node.attributes:
                within = None if place is None else f"{place}{own}/"
                self.attribute((*node.frames, part.frame), within, constant)

    def attribute(self, frames: _Frames, place: str | None, constant: str | None) -> None:
        """Go through one attribute; `constant` is the name of a Constant node's value."""
        name, many, found = "", False, []
        for part in self.wire.fields(frames[-1].start, frames[-1].end):
            if part.number == _ATTRIBUTE_NAME:
                name = self.wire.text(part, "an attribute's name")
            elif part.number in {_TENSOR, _TENSORS, _GRAPH, _GRAPHS, _SPARSE, _SPARSES}:
                self.wire.expect(part, BYTES, "an attribute's value")
                many = many or part.number == _GRAPHS
                found.append(part)
        for number, part in enumerate(found):
            inner = (*frames, part.frame)
            if part.number in {_TENSOR, _TENSORS}:
                value = name == "value" and part.number == _TENSOR
                self.add(parse_tensor(self.wire, inner), constant if value else None)
            elif part.number in {_GRAPH, _GRAPHS}:
                index = f"{number}/" if many else ""
                self.graph(inner, None if place is None else f"{place}{name}/{index}")
            else:
                self.sparse(inner)

    def sparse(self, frames: _Frames) -> None:
        for part in self.wire.fields(frames[-1].start, frames[-1].end):
            if part.number in _SPARSE_PARTS:
                inner = (*frames, _frame(self.wire, part, "a part of a sparse tensor"))
                self.add(parse_tensor(self.wire, inner), None)

    def add(self, found: Parsed, name: str | None) -> None:
        if name is None:
            self.contents.hidden.append(found)
            return
        at = found.frames[-1].start
        if not name:
            raise self.wire.damaged(at, "a weight has no name")
        if name in self.contents.tensors or name in self.contents.skipped:
            raise self.wire.damaged(at, f"two weights are called {name!r}")
        if found.info is None:
            number = found.type_number
            self.contents.skipped[name] = NAMES.get(number, "FLOAT4E2M1")
            self.contents.hidden.append(found)
        else:
            self.contents.tensors[name] = found
