"""Matrix products in all their forms."""

from __future__ import annotations

from rebasin_hub.infer.labels import Expression
from rebasin_hub.infer.rules.table import rule
from rebasin_hub.infer.step import Step, UnsupportedError

__all__ = ["einsum"]


@rule("aten.mm", "aten.bmm", "aten.matmul", "aten.mv", "aten.dot", "onnx.MatMul")
def matmul(step: Step) -> None:
    """Multiply stacks of matrices, or vectors, as NumPy's matmul does."""
    left, right = step.node.inputs[:2]
    _multiply(step, left, right, step.node.outputs[0])


def _multiply(
    step: Step, left: str | None, right: str | None, out: str, *, transposed: bool = False
) -> list[Expression]:
    """Bind the operands and the result of a product, and return the result's indices."""
    a, b = step.shape(left), step.shape(right)
    contracted = step.index(a[-1])
    rows = [step.index(a[-2])] if len(a) > 1 else []
    columns = [step.index(b[-2 if transposed else -1])] if len(b) > 1 else []
    stacked = step.shape(out)[: len(step.shape(out)) - len(rows) - len(columns)]
    batch = step.indices(stacked)
    matrix = [*columns, contracted] if transposed else [contracted, *columns]
    # Every operand's leading axes are broadcast over the result's.
    step.broadcast(left, [*batch, *rows, contracted])
    step.broadcast(right, [*batch, *matrix])
    result = [*batch, *rows, *columns]
    step.bind(out, result)
    return result


@rule("aten.linear")
def linear(step: Step) -> None:
    """Multiply by a transposed matrix and add a bias."""
    values, weight, *bias = step.node.inputs
    result = _multiply(step, values, weight, step.node.outputs[0], transposed=True)
    for name in bias:
        step.broadcast(name, result)


@rule("aten.addmm", "aten.baddbmm", "aten.addmv")
def addmm(step: Step) -> None:
    """Add a product to something."""
    added, left, right = step.node.inputs[:3]
    step.broadcast(added, _multiply(step, left, right, step.node.outputs[0]))


@rule("onnx.Gemm")
def gemm(step: Step) -> None:
    """Multiply two matrices, either of them transposed, and add something."""
    left, right, *added = step.node.inputs
    (m, n), inner = step.shape(step.node.outputs[0]), step.shape(left)
    k = step.index(inner[0] if step.attribute("transA", 0) else inner[1])
    rows, columns = step.index(m), step.index(n)
    step.bind(left, [k, rows] if step.attribute("transA", 0) else [rows, k])
    step.bind(right, [columns, k] if step.attribute("transB", 0) else [k, columns])
    for name in added:
        step.broadcast(name, [rows, columns])
    step.bind(step.node.outputs[0], [rows, columns])


@rule("aten.einsum", "onnx.Einsum")
def einsum(step: Step) -> None:
    """Contract as an equation says; an index that stands twice on one operand is fixed."""
    equation = str(step.attribute("equation")).replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if not arrow or "." in equation or len(terms) != len(step.node.given):
        raise UnsupportedError(f"the equation {equation} is not covered")
    known: dict[str, Expression] = {}
    operands = [*zip(terms, step.node.given, strict=True), (right, step.node.outputs[0])]
    for letters, name in operands:
        for letter, size in zip(letters, step.shape(name), strict=True):
            if letter not in known or size > 1 == step.labels.size(known[letter]):
                repeated = any(term.count(letter) > 1 for term in terms)
                known[letter] = (
                    step.fixed(size, "reads a diagonal") if repeated else step.index(size)
                )
    for letters, name in operands:
        step.broadcast(name, [known[letter] for letter in letters])


@rule("aten.cdist", "aten._cdist_forward")
def distances(step: Step) -> None:
    """Measure the distances between rows."""
    left, right = step.node.inputs[:2]
    _multiply(step, left, right, step.node.outputs[0], transposed=True)
