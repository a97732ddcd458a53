"""ONNX models without local functions and branches, so that one list of operators says it all.

A function's body takes the place of its calls. Of an If whose condition the program itself decides
(a shape, a constant) the branch that is taken takes its place; of any other both branches do, side
by side, and a Where chooses between their results. Operators have no side effects, so that what is
computed stays the same, as long as the branch that would not have been taken runs as well.

Loop and Scan stay as they are: what happens in them depends on their turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from onnx import GraphProto, ModelProto, NodeProto, helper, inliner

from rebasin_hub.errors import InputError

__all__ = [
    "PLAIN_DOMAINS",
    "Branches",
    "conditions",
    "inlined",
    "known_values",
    "subgraphs",
    "unbranched",
]

PLAIN_DOMAINS = frozenset({"", "ai.onnx"})
MOST_NODES = 200_000
"""Operators of a model when every function stands where it is called."""
DRAWN = frozenset({"Bernoulli", "Multinomial"})
CHOICE = "choice/"
"""How the name of an operator begins that chooses between two branches."""
SHAPES = frozenset({"Shape", "Size"})
"""Operators that look at shapes alone."""


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs in the attributes of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def known_values(nodes: Iterable[NodeProto], known: Collection[str]) -> frozenset[str]:
    """Return the values that depend on nothing but shapes and values that are known already."""
    found = set(known)
    for node in nodes:
        plain = node.domain in PLAIN_DOMAINS and not any(subgraphs(node))
        given = node.op_type in SHAPES or all(name in found for name in node.input if name)
        if plain and given and not _is_random(node):
            found.update(filter(None, node.output))
    return frozenset(found)


def _is_random(node: NodeProto) -> bool:
    return node.op_type.startswith("Random") or node.op_type in DRAWN


def inlined(model: ModelProto, source: str) -> ModelProto:
    """Return a model with every function's body in the place of its calls.

    Raises:
        InputError: functions call themselves, or make the model too large.

    """
    if not model.functions:
        return model
    bodies = {(f.domain, f.name, f.overload): list(f.node) for f in model.functions}
    _check_size(bodies, list(model.graph.node), source)
    try:
        return inliner.inline_local_functions(model)
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise InputError(f"{source}: its functions cannot be put in place: {reason}") from error


_Key = tuple[str, str, str]


def _check_size(
    bodies: Mapping[_Key, list[NodeProto]], nodes: list[NodeProto], source: str
) -> None:
    """Refuse functions that would never end, or end too late; onnx itself would crash."""
    sizes: dict[_Key, int | None] = {}

    def size(inside: Iterable[NodeProto], depth: int) -> int:
        total = 0
        for node in inside:
            key = (node.domain, node.op_type, node.overload)
            if key in bodies:
                if sizes.get(key, 0) is None or depth > len(bodies):
                    raise InputError(f"{source}: the function '{node.op_type}' calls itself")
                if key not in sizes:
                    sizes[key] = None
                    sizes[key] = size(bodies[key], depth + 1)
                total += sizes[key] or 0
            total += 1 + sum(size(graph.node, depth) for graph in subgraphs(node))
            if total > MOST_NODES:
                raise InputError(f"{source}: its functions make more than {MOST_NODES:,} operators")
        return total

    try:
        size(nodes, 0)
    except RecursionError:
        raise InputError(f"{source}: its functions call one another too deeply") from None


@dataclass(frozen=True)
class Branches:
    """How the Ifs of a model are to be treated, each by the name of its first output.

    Args:
        taken: the branch that is always taken, where that is known.
        beside: those whose branches both stand in the graph.

    """

    taken: Mapping[str, bool] = field(default_factory=dict)
    beside: frozenset[str] = frozenset()


def conditions(graph: GraphProto) -> dict[str, str]:
    """Return the condition of every If of a graph, by the name of the If's first output."""
    return {node.output[0]: node.input[0] for node in graph.node if _is_if(node)}


