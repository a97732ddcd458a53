"""Operators that cut an axis into parts and lay parts side by side."""

from __future__ import annotations

from collections.abc import Sequence

from rebasin_hub.infer.labels import ONE, Expression, product
from rebasin_hub.infer.rules.table import rule
from rebasin_hub.infer.step import Step, UnsupportedError

__all__ = ["cut_out"]


def cut_out(
    step: Step, indices: Sequence[Expression], axis: int, *, start: int, stride: int, count: int
) -> tuple[list[Expression], list[Expression]]:
    """Return the indices of a value, and those of every `stride`-th element of one axis.

    Raises:
        UnsupportedError: the stride does not divide the axis.

    """
    size = step.labels.size(indices[axis])
    whole, part = list(indices), list(indices)
    if stride == 1:
        part[axis] = step.index(count)
        whole[axis] = (*step.index(start), *part[axis], *step.index(size - start - count))
        if start == 0 and count == size:
            whole[axis] = part[axis]
        return whole, part
    if size % stride or start >= stride or count != size // stride:
        raise UnsupportedError(f"takes every {stride}-th element of {size}")
    part[axis] = step.index(count)
    offsets = (*step.index(start), *ONE, *step.index(stride - start - 1))
    whole[axis] = product(part[axis], offsets)
    return whole, part


@rule("aten.slice", "aten.narrow")
def slice_(step: Step) -> None:
    """Take a stretch of an axis."""
    source, target = step.node.inputs[0], step.node.outputs[0]
    shape = step.shape(source)
    axis = step.axis(step.attribute("dim", 0), len(shape))
    start, stride = step.attribute("start", 0), step.attribute("step", 1)
    if not (isinstance(start, int) and isinstance(stride, int)):
        raise UnsupportedError("begins where something computed says")
    start = max(0, min(start + shape[axis] * (start < 0), shape[axis]))
    count = step.shape(target)[axis]
    if count == 0:
        return
    whole, part = cut_out(step, step.indices(shape), axis, start=start, stride=stride, count=count)
    step.bind(source, whole)
    step.bind(target, part)


@rule("onnx.Slice")
def onnx_slice(step: Step) -> None:
    """Take a stretch of one axis or of several."""
    source, target = step.node.inputs[0], step.node.outputs[0]
    shape = step.shape(source)
    starts = _numbers(step, 1, "starts")
    axes = _numbers(step, 3, "axes") or list(range(len(starts)))
    steps = _numbers(step, 4, "steps") or [1] * len(starts)
    if 0 in step.shape(target):
        return
    whole: list[Expression] = step.indices(shape)
    part = list(whole)
    for given, number, stride in zip(starts, axes, steps, strict=True):
        axis = step.axis(number, len(shape))
        size, count = shape[axis], step.shape(target)[axis]
        if stride < 0:
            what = "is read backwards"
            whole[axis], part[axis] = step.fixed(size, what), step.fixed(count, what)
            continue
        start = max(0, min(given + size * (given < 0), size))
        inner, outer = cut_out(step, [whole[axis]], 0, start=start, stride=stride, count=count)
        whole[axis], part[axis] = inner[0], outer[0]
    step.bind(source, whole)
    step.bind(target, part)


def _numbers(step: Step, position: int, name: str) -> list[int]:
    """Return a list of integers that is an attribute or, in newer versions, a constant input."""
    if (given := step.attribute(name)) is not None:
        return [int(n) for n in given]
    if position >= len(step.node.inputs) or not step.node.inputs[position]:
        return []
    constant = step.constant(step.node.inputs[position])
    if constant is None:
        raise UnsupportedError(f"its {name} are computed")
    return [int(n) for n in constant.reshape(-1)]


@rule("aten.select")
def select(step: Step) -> None:
    """Take one element of an axis."""
    source = step.node.inputs[0]
    shape = step.shape(source)
    axis = step.axis(step.attribute("dim"), len(shape))
    index = step.attribute("index")
    if not isinstance(index, int):
        raise UnsupportedError("takes what something computed says")
    _select_one(step, axis, step.axis(index, shape[axis]))


def _select_one(step: Step, axis: int, index: int) -> None:
    source, target = step.node.inputs[0], step.node.outputs[0]
    whole, part = cut_out(
        step, step.indices(step.shape(source)), axis, start=index, stride=1, count=1
    )
    step.bind(source, whole)
    step.bind(target, part[:axis] + part[axis + 1 :])


@rule("aten.split", "aten.split_with_sizes", "aten.chunk", "aten.tensor_split", "onnx.Split")
def split(step: Step) -> None:
    """Cut an axis into consecutive parts."""
    source = step.node.inputs[0]
    shape = step.shape(source)
    axis = step.axis(step.attribute("dim", step.attribute("axis", 0)), len(shape))
    if not all(step.node.outputs):
        raise UnsupportedError("some of its results are not named")
    indices = step.indices(shape)
    parts = [step.index(step.shape(name)[axis]) for name in step.node.outputs]
    joined = _beside(*parts)
    step.bind(source, [*indices[:axis], joined, *indices[axis + 1 :]])
    for part, name in zip(parts, step.node.outputs, strict=True):
        step.bind(name, [*indices[:axis], part, *indices[axis + 1 :]])


