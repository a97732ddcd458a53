"""Operators that change a value's shape or the order of its axes, and no element."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from operator import mul

from rebasin_hub.infer.labels import ONE, Expression, product
from rebasin_hub.infer.rules.table import operators, rule
from rebasin_hub.infer.step import Step, UnsupportedError

__all__ = ["RESHAPES", "groups_of", "reshape"]

RESHAPES = frozenset(
    [
        *operators(
            "aten",
            "view view_copy _unsafe_view reshape unsqueeze squeeze squeeze_copy flatten unflatten "
            "ravel",
        ),
        *operators("onnx", "Flatten Reshape Squeeze Unsqueeze"),
    ]
)
"""Operators that keep the elements in their order, and whose shapes say all there is to know."""


@rule(*sorted(RESHAPES))
def reshape(step: Step) -> None:
    """Cut axes into factors, and join factors to axes."""
    source, target = step.node.inputs[0], step.node.outputs[0]
    before, after = step.shape(source), step.shape(target)
    if 0 in before:
        return
    left, right = [ONE] * len(before), [ONE] * len(after)
    for here, there in groups_of(before, after):
        sizes = _factors([before[i] for i in here], [after[j] for j in there])
        if sizes is None:
            what = "is cut into factors that do not fit together"
            for axis in here:
                left[axis] = step.fixed(before[axis], what)
            for axis in there:
                right[axis] = step.fixed(after[axis], what)
            continue
        atoms = step.indices(sizes)
        for axes, shape, found in ((here, before, left), (there, after, right)):
            parts = iter(zip(sizes, atoms, strict=True))
            for axis in axes:
                found[axis] = product(*_taken(parts, shape[axis]))
    step.bind(source, left)
    step.bind(target, right)


def groups_of(before: Sequence[int], after: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the shortest runs of axes, on both sides, that hold the same number of elements."""
    left = [axis for axis, size in enumerate(before) if size > 1]
    right = [axis for axis, size in enumerate(after) if size > 1]
    while left and right:
        here, there = [left.pop(0)], [right.pop(0)]
        m, n = before[here[0]], after[there[0]]
        while m != n:
            if m < n:
                here.append(left.pop(0))
                m *= before[here[-1]]
            else:
                there.append(right.pop(0))
                n *= after[there[-1]]
        yield here, there


def _factors(before: list[int], after: list[int]) -> list[int] | None:
    """Return the coarsest factors of which both sides are products; None if there are none."""
    cuts = sorted({*itertools.accumulate(before, mul), *itertools.accumulate(after, mul)})
    pairs = list(itertools.pairwise([1, *cuts]))
    return None if any(b % a for a, b in pairs) else [b // a for a, b in pairs]


def _taken(parts: Iterator[tuple[int, Expression]], size: int) -> Iterator[Expression]:
    """Yield the next factors that make up an axis."""
    while size > 1:
        factor, atom = next(parts)
        size //= factor
        yield atom


@rule("aten.permute", "aten.transpose", "aten.t", "aten.movedim", "onnx.Transpose")
def permute(step: Step) -> None:
    """Change the order of the axes."""
    source = step.node.inputs[0]
    shape = step.shape(source)
    rank = len(shape)
    indices = step.indices(shape)
    if step.node.op in {"aten.permute", "onnx.Transpose"}:
        order = step.attribute("dims", step.attribute("perm", list(range(rank))[::-1]))
    elif step.node.op == "aten.movedim":
        raise UnsupportedError("is not covered")
    else:
        order = list(range(rank))
        pair = [step.attribute(name, n) for n, name in enumerate(("dim0", "dim1"))]
        if rank > 1:
            i, j = (step.axis(axis, rank) for axis in pair)
            order[i], order[j] = order[j], order[i]
    step.bind(source, indices)
    step.bind(step.node.outputs[0], [indices[step.axis(axis, rank)] for axis in order])


@rule("aten.expand", "aten.broadcast_to", "onnx.Expand")
def expand(step: Step) -> None:
    """Repeat along axes of length 1; the result is uniform along them."""
    indices = step.indices(step.shape(step.node.outputs[0]))
    step.broadcast(step.node.inputs[0], indices)
    step.bind(step.node.outputs[0], indices)


@rule("aten.repeat", "aten.tile", "onnx.Tile")
def repeat(step: Step) -> None:
    """Lay copies side by side: every axis becomes (copies, what stood there)."""
    source, target = step.node.inputs[0], step.node.outputs[0]
    after = step.shape(target)
    before = (1,) * (len(after) - len(step.shape(source))) + step.shape(source)
    indices = step.indices(before)
    if 0 in before:
        raise UnsupportedError("repeats nothing")
    step.broadcast(source, indices)
    copies = [step.index(n // m) for m, n in zip(before, after, strict=True)]
    step.bind(target, [product(c, index) for c, index in zip(copies, indices, strict=True)])


@rule("aten.diagonal", "aten.tril", "aten.triu", "onnx.Trilu")
def triangle(step: Step) -> None:
    """Fix the two axes between which a diagonal is drawn."""
    if step.node.op == "aten.diagonal":
        raise UnsupportedError("reads a diagonal")
    shape = step.shape(step.node.inputs[0])
    indices = step.indices(shape[:-2]) + [step.fixed(n, "has a diagonal") for n in shape[-2:]]
    step.bind(step.node.inputs[0], indices)
    step.bind(step.node.outputs[0], indices)