def unbranched(model: ModelProto, branches: Branches) -> ModelProto:
    """Return a model with branches in place of the Ifs that hold them.

    Weights of a branch become weights of the graph, under the names that they have as tensors of
    the checkpoint.
    """
    flat = ModelProto()
    flat.CopyFrom(model)
    graph = flat.graph
    own = _own_names(graph.node)
    nodes: list[NodeProto] = []
    for node, name in zip(graph.node, own, strict=True):
        key = node.output[0] if node.output else ""
        if not _is_if(node) or not (key in branches.taken or key in branches.beside):
            nodes.append(node)
            continue
        both = {a.name: a.g for a in node.attribute if a.HasField("g")}
        if key in branches.taken:
            which = "then_branch" if branches.taken[key] else "else_branch"
            found = _placed(both[which], f"{name}/{which}/", graph)
            nodes += found.nodes
            pairs = zip(found.outputs, node.output, strict=True)
            nodes += [helper.make_node("Identity", [a], [b]) for a, b in pairs if b]
        else:
            nodes += _beside(node, both, name, graph)
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
    return flat


def _is_if(node: NodeProto) -> bool:
    names = {a.name for a in node.attribute if a.HasField("g")}
    complete = names == {"then_branch", "else_branch"} and bool(node.input) and bool(node.output)
    return node.op_type == "If" and node.domain in PLAIN_DOMAINS and complete


def _own_names(nodes: Iterable[NodeProto]) -> list[str]:
    """Return what the names of weights call each node; see `formats.onnx.model`."""
    nodes = list(nodes)
    times = Counter(node.name for node in nodes if node.attribute)
    return [
        node.name if node.name and times[node.name] == 1 else next(filter(None, node.output), "")
        for node in nodes
    ]


def _beside(
    node: NodeProto, both: Mapping[str, GraphProto], name: str, graph: GraphProto
) -> Iterator[NodeProto]:
    condition = f"{name}/condition"
    yield helper.make_node("Squeeze", [node.input[0]], [condition])
    one, other = (
        _placed(both[which], f"{name}/{which}/", graph) for which in ("then_branch", "else_branch")
    )
    yield from (*one.nodes, *other.nodes)
    for a, b, output in zip(one.outputs, other.outputs, node.output, strict=True):
        if output:
            yield helper.make_node("Where", [condition, a, b], [output], name=f"{CHOICE}{output}")


@dataclass(frozen=True)
class _Placed:
    nodes: tuple[NodeProto, ...]
    outputs: tuple[str, ...]


def _placed(branch: GraphProto, place: str, graph: GraphProto) -> _Placed:
    """Rename what a branch defines, and put its weights into the graph around it."""
    made = [name for node in branch.node for name in node.output if name]
    names = {name: place + name for name in (*(t.name for t in branch.initializer), *made)}
    for tensor in branch.initializer:
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = names[tensor.name]
    nodes = []
    for node, own in zip(branch.node, _own_names(branch.node), strict=True):
        copy = NodeProto()
        copy.CopyFrom(node)
        _rename(copy, names)
        copy.name = place + own
        nodes.append(copy)
    return _Placed(tuple(nodes), tuple(names.get(o.name, o.name) for o in branch.output))


def _rename(node: NodeProto, names: Mapping[str, str]) -> None:
    for listed in (node.input, node.output):
        renamed = [names.get(name, name) for name in listed]
        del listed[:]
        listed.extend(renamed)
    for graph in subgraphs(node):
        _rename_captured(graph, names)


def _rename_captured(graph: GraphProto, names: Mapping[str, str]) -> None:
    """Rename what a graph reads from around it; what it defines has other names than that."""
    for node in graph.node:
        renamed = [names.get(name, name) for name in node.input]
        del node.input[:]
        node.input.extend(renamed)
        for inner in subgraphs(node):
            _rename_captured(inner, names)
    for output in graph.output:
        output.name = names.get(output.name, output.name)
