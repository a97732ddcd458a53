"""Sums, means and extrema along axes, and the normalizations that are made of them."""

from __future__ import annotations

from rebasin_hub.infer.labels import ONE, Expression, product
from rebasin_hub.infer.rules.table import operators, rule
from rebasin_hub.infer.step import Step, UnsupportedError

__all__ = ["reduce"]

ATEN = operators(
    "aten",
    "mean sum amax amin var std prod any all max min logsumexp linalg_vector_norm norm nansum "
    "var_mean std_mean count_nonzero",
)
ONNX = operators(
    "onnx",
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax "
    "ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare",
)


@rule(*ATEN, *ONNX)
def reduce(step: Step) -> None:
    """Join the elements along axes in a way that does not depend on their order."""
    source = step.node.inputs[0]
    shape = step.shape(source)
    indices = step.indices(shape)
    reduced = _reduced(step, len(shape))
    # The second output of max and min is the place of the extremum.
    places = step.node.op in {"aten.max", "aten.min"} and len(step.node.outputs) > 1
    if places and _is_read(step, step.node.outputs[1]):
        for axis in reduced:
            what = "tells where along this axis the extremum stands"
            indices[axis] = step.fixed(shape[axis], what)
    step.bind(source, indices)
    for name in step.node.outputs:
        if name:
            step.bind(name, _kept(step.shape(name), indices, reduced))


def _is_read(step: Step, value: str) -> bool:
    """Tell whether anything reads a value that is there."""
    graph = step.graph
    return value in graph.outputs or any(value and value in node.inputs for node in graph.nodes)


def _reduced(step: Step, rank: int) -> set[int]:
    axes = step.attribute("dim", step.attribute("axes"))
    if axes is None and step.node.op.startswith("onnx.") and len(step.node.given) > 1:
        constant = step.constant(step.node.inputs[1])
        if constant is None:
            raise UnsupportedError("the axes are computed")
        axes = constant.reshape(-1).tolist()
    if axes is None or axes == []:
        if step.attribute("noop_with_empty_axes", 0):
            return set()
        return set(range(rank))
    return {step.axis(axis, rank) for axis in ([axes] if isinstance(axes, int) else axes)}


def _kept(shape: tuple[int, ...], indices: list[Expression], reduced: set[int]) -> list[Expression]:
    """Return the result's indices, whether it keeps the reduced axes with length 1 or not."""
    if len(shape) == len(indices):
        return [ONE if axis in reduced else index for axis, index in enumerate(indices)]
    return [index for axis, index in enumerate(indices) if axis not in reduced]


@rule(
    *("aten._softmax", "aten._log_softmax", "aten.softmax", "aten.log_softmax"),
    *("aten._safe_softmax", "onnx.Softmax", "onnx.LogSoftmax", "onnx.LpNormalization"),
)
def softmax(step: Step) -> None:
    """Normalize along an axis."""
    indices = step.indices(step.shape(step.node.inputs[0]))
    step.bind(step.node.inputs[0], indices)
    step.bind(step.node.outputs[0], indices)


@rule(
    *("aten.cumsum", "aten.cumprod", "aten.argmax", "aten.argmin", "aten.sort", "aten.topk"),
    *("aten.flip", "aten.cummax", "aten.logcumsumexp", "onnx.CumSum", "onnx.ArgMax"),
    *("onnx.ArgMin", "onnx.TopK", "onnx.Hardmax", "aten.argsort"),
)
def ordered(step: Step) -> None:
    """Fix the axes along which positions count; the others keep their indices."""
    source = step.node.inputs[0]
    shape = step.shape(source)
    axes = step.attribute("dim", step.attribute("dims", step.attribute("axis")))
    if step.node.op == "onnx.CumSum":
        constant = step.constant(step.node.inputs[1])
        axes = None if constant is None else int(constant.reshape(-1)[0])
    elif axes is None and step.node.op.startswith("onnx."):
        axes = -1 if step.node.op != "onnx.ArgMax" else 0
    elif axes is None and step.node.op in {"aten.sort", "aten.topk", "aten.argsort"}:
        axes = -1
    if axes is None:
        raise UnsupportedError("positions count along every axis")
    listed = [axes] if isinstance(axes, int) else axes
    along = {step.axis(axis, len(shape)) for axis in listed}
    what = "positions count along this axis"
    indices = [
        step.fixed(size, what) if axis in along else step.index(size)
        for axis, size in enumerate(shape)
    ]
    step.bind(source, indices)
    for name in filter(None, step.node.outputs):
        result = step.shape(name)
        if len(result) < len(indices):
            step.bind(name, [x for axis, x in enumerate(indices) if axis not in along])
        else:
            step.bind(
                name,
                [
                    step.fixed(result[axis], what) if axis in along else index
                    for axis, index in enumerate(indices)
                ],
            )


@rule("aten.native_layer_norm", "aten.layer_norm", "onnx.LayerNormalization")
def layer_norm(step: Step) -> None:
    """Normalize along the last axes, then scale and shift."""
    if step.node.op.startswith("aten."):
        source, weight, bias = (*step.node.inputs, None, None)[:3]
        last = len(step.attribute("normalized_shape"))
    else:
        source, weight, bias = (*step.node.inputs, None)[:3]
        rank = len(step.shape(source))
        last = rank - step.axis(step.attribute("axis", -1), rank)
    indices = step.indices(step.shape(source))
    step.bind(source, indices)
    step.broadcast(weight, indices)
    step.broadcast(bias, indices)
    first, *statistics = step.node.outputs
    step.bind(first, indices)
    for name in statistics:
        step.bind(name, [*indices[:-last], *[ONE] * last])


@rule("aten.rms_norm", "onnx.RMSNormalization", "onnx.SimplifiedLayerNormalization")
def rms_norm(step: Step) -> None:
    """Scale along the last axes."""
    source, *weight = step.node.inputs
    indices = step.indices(step.shape(source))
    step.bind(source, indices)
    for name in weight:
        step.broadcast(name, indices)
    step.bind(step.node.outputs[0], indices)


@rule("aten.native_group_norm", "aten.group_norm", "onnx.GroupNormalization")
def group_norm(step: Step) -> None:
    """Normalize the channels of each group together."""
    source, *affine = step.node.inputs
    count = step.attribute("group", step.attribute("num_groups"))
    shape = step.shape(source)
    groups, inner = step.index(count), step.index(shape[1] // count)
    batch, space = step.index(shape[0]), step.indices(shape[2:])
    channels = product(groups, inner)
    step.bind(source, [batch, channels, *space])
    for name in affine:
        if name:
            step.bind(name, [channels if step.shape(name)[0] == shape[1] else groups])
    first, *statistics = step.node.outputs
    step.bind(first, [batch, channels, *space])
    for name in statistics:
        step.bind(name, [batch, groups])


@rule(
    *("aten._native_batch_norm_legit_no_training", "aten.batch_norm", "aten.native_batch_norm"),
    *("aten._native_batch_norm_legit", "aten._native_batch_norm_legit_functional"),
    *("aten.instance_norm", "onnx.BatchNormalization", "onnx.InstanceNormalization"),
)
def channel_norm(step: Step) -> None:
    """Normalize every channel by itself."""
    source, *affine = step.node.inputs
    indices = step.indices(step.shape(source))
    channel = indices[1]
    step.bind(source, indices)
    for name in affine:
        if name:
            step.bind(name, [channel])
    first, *statistics = step.node.outputs
    step.bind(first, indices)
    for name in statistics:
        if name and step.shape(name) != (0,):
            step.bind(name, [channel])
