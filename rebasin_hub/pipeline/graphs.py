"""Specs of ONNX models that no written spec describes: inferred from the graph in the file."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from rebasin_hub.bind import Binding, bind
from rebasin_hub.errors import (
    DetectionError,
    IncompatibleError,
    InputError,
    MissingExtraError,
)
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.onnx import OnnxCheckpoint
from rebasin_hub.specfile import parse_spec

if TYPE_CHECKING:
    from rebasin_hub.infer import Layout
    from rebasin_hub.infer.onnx_outline import Outline

__all__ = ["InferredBinding", "infer_binding", "require_same_graph"]

SHOWN = 3
DIGITS = 12
"""Of the graph's digest, in the name of a spec."""


@dataclass(frozen=True, eq=False)
class InferredBinding(Binding):
    """A binding of a spec that was inferred from the graph of an ONNX model.

    The same graph, with whatever weights, gives the same spec.
    """

    model: Path
    outline: Outline
    operators: int

    @property
    def note(self) -> str:
        """What a user should know of the spec."""
        return (
            f"no spec was given or found: it was inferred from the graph of {self.model} "
            f"({self.operators} operators); `rebasin-hub spec infer {self.model}` shows it, and "
            "tries it on the running model"
        )


def infer_binding(checkpoint: Checkpoint, problem: DetectionError) -> InferredBinding:
    """Infer the spec of a checkpoint that holds a graph, and bind it.

    Nothing is tried on the running model: that is what `spec infer` is for.

    Args:
        checkpoint: an open one.
        problem: why no written spec fits.

    Raises:
        DetectionError: it holds no graph, or one in which no permutation was found.
        MissingExtraError: onnx or onnxruntime is not installed.

    """
    if not isinstance(checkpoint, OnnxCheckpoint):
        raise problem
    try:
        from rebasin_hub.infer import infer_spec, run_rules
        from rebasin_hub.infer.onnx_outline import read_outline
        from rebasin_hub.infer.onnx_source import from_onnx
    except ModuleNotFoundError as error:
        if error.name not in {"onnx", "onnxruntime"}:
            raise
        raise MissingExtraError("inferring a spec from an ONNX graph", "onnx") from error
    path = checkpoint.path
    outline = read_outline(path, checkpoint.header)
    try:
        graph = from_onnx(path, {}, seed=0, certified=False).graph
        found = infer_spec(run_rules(graph), f"onnx-{outline.digest[:DIGITS]}", "an ONNX model")
    except InputError as error:
        raise DetectionError(
            f"{problem}\nNone could be inferred from the graph: {error}"
        ) from error
    if not found.layout.groups:
        raise DetectionError(f"{path}: {_nothing_found(found.layout)}")
    bound = bind(parse_spec(found.written.text), checkpoint.header)
    values = {field.name: getattr(bound, field.name) for field in fields(bound)}
    return InferredBinding(**values, model=path, outline=outline, operators=len(graph.nodes))


def _nothing_found(layout: Layout) -> str:
    """Say that nothing in a graph can be renumbered, and why."""
    reasons = Counter(
        f"{fixed.reason.what}: {fixed.reason.where or fixed.tensor}" for fixed in layout.fixed
    )
    why = "".join(f"\n  {reason}" for reason, _ in reasons.most_common(SHOWN))
    return f"nothing in this graph can be renumbered. What its weights' axes meet first:{why}"


def require_same_graph(binding: Binding, checkpoint: Checkpoint) -> None:
    """Refuse an ONNX model with another graph than the one that a spec was inferred from.

    A checkpoint without a graph is taken at the names and shapes of its tensors.

    Raises:
        IncompatibleError: with the first difference.

    """
    if not (isinstance(binding, InferredBinding) and isinstance(checkpoint, OnnxCheckpoint)):
        return
    from rebasin_hub.infer.onnx_outline import read_outline

    difference = binding.outline.difference(read_outline(checkpoint.path, checkpoint.header))
    if difference is not None:
        raise IncompatibleError(
            f"{binding.model} and {checkpoint.path} have different graphs: {difference}; the spec "
            "that was inferred from the first says nothing of the second. Export both alike, or "
            "give a spec with --spec"
        )
