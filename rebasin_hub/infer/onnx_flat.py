"""ONNX models without local functions and branches, so that one list of operators says it all.

A function's body takes the place of its calls. Of an If whose condition the program itself decides
(a shape, a constant) the branch that is taken takes its place; of any other both branches do, side
by side, and a Where chooses between their results. Operators have no side effects, so that what is
computed stays the same, as long as the branch that would not have been taken runs as well.

The bodies of Loop and Scan are treated in the same way, and are looked into elsewhere
(`onnx_turns`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from onnx import GraphProto, ModelProto, NodeProto, helper, inliner

from rebasin_hub.errors import InputError
from rebasin_hub.formats.onnx.places import own_names, renamed, subgraphs

__all__ = [
    "PLAIN_DOMAINS",
    "Branches",
    "conditions",
    "inlined",
    "known_values",
    "unbranched",
    "unbranched_bodies",
]

PLAIN_DOMAINS = frozenset({"", "ai.onnx"})
MOST_NODES = 200_000
"""Operators of a model when every function stands where it is called."""
DRAWN = frozenset({"Bernoulli", "Multinomial"})
MOST_NESTED = 16
"""How deeply branches that are looked into stand in one another."""
LOOPS = frozenset({"Loop", "Scan"})
CHOICE = "choice/"
"""How the name of an operator begins that chooses between two branches."""
SHAPES = frozenset({"Shape", "Size"})
"""Operators that look at shapes alone."""


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
    _unbranch(flat.graph, branches, "")
    return flat


def unbranched_bodies(model: ModelProto) -> ModelProto:
    """Return a model in whose loops both branches of every If stand side by side."""
    flat = ModelProto()
    flat.CopyFrom(model)
    _unbranch_bodies(flat.graph.node, "")
    return flat


def _unbranch_bodies(nodes: Iterable[NodeProto], place: str) -> None:
    for node, own in zip(nodes, own_names(nodes), strict=True):
        if node.op_type not in LOOPS or node.domain not in PLAIN_DOMAINS:
            continue
        for number, body in enumerate(subgraphs(node)):
            within = f"{place}{own}/{number}/"
            for _ in range(MOST_NESTED):
                found = conditions(body)
                if not found:
                    break
                _unbranch(body, Branches(beside=frozenset(found)), within)
            _unbranch_bodies(body.node, within)


def _unbranch(graph: GraphProto, branches: Branches, place: str) -> None:
    """Put branches in place of the Ifs of a graph; `place` begins the names of what they give."""
    nodes: list[NodeProto] = []
    for node, own in zip(graph.node, own_names(graph.node), strict=True):
        name = place + own
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


def _is_if(node: NodeProto) -> bool:
    names = {a.name for a in node.attribute if a.HasField("g")}
    complete = names == {"then_branch", "else_branch"} and bool(node.input) and bool(node.output)
    return node.op_type == "If" and node.domain in PLAIN_DOMAINS and complete


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
    """Rename what a branch defines, and put its tensors into the graph around it."""
    made = [name for node in branch.node for name in node.output if name]
    names = {name: place + name for name in (*(t.name for t in branch.initializer), *made)}
    for tensor in branch.initializer:
        graph.initializer.add().CopyFrom(tensor)
        graph.initializer[-1].name = names[tensor.name]
    nodes = []
    for node, own in zip(branch.node, own_names(branch.node), strict=True):
        copy = renamed(node, names)
        copy.name = place + own
        nodes.append(copy)
    return _Placed(tuple(nodes), tuple(names.get(o.name, o.name) for o in branch.output))
