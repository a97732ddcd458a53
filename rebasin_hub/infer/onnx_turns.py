"""Look into Loop and Scan: their bodies as operators of the graph around them, once for all turns.

A body is put between two operators, `Enter` and `Leave` (`rules.loops` has their meaning), under
names of its own. The shapes inside it are those of a run in which every turn tells them. A body in
which a shape changes from turn to turn, or that never runs, stays closed: what it reads is fixed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto, helper

from rebasin_hub.formats.onnx.places import own_names, renamed
from rebasin_hub.infer.graph import Array, Shape
from rebasin_hub.infer.onnx_flat import CHOICE, LOOPS, PLAIN_DOMAINS, known_values
from rebasin_hub.infer.rules.loops import DOMAIN, ENTER, LEAVE

__all__ = ["Turned", "turned"]

MOST_TRIED = 16
"""Loops that are tried by themselves where not all can be looked into at once."""

SHAPE, VALUE = "shape of ", "value of "
"""How the names of outputs begin that tell what a value inside a body is like."""

NO_TENSOR = frozenset(
    {
        "Optional",
        "SequenceConstruct",
        "SequenceEmpty",
        "SequenceErase",
        "SequenceInsert",
        "SequenceMap",
        "SplitToSequence",
    }
)
"""Operators whose results have no shape."""

Run: TypeAlias = "Callable[[ModelProto], Mapping[str, Array] | None]"


@dataclass(frozen=True)
class Turned:
    """A model with the bodies of its loops in the open, and what was seen inside them.

    Args:
        model: for reading alone; nothing runs its `Enter` and `Leave`.
        shapes: of the values inside bodies.
        seen: those of them that depend on nothing but shapes and constants.

    """

    model: ModelProto
    shapes: Mapping[str, Shape] = field(default_factory=dict)
    seen: Mapping[str, Array] = field(default_factory=dict)

    @property
    def even(self) -> bool:
        """Whether both branches of all choices have one shape."""
        for node in self.model.graph.node:
            if node.op_type == "Where" and node.name.startswith(CHOICE):
                three = (*node.input[1:], *node.output)
                if len({self.shapes[name] for name in three if name in self.shapes}) > 1:
                    return False
        return True


def turned(model: ModelProto, fixed: Collection[str], run: Run) -> Turned:
    """Put the bodies of all loops in the open that can be looked into.

    Args:
        model: without weights in its bodies.
        fixed: the initializers that are part of the program.
        run: runs a model on its inputs, and returns every value outside its subgraphs; None if it
            does not run.

    """
    loops = list(_loops(model.graph.node, ""))
    if not loops:
        return Turned(model)
    found = _look(model, frozenset(loops), fixed, run)
    if found is None:
        good: set[str] = set()
        outer = [key for key in loops if not any(key != k and key.startswith(k) for k in loops)]
        for key in outer[:MOST_TRIED]:
            for tried in ({k for k in loops if k.startswith(key)}, {key}):
                if _look(model, frozenset(tried), fixed, run) is not None:
                    good |= tried
                    break
        found = _look(model, frozenset(good), fixed, run)
    return found or Turned(model)


def _look(
    model: ModelProto, opened: frozenset[str], fixed: Collection[str], run: Run
) -> Turned | None:
    """Open loops and see what happens in them; None if that cannot be seen."""
    if not opened:
        return Turned(model)
    known = known_values(_spread(model, opened).graph.node, fixed)
    watched, told = _watched(model, opened, known)
    values = run(watched)
    if values is None:
        return None
    shapes, seen, uneven = _read({name: values[name] for name in told}, told)
    opened = frozenset(key for key in opened if not any(key.startswith(k) for k in uneven))
    return Turned(_spread(model, opened), shapes, seen)


@dataclass(frozen=True)
class _Loop:
    """The body of a Loop or a Scan, and how its values hang together with those around it."""

    body: GraphProto
    before: tuple[str, ...]
    """The states and the values that are scanned, outside."""
    inside: tuple[str, ...]
    """The same in the body."""
    after: tuple[str, ...]
    """The states and the parts that a turn gives, in the body."""
    outside: tuple[str, ...]
    """The same outside."""
    states: int
    into: tuple[int, ...]
    """The axis along which each scanned value is taken apart."""
    out_of: tuple[int, ...]
    """The axis along which the parts of each stacked value lie."""


def _loop(node: NodeProto) -> _Loop | None:
    """Return how a loop is built; None for another operator, and one that is built in no way."""
    if node.op_type not in LOOPS or node.domain not in PLAIN_DOMAINS:
        return None
    attributes = {a.name: a for a in node.attribute}
    body = attributes["body"].g if "body" in attributes else GraphProto()
    scans = node.op_type == "Scan"
    # A Loop begins with the number of its turns and a condition, and so does its body.
    first, result = (0, 0) if scans else (2, 1)
    scanned = attributes["num_scan_inputs"].i if scans and "num_scan_inputs" in attributes else 0
    before, inside = tuple(node.input[first:]), tuple(i.name for i in body.input)[first:]
    after = tuple(o.name for o in body.output)[result:]
    states = len(before) - scanned
    into = _axes(attributes, "scan_input_axes", scanned)
    out_of = _axes(attributes, "scan_output_axes", len(after) - states)
    fits = len(before) == len(inside) and 0 <= states <= len(after) >= len(node.output)
    if not fits or not body.node or len(into) != scanned or len(out_of) != len(after) - states:
        return None
    outside = (*node.output, *[""] * (len(after) - len(node.output)))
    return _Loop(body, before, inside, after, outside, states, into, out_of)


def _axes(attributes: Mapping[str, AttributeProto], name: str, count: int) -> tuple[int, ...]:
    return tuple(attributes[name].ints) if name in attributes else (0,) * max(count, 0)


def _keyed(nodes: Iterable[NodeProto], place: str) -> Iterator[tuple[NodeProto, str, str]]:
    """Yield nodes with what their names in the whole model are, and the place of their bodies."""
    nodes = list(nodes)
    for node, own in zip(nodes, own_names(nodes), strict=True):
        yield node, place + own, f"{place}{own}/body/"


def _loops(nodes: Iterable[NodeProto], place: str) -> Iterator[str]:
    """Yield the places of the bodies of all loops, the outer ones first."""
    for node, _, key in _keyed(nodes, place):
        loop = _loop(node)
        if loop is not None:
            yield key
            yield from _loops(loop.body.node, key)


def _spread(model: ModelProto, opened: Collection[str]) -> ModelProto:
    """Return a model with the bodies of some loops between an `Enter` and a `Leave`."""
    flat = ModelProto()
    flat.CopyFrom(model)
    nodes = list(_spread_nodes(model.graph.node, "", {}, opened, flat.graph))
    del flat.graph.node[:]
    flat.graph.node.extend(nodes)
    return flat


def _spread_nodes(
    nodes: Iterable[NodeProto],
    place: str,
    names: Mapping[str, str],
    opened: Collection[str],
    graph: GraphProto,
) -> Iterator[NodeProto]:
    for node, name, key in _keyed(nodes, place):
        copy = renamed(node, names)
        loop = _loop(copy) if key in opened else None
        if place:
            chosen = node.name.startswith(CHOICE)
            copy.name = f"{CHOICE if chosen else ''}{name}"
        if loop is None:
            yield copy
            continue
        own = {value: _full(key, value) for value in _defined(loop.body)}
        for tensor in loop.body.initializer:
            graph.initializer.add().CopyFrom(tensor)
            graph.initializer[-1].name = own[tensor.name]
        # What the body reads from around it has got its names with the node.
        inside, after = ([own.get(n, n) for n in listed] for listed in (loop.inside, loop.after))
        yield _between(ENTER, key, loop.before, inside, states=loop.states, axes=loop.into)
        yield from _spread_nodes(loop.body.node, key, own, opened, graph)
        given = [*inside[: loop.states], *after]
        yield _between(LEAVE, key, given, loop.outside, states=loop.states, axes=loop.out_of)


def _between(
    op: str, key: str, inputs: Iterable[str], outputs: Iterable[str], **attributes: object
) -> NodeProto:
    """Return one of the operators around a body."""
    node = helper.make_node(op, list(inputs), list(outputs), name=key + op, domain=DOMAIN)
    for name, value in attributes.items():
        # An empty list has no type of its own.
        kind = AttributeProto.INT if isinstance(value, int) else AttributeProto.INTS
        node.attribute.append(helper.make_attribute(name, value, attr_type=kind))
    return node


def _full(key: str, name: str) -> str:
    return name if name.startswith(key) else key + name


def _defined(body: GraphProto) -> Iterator[str]:
    yield from (value.name for value in (*body.input, *body.initializer))
    for node in body.node:
        yield from filter(None, node.output)


@dataclass(frozen=True)
class _Told:
    """What an output says of a value inside a body: its elements, or else its shape."""

    value: str
    loop: str
    turns: int
    """How many loops stand around the value; so many axes come first."""
    whole: bool


def _watched(
    model: ModelProto, opened: Collection[str], known: Collection[str]
) -> tuple[ModelProto, dict[str, _Told]]:
    """Return a model whose loops give what every turn has seen, as outputs of their own."""
    watched = ModelProto()
    watched.CopyFrom(model)
    return watched, _watch(watched.graph.node, "", 1, opened, known)


def _watch(
    nodes: Iterable[NodeProto],
    place: str,
    depth: int,
    opened: Collection[str],
    known: Collection[str],
) -> dict[str, _Told]:
    """Add outputs to some loops, and return them."""
    given: dict[str, _Told] = {}
    for node, _, key in list(_keyed(nodes, place)):
        loop = _loop(node) if key in opened else None
        if loop is None:
            continue
        body = loop.body
        values = [i.name for i in body.input]
        values += [n for inner in body.node if inner.op_type not in NO_TENSOR for n in inner.output]
        told = _watch(body.node, key, depth + 1, opened, known)
        for value in filter(None, values):
            full = _full(key, value)
            whole = full in known
            name = f"{VALUE if whole else SHAPE}{full}"
            body.node.append(helper.make_node("Identity" if whole else "Shape", [value], [name]))
            told[name] = _Told(full, key, depth, whole)
        body.output.extend(ValueInfoProto(name=name) for name in told)
        del node.output[:]
        node.output.extend([*loop.outside, *told])
        for attribute in node.attribute:
            if attribute.name in {"scan_output_axes", "scan_output_directions"}:
                attribute.ints.extend([0] * len(told))
        given |= told
    return given


def _read(
    values: Mapping[str, Array], told: Mapping[str, _Told]
) -> tuple[dict[str, Shape], dict[str, Array], set[str]]:
    """Return shapes and values inside bodies, and the loops whose turns differ, or have none."""
    shapes: dict[str, Shape] = {}
    seen: dict[str, Array] = {}
    uneven: set[str] = set()
    for name, what in told.items():
        array = values[name]
        turns = int(np.prod(array.shape[: what.turns]))
        rows = array.reshape(turns, *array.shape[what.turns :])
        if not turns or not (rows == rows[:1]).all():
            uneven.add(what.loop)
        elif what.whole:
            seen[what.value], shapes[what.value] = rows[0], rows[0].shape
        else:
            shapes[what.value] = tuple(int(n) for n in rows[0])
    return shapes, seen, uneven
