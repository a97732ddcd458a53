"""Convolutions, pooling and resizing: operators that slide over space."""

from __future__ import annotations

import math

from rebasin_hub.infer.labels import Expression, product
from rebasin_hub.infer.rules.table import operators, rule
from rebasin_hub.infer.step import Step, UnsupportedError

__all__ = ["convolution"]

SPACE = "neighbours in space count"


@rule("aten.convolution", "aten.conv1d", "aten.conv2d", "aten.conv3d", "onnx.Conv")
def convolution(step: Step) -> None:
    """Contract the channels of each group; space stays."""
    groups = step.attribute("groups", step.attribute("group", 1))
    _convolve(step, groups, transposed=bool(step.attribute("transposed", False)))


@rule("onnx.ConvTranspose")
def transposed_convolution(step: Step) -> None:
    """Contract the channels of each group, whose weights are stored input first."""
    _convolve(step, step.attribute("group", 1), transposed=True)


def _convolve(step: Step, count: int, *, transposed: bool) -> None:
    source, weight, *bias = step.node.inputs
    target = step.node.outputs[0]
    before, after, kernel = step.shape(source), step.shape(target), step.shape(weight)
    if len(before) != len(kernel):
        raise UnsupportedError("has no batch axis")
    groups, batch = step.index(count), step.index(before[0])
    reads, writes = step.index(before[1] // count), step.index(after[1] // count)
    pointwise = math.prod(kernel[2:]) == 1 and before[2:] == after[2:]
    if pointwise:
        space = here = step.indices(before[2:])
    else:
        space, here = _space(step, before), _space(step, after)
    taps = [step.fixed(n, SPACE) for n in kernel[2:]]
    inputs, outputs = product(groups, reads), product(groups, writes)
    channels = [inputs, writes] if transposed else [outputs, reads]
    step.bind(source, [batch, inputs, *space])
    step.bind(weight, [*channels, *taps])
    for name in bias:
        step.bind(name, [outputs])
    step.bind(target, [batch, outputs, *here])


def _space(step: Step, shape: tuple[int, ...], first: int = 2) -> list[Expression]:
    return [step.fixed(n, SPACE) for n in shape[first:]]


ATEN = operators(
    "aten",
    "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool3d_with_indices "
    "avg_pool1d avg_pool2d avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d "
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d "
    "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
    "_upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d "
    "upsample_trilinear3d upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa "
    "reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d "
    "replication_pad3d",
)
ONNX = operators(
    "onnx",
    "MaxPool AveragePool GlobalMaxPool GlobalAveragePool LpPool GlobalLpPool",
)


@rule(*ATEN, *ONNX)
def pool(step: Step) -> None:
    """Work on each channel by itself; space stays."""
    source = step.node.inputs[0]
    shape = step.shape(source)
    spatial = len(shape) - 2
    digit = next((c for c in step.node.op if c in "123"), None)
    if digit is not None and spatial != int(digit):
        if spatial + 1 != int(digit):
            raise UnsupportedError("has an unusual number of axes")
        spatial += 1
    lead = step.indices(shape[: len(shape) - spatial])
    step.bind(source, [*lead, *_space(step, shape, len(lead))])
    for name in filter(None, step.node.outputs):
        step.bind(name, [*lead, *_space(step, step.shape(name), len(lead))])


@rule("onnx.Resize", "onnx.Upsample")
def resize(step: Step) -> None:
    """Resize some axes, which stay; the others keep their indices."""
    source, target = step.node.inputs[0], step.node.outputs[0]
    before, after = step.shape(source), step.shape(target)
    same = [n < 2 and a == b for n, (a, b) in enumerate(zip(before, after, strict=True))]  # noqa: PLR2004
    indices = [
        step.index(n) if keeps else step.fixed(n, SPACE)
        for n, keeps in zip(before, same, strict=True)
    ]
    step.bind(source, indices)
    step.bind(
        target,
        [
            index if keeps else step.fixed(n, SPACE)
            for index, n, keeps in zip(indices, after, same, strict=True)
        ],
    )


@rule("aten.pixel_shuffle", "aten.pixel_unshuffle", "onnx.DepthToSpace", "onnx.SpaceToDepth")
def shuffle(step: Step) -> None:
    """Fix what trades channels for space."""
    del step
    raise UnsupportedError("trades channels for space")
