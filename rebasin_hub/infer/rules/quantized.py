"""ONNX operators on quantized numbers: scales and zero points move along with their axis.

A scale of a whole tensor has no axis. One for each channel, or for each block of an axis, stands on
that axis as a gain does. Rounding looks at one element, so that it takes no renumbering away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rebasin_hub.infer.labels import Expression, product
from rebasin_hub.infer.rules.contraction import matmul
from rebasin_hub.infer.rules.spatial import convolution
from rebasin_hub.infer.rules.table import operators, rule
from rebasin_hub.infer.step import Step, UnsupportedError

__all__ = ["scaled"]


@rule("onnx.QuantizeLinear", "onnx.DequantizeLinear")
def scaled(step: Step) -> None:
    """Bind the scale, and the zero point, to the axis or the blocks of it that they are for."""
    source, *quantization = step.node.inputs
    shape = step.shape(source)
    indices = step.indices(shape)
    block = step.attribute("block_size", 0)
    if block:
        axis = step.axis(step.attribute("axis", 1), len(shape))
        if shape[axis] % block:
            raise UnsupportedError("its last block is not whole")
        blocks = step.index(shape[axis] // block)
        indices[axis] = product(blocks, step.index(block))
    for name in filter(None, quantization):
        rank = len(step.shape(name))
        if block:
            step.bind(name, [*indices[:axis], blocks, *indices[axis + 1 :]])
        elif rank == 1:
            axis = step.axis(step.attribute("axis", 1), len(shape)) if len(shape) > 1 else 0
            step.broadcast(name, [indices[axis]])
        elif rank:
            raise UnsupportedError("has a scale of several axes")
    step.bind(source, indices)
    step.bind(step.node.outputs[0], indices)


@rule("onnx.DynamicQuantizeLinear")
def measured(step: Step) -> None:
    """Quantize by the smallest and the largest of all elements."""
    source, (target, *_) = step.node.inputs[0], step.node.outputs
    indices = step.indices(step.shape(source))
    step.bind(source, indices)
    if target:
        step.bind(target, indices)


def _inner(step: Step, names: Sequence[str | None]) -> Step:
    """Return the step of the same operator without quantization."""
    return replace(step, node=replace(step.node, inputs=tuple(names)))


def _vectors(step: Step, names: Sequence[str | None]) -> list[str]:
    return [name for name in names if name and step.shape(name) not in {(), (1,)}]


def _single(step: Step, *names: str | None) -> None:
    """Refuse scales of more than one element where they should be those of a whole tensor."""
    if _vectors(step, names):
        raise UnsupportedError("quantizes activations along an axis")


@rule("onnx.QLinearConv")
def convolved(step: Step) -> None:
    """Contract as Conv does; scales of the weight are for its output channels."""
    x, xs, xz, w, ws, wz, ys, yz, *bias = step.node.inputs
    _single(step, xs, xz, ys, yz)
    convolution(_inner(step, [x, w, *bias, *_vectors(step, [ws, wz])]))


@rule("onnx.ConvInteger")
def convolved_integers(step: Step) -> None:
    """Contract as Conv does; zero points of the weight are for its output channels."""
    x, w, xz, wz = (*step.node.inputs, None, None)[:4]
    _single(step, xz)
    convolution(_inner(step, [x, w, *_vectors(step, [wz])]))


@rule("com.microsoft.FusedConv")
def convolved_and_added(step: Step) -> None:
    """Contract as Conv does, add something, and apply a pointwise function."""
    x, w, bias, added = (*step.node.inputs, None, None)[:4]
    convolution(_inner(step, [x, w, bias]))
    step.bind(added, step.axes_of(step.node.outputs[0]))


def _multiplied(
    step: Step, left: str | None, right: str | None, rows: Sequence[str], columns: Sequence[str]
) -> None:
    """Multiply; vectors stand on the rows of the result, or on its columns."""
    matmul(_inner(step, [left, right]))
    result = step.axes_of(step.node.outputs[0])
    for name in rows:
        if len(step.shape(name)) > 1:
            step.broadcast(name, result)
        else:
            step.bind(name, [result[-2]])
    for name in columns:
        step.broadcast(name, result)


@rule("onnx.QLinearMatMul")
def multiplied(step: Step) -> None:
    """Multiply; scales are for the rows of the one and the columns of the other."""
    a, a_scale, a_zero, b, b_scale, b_zero, *y = step.node.inputs
    _single(step, *y)
    rows, columns = _vectors(step, [a_scale, a_zero]), _vectors(step, [b_scale, b_zero])
    _multiplied(step, a, b, rows, columns)


@rule("onnx.MatMulInteger")
def multiplied_integers(step: Step) -> None:
    """Multiply; zero points are for the rows of the one and the columns of the other."""
    a, b, a_zero, b_zero = (*step.node.inputs, None, None)[:4]
    _multiplied(step, a, b, _vectors(step, [a_zero]), _vectors(step, [b_zero]))


@rule("com.microsoft.DynamicQuantizeMatMul")
def multiplied_dynamically(step: Step) -> None:
    """Quantize the left side by its extremes, multiply, and add a bias."""
    a, b, *columns = step.node.inputs
    _multiplied(step, a, b, (), _vectors(step, columns))


@rule("com.microsoft.MatMulIntegerToFloat")
def multiplied_to_floats(step: Step) -> None:
    """Multiply and take the scales out; those of the right side are for its columns."""
    a, b, a_scale, b_scale, a_zero, b_zero, bias = (*step.node.inputs, *[None] * 3)[:7]
    _single(step, a_scale, a_zero)
    _multiplied(step, a, b, (), _vectors(step, [b_scale, b_zero, bias]))


@rule("com.microsoft.QGemm")
def quantized_gemm(step: Step) -> None:
    """Multiply two matrices, either of them transposed; the right one's scales are by column."""
    a, a_scale, a_zero, b, b_scale, b_zero, *rest = step.node.inputs
    bias, *result = (*rest, None)[:3]
    _single(step, a_scale, a_zero, *result)
    m, n = step.shape(step.node.outputs[0])
    turned = bool(step.attribute("transA", 0))
    rows, columns = step.index(m), step.index(n)
    inner = step.index(step.shape(a)[0 if turned else 1])
    step.bind(a, [inner, rows] if turned else [rows, inner])
    step.bind(b, [columns, inner] if step.attribute("transB", 0) else [inner, columns])
    for name in _vectors(step, [b_scale, b_zero, bias]):
        step.broadcast(name, [rows, columns])
    step.bind(step.node.outputs[0], [rows, columns])


