"""Where the graphs inside an ONNX model stand, and what the names in them mean.

Weights inside a subgraph have names as tensors of the checkpoint (`formats.onnx.model` has the
law). Here they are moved out of it, under those names, so that one list of weights says it all.

This module needs the package onnx, and is imported by what runs models alone.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
from onnx import (
    AttributeProto,
    FunctionProto,
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    helper,
)

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.onnx.wire import LARGEST

__all__ = ["Scope", "hoisted", "load_model", "own_names", "renamed", "scopes", "subgraphs"]


def load_model(path: Path) -> ModelProto:
    """Read a model, without the values that lie in other files.

    Raises:
        FormatError: it is damaged, or too large for protobuf.

    """
    try:
        if path.stat().st_size > LARGEST:
            raise FormatError(
                f"{path}: has more than the 2 GiB that protobuf reads, so that its graph cannot be "
                "used; save it with external data"
            )
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read as an ONNX model: {error}") from error
    # protobuf gives bytes in the place of a text that is none.
    inside = (*(text for f in model.functions for text in _texts(f)), *_texts(model.graph))
    if not all(isinstance(text, str) for text in inside):
        raise FormatError(f"{path}: cannot be read as an ONNX model: a name is not valid UTF-8")
    return model


def _texts(part: GraphProto | FunctionProto) -> Iterator[object]:
    """Yield the names in a graph or a function, and those in the graphs in it."""
    if isinstance(part, GraphProto):
        yield from (v.name for v in (*part.input, *part.output, *part.initializer))
    else:
        yield from (part.name, part.domain, part.overload, *part.input, *part.output)
    for node in part.node:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)
        for attribute in node.attribute:
            yield attribute.name
            for graph, _ in _graphs(attribute):
                yield from _texts(graph)


@dataclass(frozen=True)
class Scope:
    """One graph of a model.

    Args:
        graph: the graph.
        place: what stands before the names of its weights; empty for the main graph.
        names: for every name that can be read in it the name that it has in the whole model.

    """

    graph: GraphProto
    place: str
    names: Mapping[str, str]


def scopes(
    graph: GraphProto, place: str = "", around: MutableMapping[str, str] | None = None
) -> Iterator[Scope]:
    """Yield a graph and all graphs in it, the outer ones first."""
    defined = (*(t.name for t in (*graph.input, *graph.initializer)), *_results(graph))
    names = ChainMap({name: place + name for name in defined if name})
    names.maps += [] if around is None else [around]
    yield Scope(graph, place, names)
    for node, own in zip(graph.node, own_names(graph.node), strict=True):
        for attribute in node.attribute:
            for inner, within in _graphs(attribute):
                yield from scopes(inner, f"{place}{own}/{within}", names)


def _results(graph: GraphProto) -> Iterator[str]:
    for node in graph.node:
        yield from node.output


def _graphs(attribute: AttributeProto) -> Iterator[tuple[GraphProto, str]]:
    """Yield the graphs of an attribute, each with its place in the node."""
    if attribute.HasField("g"):
        yield attribute.g, f"{attribute.name}/"
    for number, graph in enumerate(attribute.graphs):
        yield graph, f"{attribute.name}/{number}/"


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs in the attributes of a node."""
    for attribute in node.attribute:
        yield from (graph for graph, _ in _graphs(attribute))


def own_names(nodes: Iterable[NodeProto]) -> list[str]:
    """Return what the names of weights call each node; see `formats.onnx.model`."""
    nodes = list(nodes)
    times = Counter(node.name for node in nodes if node.attribute)
    return [
        node.name if node.name and times[node.name] == 1 else next(filter(None, node.output), "")
        for node in nodes
    ]


def hoisted(model: ModelProto, stored: Collection[str] | None = None) -> ModelProto:
    """Return a model whose subgraphs read their tensors from the main graph.

    Results of operators with subgraphs that nobody wants get names: without them onnxruntime 1.31
    ends the process (a segmentation fault).

    Args:
        model: before its functions are put in place, which may rename nodes.
        stored: the tensors to move, by their names in the checkpoint; all by default.

    """
    if not any(any(subgraphs(node)) for node in model.graph.node):
        return model
    flat = ModelProto()
    flat.CopyFrom(model)
    found = list(scopes(flat.graph))
    taken = {name for scope in found for name in scope.names.maps[0]}  # type: ignore[attr-defined]
    for scope in found[1:]:
        moved = {}
        for name, tensor in list(_stored(scope.graph)):
            full = scope.place + name
            if full not in taken and (stored is None or full in stored):
                flat.graph.initializer.add().CopyFrom(tensor)
                flat.graph.initializer[-1].name = full
                _take_out(scope.graph, name, full)
                moved[name] = full
        for node in scope.graph.node if moved else ():
            _rename_inputs(node, moved)
    for scope in found:
        _name_results(scope, taken)
    return flat


def _stored(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """Yield the tensors of a graph, those of its Constant nodes among them."""
    inputs = {value.name for value in graph.input}
    for tensor in graph.initializer:
        if tensor.name not in inputs:
            yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                if attribute.name == "value" and attribute.HasField("t"):
                    yield node.output[0], attribute.t


def _name_results(scope: Scope, taken: set[str]) -> None:
    for node, own in zip(scope.graph.node, own_names(scope.graph.node), strict=True):
        if not any(subgraphs(node)):
            continue
        for number, name in enumerate(node.output):
            if not name:
                unused = f"{scope.place}{own}/unused/{number}"
                while unused in taken:
                    unused += "_"
                taken.add(unused)
                node.output[number] = unused


def _take_out(graph: GraphProto, name: str, full: str) -> None:
    """Take a weight out of a graph; what the graph gives must be made in it."""
    for listed in (graph.initializer, graph.node):
        for number, entry in enumerate(listed):
            mine = entry.name if listed is graph.initializer else next(iter(entry.output), "")
            if mine == name:
                del listed[number]
                break
    if any(output.name == name for output in graph.output):
        graph.node.append(helper.make_node("Identity", [full], [name]))


def renamed(node: NodeProto, names: Mapping[str, str]) -> NodeProto:
    """Return a copy of a node with other names for what it reads, gives and captures."""
    copy = NodeProto()
    copy.CopyFrom(node)
    given = [names.get(name, name) for name in copy.output]
    del copy.output[:]
    copy.output.extend(given)
    _rename_inputs(copy, names)
    return copy


def _rename_inputs(node: NodeProto, names: Mapping[str, str]) -> None:
    """Rename what a node and the graphs in it read; what these define themselves is theirs."""
    read = [names.get(name, name) for name in node.input]
    if read != list(node.input):
        del node.input[:]
        node.input.extend(read)
    for graph in subgraphs(node):
        left = _without(names, (*(t.name for t in (*graph.input, *graph.initializer)),
                                *_results(graph)))  # fmt: skip
        for inner in graph.node:
            _rename_inputs(inner, left)
        for output in graph.output:
            output.name = left.get(output.name, output.name)


def _without(names: Mapping[str, str], defined: Collection[str]) -> Mapping[str, str]:
    return names if names.keys().isdisjoint(defined) else {
        name: full for name, full in names.items() if name not in defined
    }  # fmt: skip
