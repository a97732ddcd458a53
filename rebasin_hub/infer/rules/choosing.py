"""Operators that choose elements by numbers that are computed or given."""

from __future__ import annotations

from rebasin_hub.infer.labels import Expression
from rebasin_hub.infer.rules.slicing import cut_out
from rebasin_hub.infer.rules.table import rule
from rebasin_hub.infer.step import Step, UnsupportedError

__all__ = ["embedding"]

CHOSEN = "its elements are chosen by number"


@rule("aten.embedding")
def embedding(step: Step) -> None:
    """Choose rows of a table."""
    table, numbers = step.node.inputs[:2]
    rows, *others = step.shape(table)
    indices, places = step.indices(others), step.indices(step.shape(numbers))
    step.bind(table, [step.fixed(rows, CHOSEN), *indices])
    step.bind(numbers, places)
    step.bind(step.node.outputs[0], [*places, *indices])


@rule("aten.index_select", "onnx.Gather")
def index_select(step: Step) -> None:
    """Choose elements of one axis."""
    source, numbers = step.node.inputs[:2]
    shape = step.shape(source)
    axis = step.axis(step.attribute("dim", step.attribute("axis", 0)), len(shape))
    indices, places = step.indices(shape), step.indices(step.shape(numbers))
    constant = step.constant(numbers)
    if constant is not None and constant.ndim == 0:
        start = step.axis(int(constant), shape[axis])
        whole, _ = cut_out(step, indices, axis, start=start, stride=1, count=1)
    else:
        whole = [*indices[:axis], step.fixed(shape[axis], CHOSEN), *indices[axis + 1 :]]
    step.bind(source, whole)
    step.bind(numbers, places)
    step.bind(step.node.outputs[0], [*indices[:axis], *places, *indices[axis + 1 :]])


@rule("aten.gather", "onnx.GatherElements", "aten.take_along_dim")
def gather(step: Step) -> None:
    """Choose elements of one axis, others at each place of the other axes."""
    source, numbers = step.node.inputs[:2]
    shape, result = step.shape(source), step.shape(numbers)
    axis = step.axis(step.attribute("dim", step.attribute("axis", 0)), len(shape))
    left: list[Expression] = []
    right: list[Expression] = []
    for number, (m, n) in enumerate(zip(shape, result, strict=True)):
        if number == axis:
            left.append(step.fixed(m, CHOSEN))
            right.append(step.index(n))
        elif m == n:
            left.append(step.index(m))
            right.append(left[-1])
        else:
            # Only the first n of m are read.
            whole, part = cut_out(step, [step.index(m)], 0, start=0, stride=1, count=n)
            left += whole
            right += part
    step.bind(source, left)
    step.bind(numbers, right)
    step.bind(step.node.outputs[0], right)


@rule("aten.index")
def index(step: Step) -> None:
    """Choose elements of several axes at once, by numbers that are broadcast together."""
    source, *numbers = step.node.inputs
    shape, result = step.shape(source), step.shape(step.node.outputs[0])
    chosen = [axis for axis, name in enumerate(numbers) if name]
    others = [axis for axis in range(len(shape)) if axis not in chosen]
    kept = {axis: step.index(shape[axis]) for axis in others}
    together = chosen == list(range(chosen[0], chosen[-1] + 1))
    first = chosen[0] if together else 0
    places = step.indices(result[first : first + len(result) - len(others)])
    step.bind(source, [kept.get(a) or step.fixed(n, CHOSEN) for a, n in enumerate(shape)])
    for axis in chosen:
        step.broadcast(numbers[axis], places)
    before = [axis for axis in others if axis < first]
    after = [axis for axis in others if axis >= first]
    out = [*(kept[a] for a in before), *places, *(kept[a] for a in after)]
    step.bind(step.node.outputs[0], out)


@rule("onnx.OneHot", "aten.one_hot", "aten.nonzero", "onnx.NonZero", "aten.bincount")
def counted(step: Step) -> None:
    """Fix what turns numbers into places."""
    del step
    raise UnsupportedError("turns numbers into places")