@rule("com.microsoft.FusedMatMul")
def fused_matmul(step: Step) -> None:
    """Multiply stacks of matrices, either of them transposed."""
    if step.attribute("transBatchA", 0) or step.attribute("transBatchB", 0):
        raise UnsupportedError("multiplies along its batch")
    a, b = step.node.inputs[:2]
    target = step.node.outputs[0]
    result = step.indices(step.shape(target))
    left, right = step.shape(a), step.shape(b)
    if min(len(left), len(right)) <= 1:
        raise UnsupportedError("multiplies vectors")
    turned = bool(step.attribute("transA", 0)), bool(step.attribute("transB", 0))
    inner = step.index(left[-2 if turned[0] else -1])
    *batch, rows, columns = result
    step.broadcast(a, [*batch, *_order(rows, inner, turned=turned[0])])
    step.broadcast(b, [*batch, *_order(inner, columns, turned=turned[1])])
    step.bind(target, result)


def _order(first: Expression, second: Expression, *, turned: bool) -> list[Expression]:
    return [second, first] if turned else [first, second]


@rule("com.microsoft.QLinearAdd", "com.microsoft.QLinearMul")
def quantized_pair(step: Step) -> None:
    """Combine two values place by place."""
    a, a_scale, a_zero, b, *others = step.node.inputs
    _single(step, a_scale, a_zero, *others)
    _pointwise(step, [a, b])


@rule(*operators("com.microsoft", "QLinearSigmoid QLinearLeakyRelu"))
def quantized_function(step: Step) -> None:
    """Apply a function place by place."""
    source, *quantization = step.node.inputs
    _single(step, *quantization)
    _pointwise(step, [source])


@rule(*operators("com.microsoft", "Gelu FastGelu QuickGelu BiasGelu"))
def gelu(step: Step) -> None:
    """Apply a function place by place, after a bias where there is one."""
    _pointwise(step, step.node.inputs)


def _pointwise(step: Step, names: Sequence[str | None]) -> None:
    indices = step.indices(step.shape(step.node.outputs[0]))
    for name in names:
        step.broadcast(name, indices)
    step.bind(step.node.outputs[0], indices)


@rule(*operators("com.microsoft", "SkipLayerNormalization SkipSimplifiedLayerNormalization"))
def added_and_normalized(step: Step) -> None:
    """Add two or three values, and normalize along the last axis."""
    target, *statistics, whole = (*step.node.outputs, "", "", "")[:4]
    if any(statistics):
        raise UnsupportedError("gives its statistics as well")
    indices = step.indices(step.shape(target))
    for name in step.node.inputs:
        step.broadcast(name, indices)
    step.bind(target, indices)
    step.bind(whole, indices)


@rule(*operators("com.microsoft", "MatMulNBits QMoE GatherBlockQuantized MatMulBnb4"))
def packed(step: Step) -> None:
    """Refuse weights of which one element of storage holds several."""
    del step
    raise UnsupportedError("its weights are packed, several to a byte")