@rule("aten.unbind", "onnx.SplitToSequence")
def unbind(step: Step) -> None:
    """Take every element of an axis by itself."""
    if step.node.op != "aten.unbind":
        raise UnsupportedError("makes a sequence")
    shape = step.shape(step.node.inputs[0])
    axis = step.axis(step.attribute("dim", 0), len(shape))
    indices = step.indices(shape)
    step.bind(step.node.inputs[0], [*indices[:axis], ONE * shape[axis], *indices[axis + 1 :]])
    for name in filter(None, step.node.outputs):
        step.bind(name, indices[:axis] + indices[axis + 1 :])


@rule("aten.cat", "onnx.Concat")
def cat(step: Step) -> None:
    """Lay values side by side along an axis."""
    target = step.node.outputs[0]
    shape = step.shape(target)
    axis = step.axis(step.attribute("dim", step.attribute("axis", 0)), len(shape))
    # PyTorch lets an empty vector stand for no value at all.
    names = [name for name in step.node.given if step.shape(name) != (0,)]
    indices = step.indices(shape)
    parts = [step.index(step.shape(name)[axis]) for name in names]
    for name, part in zip(names, parts, strict=True):
        step.bind(name, [*indices[:axis], part, *indices[axis + 1 :]])
    joined = _beside(*parts)
    step.bind(target, [*indices[:axis], joined, *indices[axis + 1 :]])


@rule("aten.stack")
def stack(step: Step) -> None:
    """Lay values side by side along a new axis."""
    target = step.node.outputs[0]
    shape = step.shape(target)
    axis = step.axis(step.attribute("dim", 0), len(shape))
    indices = step.indices(shape)
    for name in step.node.given:
        step.bind(name, indices[:axis] + indices[axis + 1 :])
    step.bind(target, [*indices[:axis], ONE * shape[axis], *indices[axis + 1 :]])


@rule("aten.slice_scatter", "aten.select_scatter")
def put_slice(step: Step) -> None:
    """Put a value in place of a stretch of an axis."""
    source, put = step.node.inputs[:2]
    target = step.node.outputs[0]
    shape = step.shape(source)
    axis = step.axis(step.attribute("dim", 0), len(shape))
    selects = step.node.op == "aten.select_scatter"
    start = step.attribute("index" if selects else "start", 0)
    count = 1 if selects else step.shape(put)[axis]
    if step.attribute("step", 1) != 1 or not isinstance(start, int):
        raise UnsupportedError("leaves gaps")
    start = max(0, min(start + shape[axis] * (start < 0), shape[axis]))
    before, after = step.index(start), step.index(shape[axis] - start - count)
    old, new = step.index(count), step.index(count)
    indices = step.indices(shape)
    here, there = indices[:axis], indices[axis + 1 :]
    step.bind(source, [*here, _beside(before, old, after), *there])
    step.bind(put, [*here, *([] if selects else [new]), *there])
    step.bind(target, [*here, _beside(before, new, after), *there])


def _beside(*parts: Expression) -> Expression:
    return tuple(term for part in parts for term in part)


@rule("aten.constant_pad_nd", "aten.pad", "onnx.Pad")
def pad(step: Step) -> None:
    """Lay equal elements around a value; other paddings look at positions."""
    source, target = step.node.inputs[0], step.node.outputs[0]
    before, after = step.shape(source), step.shape(target)
    uniform = step.attribute("mode", "constant") in {"constant", b"constant"}
    if step.node.op == "onnx.Pad":
        # With axes given as an input, pads are of these axes alone; PyTorch never writes that.
        amounts = _numbers(step, 1, "pads")
        lows = amounts[: len(amounts) // 2]
    else:
        amounts = list(step.attribute("pad"))
        lows = [0] * (len(before) - len(amounts) // 2) + amounts[::2][::-1]
    if len(lows) != len(before) or min(lows, default=0) < 0:
        raise UnsupportedError("cuts off instead of adding, or names its axes")
    indices = step.indices(before)
    result: list[Expression] = []
    for axis, (low, m, n) in enumerate(zip(lows, before, after, strict=True)):
        if m == n:
            result.append(indices[axis])
        elif uniform and n > m:
            result.append(_beside(step.index(low), indices[axis], step.index(n - m - low)))
        else:
            what = "is padded with elements of other places"
            indices[axis], fixed = step.fixed(m, what), step.fixed(n, what)
            result.append(fixed)
    step.bind(source, indices)
    step.bind(target, result)
