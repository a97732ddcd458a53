"""What two ONNX models have in common that compute the same function of other weights."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from rebasin_hub.errors import FormatError
from rebasin_hub.infer.onnx_flat import subgraphs
from rebasin_hub.infer.onnx_graph import weights_of
from rebasin_hub.tensors import Header

__all__ = ["Outline", "read_outline"]

VALUES = (
    "raw_data",
    "float_data",
    "int32_data",
    "int64_data",
    "double_data",
    "uint64_data",
    "external_data",
    "data_location",
)
FLOATS = frozenset(
    {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
)


@dataclass(frozen=True)
class Outline:
    """Everything of a graph but the values of its weights, part by part.

    `parts` holds for each what people call it, and all that it says. Names of nodes, texts for
    people, and what the graph says of shapes inside it do not count.
    """

    parts: tuple[tuple[str, bytes], ...]

    @property
    def digest(self) -> str:
        """The SHA-256 of the parts, in hexadecimal: equal for two files of one graph."""
        found = hashlib.sha256()
        for place, content in self.parts:
            found.update(f"{place}:{len(content)}:".encode())
            found.update(content)
        return found.hexdigest()

    def difference(self, other: Outline) -> str | None:
        """Return what the first difference to another graph is; None where there is none."""
        for mine, theirs in itertools.zip_longest(self.parts, other.parts):
            if mine == theirs:
                continue
            if mine is None or theirs is None:
                place, which = (theirs or mine)[0], "second" if mine is None else "first"
                return f"{place} is in the {which} alone"
            if mine[0] != theirs[0]:
                return f"{mine[0]} against {theirs[0]}"
            return f"{mine[0]} says something else there"
        return None


def read_outline(path: Path, header: Header) -> Outline:
    """Read the outline of a model.

    Args:
        path: the file; data in other files is not read.
        header: its tensors.

    Raises:
        FormatError: it is damaged.

    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read as an ONNX model: {error}") from error
    return Outline(tuple(_parts(model, header)))


def _parts(model: ModelProto, header: Header) -> Iterator[tuple[str, bytes]]:
    graph = model.graph
    weights = weights_of(graph, header)
    for opset in sorted(model.opset_import, key=lambda o: o.domain):
        yield f"operators of '{opset.domain}'", str(opset.version).encode()
    initial = {tensor.name for tensor in graph.initializer}
    for kind, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            if value.name not in initial:
                yield f"the {kind} '{value.name}'", value.type.SerializeToString(deterministic=True)
    yield from _nodes(graph, weights)
    for function in sorted(model.functions, key=lambda f: (f.domain, f.name, f.overload)):
        bare = _without_names(function.node, frozenset())
        yield f"the function {function.domain}::{function.name}", b"".join(bare)
    for tensor in sorted(graph.initializer, key=lambda t: t.name):
        kept = TensorProto()
        kept.CopyFrom(tensor)
        kept.ClearField("doc_string")
        if tensor.name in weights:
            _empty(kept)
        yield f"the initializer '{tensor.name}'", kept.SerializeToString(deterministic=True)


def _nodes(graph: GraphProto, weights: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    for node, content in zip(graph.node, _without_names(graph.node, weights), strict=True):
        yield f"{node.op_type} that gives '{next(iter(node.output), '')}'", content


def _without_names(nodes: object, weights: frozenset[str]) -> Iterator[bytes]:
    for node in nodes:  # type: ignore[attr-defined]
        copy = NodeProto()
        copy.CopyFrom(node)
        _strip(copy, weights)
        yield copy.SerializeToString(deterministic=True)


def _strip(node: NodeProto, weights: frozenset[str]) -> None:
    """Take out of a node what does not count; weights inside a subgraph are floats of any name."""
    node.ClearField("name")
    node.ClearField("doc_string")
    weight = node.op_type == "Constant" and any(name in weights for name in node.output)
    for attribute in node.attribute:
        attribute.ClearField("doc_string")
        if weight and attribute.type == AttributeProto.TENSOR:
            _empty(attribute.t)
    attributes = sorted(node.attribute, key=lambda a: a.name)
    copies = [AttributeProto.FromString(a.SerializeToString()) for a in attributes]
    del node.attribute[:]
    node.attribute.extend(copies)
    for graph in subgraphs(node):
        inner = {t.name for t in graph.initializer if _is_weight(t)}
        inner.update(n.output[0] for n in graph.node if _holds_weight(n))
        for tensor in graph.initializer:
            if tensor.name in inner:
                _empty(tensor)
        graph.ClearField("doc_string")
        del graph.value_info[:]
        for below in graph.node:
            _strip(below, frozenset(inner))


def _is_weight(tensor: TensorProto) -> bool:
    size = 1
    for n in tensor.dims:
        size *= n
    return size > 1 and tensor.data_type in FLOATS


def _holds_weight(node: NodeProto) -> bool:
    values = [a.t for a in node.attribute if a.name == "value" and a.HasField("t")]
    return node.op_type == "Constant" and bool(node.output) and any(map(_is_weight, values))


def _empty(tensor: TensorProto) -> None:
    """Take the values out of a tensor, and leave its type and shape."""
    for name in VALUES:
        tensor.ClearField(name)
    tensor.ClearField("doc_string")
