"""What two ONNX models have in common that compute the same function of other weights."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto

from rebasin_hub.formats.onnx.places import load_model, scopes, subgraphs
from rebasin_hub.infer.onnx_graph import weights_of
from rebasin_hub.infer.outline import Outline
from rebasin_hub.tensors import Header

__all__ = ["read_outline"]

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


def read_outline(path: Path, header: Header) -> Outline:
    """Read the outline of a model.

    Args:
        path: the file; data in other files is not read.
        header: its tensors.

    Raises:
        FormatError: it is damaged.

    """
    return Outline(tuple(_parts(load_model(path), header)))


def _parts(model: ModelProto, header: Header) -> Iterator[tuple[str, bytes]]:
    graph = model.graph
    _empty_weights(graph, weights_of(graph, header))
    for opset in sorted(model.opset_import, key=lambda o: o.domain):
        yield f"operators of '{opset.domain}'", str(opset.version).encode()
    initial = {tensor.name for tensor in graph.initializer}
    for kind, values in (("input", graph.input), ("output", graph.output)):
        for value in values:
            if value.name not in initial:
                yield f"the {kind} '{value.name}'", value.type.SerializeToString(deterministic=True)
    for node in graph.node:
        yield f"{node.op_type} that gives '{next(iter(node.output), '')}'", _bare(node)
    # Values inside functions are part of the program: they are not renumbered.
    for function in sorted(model.functions, key=lambda f: (f.domain, f.name, f.overload)):
        bare = b"".join(map(_bare, function.node))
        yield f"the function {function.domain}::{function.name}", bare
    for tensor in sorted(graph.initializer, key=lambda t: t.name):
        tensor.ClearField("doc_string")
        content = tensor.SerializeToString(deterministic=True)
        yield f"the initializer '{tensor.name}'", content


def _empty_weights(graph: GraphProto, weights: frozenset[str]) -> None:
    """Take the values of all weights out of a graph and the graphs in it."""
    for scope in scopes(graph):
        for tensor in scope.graph.initializer:
            if scope.names[tensor.name] in weights:
                _empty(tensor)
        for node in scope.graph.node:
            if (
                node.op_type == "Constant"
                and scope.names.get(next(iter(node.output), "")) in weights
            ):
                for attribute in node.attribute:
                    if attribute.type == AttributeProto.TENSOR:
                        _empty(attribute.t)


def _bare(node: NodeProto) -> bytes:
    """Return all that a node says but what does not count."""
    copy = NodeProto()
    copy.CopyFrom(node)
    _strip(copy)
    content: bytes = copy.SerializeToString(deterministic=True)
    return content


def _strip(node: NodeProto) -> None:
    """Take names, texts for people and what is said of shapes out of a node."""
    node.ClearField("name")
    node.ClearField("doc_string")
    for attribute in node.attribute:
        attribute.ClearField("doc_string")
    attributes = sorted(node.attribute, key=lambda a: a.name)
    copies = [AttributeProto.FromString(a.SerializeToString()) for a in attributes]
    del node.attribute[:]
    node.attribute.extend(copies)
    for graph in subgraphs(node):
        graph.ClearField("doc_string")
        del graph.value_info[:]
        for below in graph.node:
            _strip(below)


def _empty(tensor: TensorProto) -> None:
    """Take the values out of a tensor, and leave its type and shape."""
    for name in VALUES:
        tensor.ClearField(name)
    tensor.ClearField("doc_string")
