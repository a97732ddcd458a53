"""Operators that compute each element from the elements at the same place, and constants."""

from __future__ import annotations

from rebasin_hub.infer.rules.table import operators, rule
from rebasin_hub.infer.step import Step, UnsupportedError

__all__ = ["FILLS", "ONNX", "pointwise"]

ONNX = operators(
    "onnx",
    "Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr "
    "BitwiseXor Cast CastLike Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf Exp Floor Gelu "
    "Greater GreaterOrEqual HardSigmoid HardSwish Identity IsInf IsNaN LeakyRelu Less LessOrEqual "
    "Log Max Mean Min Mish Mod Mul Neg Not Or PRelu Pow Reciprocal Relu Round Selu Shrink Sigmoid "
    "Sign Sin Sinh Softplus Softsign Sqrt Sub Sum Swish Tan Tanh ThresholdedRelu Where Xor",
)
"""The pointwise operators of ONNX; PyTorch tags its own."""

ATEN = operators(
    "aten",
    "alias clone contiguous detach lift_fresh_copy _to_copy to dropout native_dropout copy "
    "masked_fill where clamp maximum minimum",
)


@rule(*ONNX, *ATEN)
def pointwise(step: Step) -> None:
    """Bind every input to the output's indices, broadcast as NumPy does."""
    outputs = [name for name in step.node.outputs if name]
    shape = step.shape(outputs[0])
    if any(step.shape(name) != shape for name in outputs):
        raise UnsupportedError("its outputs differ in shape")
    indices = step.indices(shape)
    for name in step.node.given:
        step.broadcast(name, indices)
    for name in outputs:
        step.bind(name, indices)


FILLS = frozenset(
    [
        *operators("aten", "full zeros ones scalar_tensor new_zeros new_ones new_full"),
        *operators("aten", "full_like zeros_like ones_like"),
        *operators("onnx", "ConstantOfShape"),
    ]
)
"""Operators whose results have equal elements."""


@rule("aten.empty", "aten.new_empty", "aten.empty_like", "onnx.Shape", "onnx.Size", *sorted(FILLS))
def uniform(step: Step) -> None:
    """Leave open what stands on a result that tells a shape, or nothing."""
    del step


@rule("aten.arange", "aten.linspace", "aten.eye", "aten.tril_indices", "onnx.Range", "onnx.EyeLike")
def counted(step: Step) -> None:
    """Fix what counts positions."""
    for name in step.node.outputs:
        step.fix(name, "counts positions")
