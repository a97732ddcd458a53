"""Rewrite a graph so that the parts of a fused projection get indices of their own.

Many models make queries, keys and values in one matrix product, cut its result into the axes
(3, heads, width), and select one of the 3. Seen operator by operator, all three would have the same
heads and widths. `select(reshape(x), i)` equals `reshape(slice(x))`, and slices are parts side by
side, which are independent of one another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from rebasin_hub.infer.graph import Graph, Node, Shape
from rebasin_hub.infer.rules.reshaping import RESHAPES, groups_of

__all__ = ["slice_fused"]

MOST_PARTS = 64
"""The longest axis whose elements count as parts."""

PERMUTES = frozenset({"aten.permute", "aten.transpose", "onnx.Transpose"})
COPIES = frozenset({"aten.clone", "aten.contiguous", "aten.alias", "onnx.Identity"})


@dataclass(frozen=True)
class _Taken:
    """An element of an axis that a node takes by itself."""

    node: Node
    index: int
    output: str
    chain: tuple[tuple[Node, int], ...]
    """The operators between the reshape and the node, each with the axis on its output."""


def slice_fused(graph: Graph) -> Graph:
    """Return a graph that computes the same, with selections of a cut axis made before the cut."""
    return _Rewriter(graph).run()


class _Rewriter:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.shapes: dict[str, Shape] = dict(graph.shapes)
        self.readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in dict.fromkeys(node.given):
                self.readers.setdefault(name, []).append(node)
        self.gone: set[str] = set()
        self.instead: dict[str, list[Node]] = {}

    def run(self) -> Graph:
        for node in self.graph.nodes:
            if node.op in RESHAPES and node.name not in self.gone and node.outputs[0]:
                self.reshape(node)
        if not self.gone:
            return self.graph
        nodes: list[Node] = []
        for node in self.graph.nodes:
            nodes += self.instead.get(node.name, [] if node.name in self.gone else [node])
        return replace(self.graph, nodes=tuple(nodes), shapes=self.shapes)

    def reshape(self, node: Node) -> None:
        source, target = node.inputs[0], node.outputs[0]
        if source is None or 0 in self.shapes[source]:
            return
        before, after = self.shapes[source], self.shapes[target]
        for here, there in groups_of(before, after):
            if len(here) != 1:
                continue
            for axis in there:
                found = self.taken(target, axis) if after[axis] <= MOST_PARTS else None
                if found:
                    self.rewrite(node, here[0], axis, there, found)
                    return

    def taken(self, value: str, axis: int) -> list[_Taken] | None:
        """Return all that reads a value, if it takes elements of one axis by themselves."""
        found: list[_Taken] = []
        if value in self.graph.outputs:
            return None
        for reader in self.readers.get(value, ()):
            if reader.name in self.gone:
                return None
            selected = list(self.selected(reader, axis, value))
            if selected:
                found += selected
                continue
            there = self.followed(reader, axis)
            beyond = None if there is None else self.taken(reader.outputs[0], there)
            if there is None or beyond is None:
                return None
            found += [replace(t, chain=((reader, there), *t.chain)) for t in beyond]
        return found

    def selected(self, node: Node, axis: int, value: str) -> Iterator[_Taken]:
        rank, size = len(self.shapes[value]), self.shapes[value][axis]
        attributes = node.attributes
        if node.op == "aten.select" and attributes["dim"] % rank == axis:
            if isinstance(attributes["index"], int):
                yield _Taken(node, attributes["index"] % size, node.outputs[0], ())
        elif node.op == "aten.slice" and (attributes.get("dim") or 0) % rank == axis:
            start = attributes.get("start") or 0
            if isinstance(start, int) and self.shapes[node.outputs[0]][axis] == 1 < size:
                yield _Taken(node, start % size, node.outputs[0], ())
        elif node.op == "aten.unbind" and (attributes.get("dim") or 0) % rank == axis:
            for index, output in enumerate(node.outputs):
                if output:
                    yield _Taken(node, index, output, ())
        elif node.op == "onnx.Gather" and (attributes.get("axis") or 0) % rank == axis:
            number = self.graph.constants.get(node.inputs[1] or "")
            if number is not None and number.ndim == 0 and node.inputs[0] == value:
                yield _Taken(node, int(number) % size, node.outputs[0], ())

    def followed(self, node: Node, axis: int) -> int | None:
        """Return where an axis stands behind an operator that moves no element, or None."""
        if len(node.outputs) != 1 or not node.outputs[0] or not node.inputs[0]:
            return None
        before, after = self.shapes[node.inputs[0]], self.shapes[node.outputs[0]]
        if node.op in COPIES:
            return axis
        if node.op in PERMUTES:
            return self.order(node).index(axis)
        if node.op in RESHAPES and before[axis] > 1:
            left = [i for i, n in enumerate(before) if n > 1]
            right = [i for i, n in enumerate(after) if n > 1]
            if [before[i] for i in left] == [after[i] for i in right]:
                return right[left.index(axis)]
        return None

    def order(self, node: Node) -> list[int]:
        rank = len(self.shapes[node.outputs[0]])
        if node.op != "aten.transpose":
            given = node.attributes.get("dims") or node.attributes.get("perm")
            return [i % rank for i in given] if given else list(range(rank))[::-1]
        order = list(range(rank))
        i, j = (node.attributes[name] % rank for name in ("dim0", "dim1"))
        order[i], order[j] = order[j], order[i]
        return order

    def rewrite(
        self, node: Node, source_axis: int, axis: int, run: list[int], found: list[_Taken]
    ) -> None:
        """Slice before the cut for everything that takes one element behind it."""
        source, after = str(node.inputs[0]), self.shapes[node.outputs[0]]
        before = self.shapes[source]
        inner = math.prod(after[i] for i in run if i >= axis)
        stride = inner // after[axis]
        outer = before[source_axis] // inner
        merged = (*before[:source_axis], outer, inner, *before[source_axis + 1 :])
        self.gone.add(node.name)
        for number, taken in enumerate(found):
            maker = _Maker(self, f"{taken.node.name}~{number}")
            value = maker.reshaped(source, merged)
            value = maker.sliced(value, source_axis + 1, taken.index * stride, stride)
            value = maker.reshaped(value, _without(after, axis))
            at = axis
            for step, there in taken.chain:
                value = maker.again(step, value, at, there)
                at = there
            value = maker.reshaped(value, self.shapes[taken.output], taken.output)
            self.instead.setdefault(taken.node.name, []).extend(maker.nodes)
            self.gone |= {taken.node.name, *(step.name for step, _ in taken.chain)}


class _Maker:
    """Makes operators in a row."""

    def __init__(self, rewriter: _Rewriter, name: str) -> None:
        self.rewriter = rewriter
        self.name = name
        self.nodes: list[Node] = []

    def add(
        self, op: str, source: str, shape: Shape, output: str = "", **attributes: object
    ) -> str:
        name = f"{self.name}.{len(self.nodes)}"
        target = output or name
        self.rewriter.shapes[target] = shape
        self.nodes.append(Node(op, name, (source,), (target,), attributes))
        return target

    def reshaped(self, source: str, shape: Shape, output: str = "") -> str:
        return self.add("aten.view", source, shape, output)

    def sliced(self, source: str, axis: int, start: int, length: int) -> str:
        shape = self.rewriter.shapes[source]
        cut = (*shape[:axis], length, *shape[axis + 1 :])
        return self.add("aten.slice", source, cut, dim=axis, start=start)

    def again(self, node: Node, source: str, axis: int, there: int) -> str:
        """Repeat an operator on a value that lacks one axis."""
        shape = _without(self.rewriter.shapes[node.outputs[0]], there)
        if node.op not in PERMUTES:
            return self.reshaped(source, shape)
        order = [i - (i > axis) for i in self.rewriter.order(node) if i != axis]
        return self.add("aten.permute", source, shape, dims=order)


def _without(shape: Shape, axis: int) -> Shape:
    return shape[:axis] + shape[axis + 1 :]
