"""What a rule sees of one operator, and what it can say about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from rebasin_hub.infer.graph import Array, Graph, Node, Shape
from rebasin_hub.infer.labels import ONE, Expression, Labels, Reason

__all__ = ["Axes", "Record", "Rule", "Step", "UnsupportedError"]

Axes: TypeAlias = tuple[Expression, ...]
"""What stands on each axis of a value."""

Record: TypeAlias = tuple[Axes, ...]
"""The values of one operator, each with the operator's own indices on its axes."""


class UnsupportedError(Exception):
    """A rule does not cover what an operator does; its text is the reason that people read."""


@dataclass(eq=False)
class Step:
    """One operator, seen as a nest of loops.

    A rule makes an index for each loop and says with `bind` which indices stand on which axis of
    which value. By that it claims: whoever renumbers an index on all these axes at once has
    renumbered the operator's result, and done nothing else. Indices for which this does not hold,
    since the operator looks at positions, are made with `fixed`.
    """

    node: Node
    graph: Graph
    labels: Labels
    axes: dict[str, Axes]
    record: list[Axes]
    uniform: set[str]
    """Values whose elements are all equal, which every renumbering leaves as they are."""

    @property
    def where(self) -> str:
        """The operator, as messages name it."""
        return f"{self.node.op} ({self.node.name})"

    def shape(self, value: str | None) -> Shape:
        """Return a value's shape."""
        if not value:
            raise UnsupportedError("an input is missing")
        return self.graph.shapes[value]

    def constant(self, value: str | None) -> Array | None:
        """Return a value's elements, if the program itself holds them."""
        return self.graph.constants.get(value or "")

    def attribute(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - any argument
        """Return an argument that is no value."""
        found = self.node.attributes.get(name)
        return default if found is None else found

    def index(self, size: int) -> Expression:
        """Return a new index that may be renumbered."""
        return self.labels.atom(size)

    def indices(self, shape: Sequence[int]) -> list[Expression]:
        """Return a new index for each axis of a shape."""
        return [self.index(size) for size in shape]

    def fixed(self, size: int, what: str) -> Expression:
        """Return a new index that stays, and why."""
        return self.labels.atom(size, Reason(what, self.where))

    def fix(self, value: str | None, what: str, axes: Sequence[int] | None = None) -> None:
        """Let axes of a value stay as they are; all of them by default."""
        if value:
            shape = self.shape(value)
            for axis in range(len(shape)) if axes is None else axes:
                self.labels.fix(self.axes_of(value)[axis], Reason(what, self.where))

    def bind(self, value: str | None, expressions: Sequence[Expression]) -> None:
        """Say what stands on the axes of a value; None is a value that is not there.

        Raises:
            UnsupportedError: the value's shape is another.

        """
        if not value:
            return
        shape = self.shape(value)
        if tuple(map(self.labels.size, expressions)) != shape:
            raise UnsupportedError(f"the shape {list(shape)} of an argument was not expected")
        if value in self.uniform:
            return
        self.record.append(tuple(expressions))
        if value not in self.axes:
            self.axes[value] = tuple(expressions)
            return
        for known, said in zip(self.axes[value], expressions, strict=True):
            self.labels.unify(known, said, self.where)

    def axes_of(self, value: str) -> Axes:
        """Return what stands on the axes of a value."""
        if value not in self.axes:
            self.axes[value] = tuple(self.labels.atom(n) for n in self.graph.shapes[value])
        return self.axes[value]

    def axis(self, number: int, rank: int) -> int:
        """Return an axis counted from the front.

        Raises:
            UnsupportedError: there is no such axis.

        """
        if not -rank <= number < rank:
            raise UnsupportedError(f"there is no axis {number} of {rank}")
        return number % rank

    def broadcast(self, value: str | None, indices: Sequence[Expression]) -> None:
        """Bind a value to the last of some indices; where its length is 1, nothing stands."""
        if not value:
            return
        shape = self.shape(value)
        own = indices[len(indices) - len(shape) :] if shape else []
        self.bind(value, [ONE if n == 1 else i for n, i in zip(shape, own, strict=True)])


Rule: TypeAlias = Callable[[Step], None]
