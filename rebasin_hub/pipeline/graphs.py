"""Specs of ONNX models and .pt2 files, which hold their graph: inferred, or compared with it.

The graph says what can be renumbered, and a spec that somebody wrote is known by the names and
shapes of tensors alone. So a shipped spec goes first only where the graph allows all that it
renumbers: then people find the names that they know, and the same canonical digest in every file
format. Where the graph does not, the graph is right.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebasin_hub.bind import Binding, bind
from rebasin_hub.errors import (
    DetectionError,
    IncompatibleError,
    InputError,
    MissingExtraError,
)
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.onnx import OnnxCheckpoint
from rebasin_hub.formats.program import ProgramCheckpoint
from rebasin_hub.specfile import parse_spec

if TYPE_CHECKING:
    from rebasin_hub.infer import Inferred, Layout
    from rebasin_hub.infer.graph import Graph
    from rebasin_hub.infer.outline import Outline

__all__ = ["GraphBinding", "against_graph", "infer_binding", "require_same_graph"]

HOLD_GRAPHS = (OnnxCheckpoint, ProgramCheckpoint)
SHOWN = 3
DIGITS = 12
"""Of the graph's digest, in the name of a spec."""


@dataclass(frozen=True, eq=False)
class GraphBinding(Binding):
    """A binding that the graph in its file speaks for.

    The same graph, with whatever weights, gives the same spec. `note` is what a user should know
    of it; `inferred` is whether nobody wrote it.
    """

    model: Path
    outline: Outline
    note: str
    inferred: bool


def infer_binding(checkpoint: Checkpoint, problem: DetectionError) -> GraphBinding:
    """Infer the spec of a checkpoint that holds a graph, and bind it.

    Nothing is tried on the running model: that is what `spec infer` is for.

    Args:
        checkpoint: an open one.
        problem: why no written spec fits.

    Raises:
        DetectionError: it holds no graph, or one in which no permutation was found.
        MissingExtraError: onnx, onnxruntime or torch is not installed.

    """
    if not isinstance(checkpoint, HOLD_GRAPHS):
        raise problem
    try:
        found = _inferred(checkpoint)
    except InputError as error:
        raise DetectionError(
            f"{problem}\nNone could be inferred from the graph: {error}"
        ) from error
    if not found.spec.layout.groups:
        raise DetectionError(f"{checkpoint.path}: {_nothing_found(found.spec.layout)}")
    return found.bound(checkpoint, "no spec was given or found: it was")


def against_graph(checkpoint: Checkpoint, written: Binding) -> Binding:
    """Compare a spec that fits by names and shapes with the graph, where a checkpoint holds one.

    Returns the written spec, with a note of how it was compared, if the graph allows all that it
    renumbers; else the spec that the graph gives. Without a graph that can be read the written
    spec is all that is known of the model.

    Raises:
        DetectionError: the graph allows nothing at all.

    """
    if not isinstance(checkpoint, HOLD_GRAPHS):
        return written
    name, path = written.spec.name, checkpoint.path
    try:
        found = _inferred(checkpoint)
    except (InputError, MissingExtraError) as error:
        why = str(error).partition("\n")[0].removeprefix(f"{path}: ")
        note = f"the spec '{name}' fits by names; it was not compared with the graph: {why}"
        checkpoint.notes = (*checkpoint.notes, note)
        return written
    from rebasin_hub.infer.compare import beyond

    bound = bind(parse_spec(found.spec.written.text), checkpoint.header)
    wrong = beyond(written, bound)
    if not wrong:
        note = f"the spec '{name}' fits by names and shapes, and the graph allows what it renumbers"
        return _speaking(written, path, found.outline, note, inferred=False)
    listed = ", ".join(f"'{one}'" for one in wrong[:SHOWN]) + (" …" if len(wrong) > SHOWN else "")
    reason = (
        f"the names and shapes are those of the spec '{name}', but the graph does not allow its "
        f"{listed} (--spec {name} takes it all the same)"
    )
    if not found.spec.layout.groups:
        raise DetectionError(f"{path}: {reason}: {_nothing_found(found.spec.layout)}")
    return found.bound(checkpoint, f"{reason}. So the spec was")


@dataclass(frozen=True)
class _Found:
    """What was inferred from a graph."""

    spec: Inferred
    outline: Outline
    operators: int

    def bound(self, checkpoint: Checkpoint, reason: str) -> GraphBinding:
        """Bind the spec to a checkpoint; `reason` begins the sentence that tells of it."""
        path = checkpoint.path
        note = (
            f"{reason} inferred from the graph of {path} ({self.operators} operators); "
            f"`rebasin-hub spec infer {path}` shows it, and tries it on the running model"
        )
        bound = bind(parse_spec(self.spec.written.text), checkpoint.header)
        return _speaking(bound, path, self.outline, note, inferred=True)


def _speaking(
    bound: Binding, path: Path, outline: Outline, note: str, *, inferred: bool
) -> GraphBinding:
    values: dict[str, Any] = {field.name: getattr(bound, field.name) for field in fields(Binding)}
    return GraphBinding(**values, model=path, outline=outline, note=note, inferred=inferred)


def _inferred(checkpoint: Checkpoint) -> _Found:
    """Infer the spec of a checkpoint that holds a graph, without a certificate.

    Raises:
        InputError: the graph cannot be read, or does not run on inputs that are guessed.
        MissingExtraError: onnx, onnxruntime or torch is not installed.

    """
    from rebasin_hub.infer import infer_spec, run_rules

    outline, graph = _outline(checkpoint), _graph(checkpoint)
    name = f"{checkpoint.format}-{outline.digest[:DIGITS]}"
    kind = "an ONNX model" if checkpoint.format == "onnx" else "a program of torch.export"
    return _Found(infer_spec(run_rules(graph), name, kind), outline, len(graph.nodes))


def _outline(checkpoint: Checkpoint) -> Outline:
    if isinstance(checkpoint, ProgramCheckpoint):
        from rebasin_hub.infer.program_outline import program_outline

        return program_outline(checkpoint)
    with _needed("inferring a spec from an ONNX graph", "onnx", {"onnx", "onnxruntime"}):
        from rebasin_hub.infer.onnx_outline import read_outline
    return read_outline(checkpoint.path, checkpoint.header)


def _graph(checkpoint: Checkpoint) -> Graph:
    if isinstance(checkpoint, ProgramCheckpoint):
        with _needed("inferring a spec from a torch program", "torch", {"torch"}):
            from rebasin_hub.infer.sources import from_program
        return from_program(checkpoint.path, seed=0, certified=False).graph
    with _needed("inferring a spec from an ONNX graph", "onnx", {"onnx", "onnxruntime"}):
        from rebasin_hub.infer.onnx_source import from_onnx
    return from_onnx(checkpoint.path, {}, seed=0, certified=False).graph


@contextmanager
def _needed(what: str, extra: str, modules: Collection[str]) -> Iterator[None]:
    """Say which extra brings a module that is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in modules:
            raise
        raise MissingExtraError(what, extra) from error


def _nothing_found(layout: Layout) -> str:
    """Say that nothing in a graph can be renumbered, and why."""
    reasons = Counter(
        f"{fixed.reason.what}: {fixed.reason.where or fixed.tensor}" for fixed in layout.fixed
    )
    why = "".join(f"\n  {reason}" for reason, _ in reasons.most_common(SHOWN))
    return f"nothing in this graph can be renumbered. What its weights' axes meet first:{why}"


def require_same_graph(binding: Binding, checkpoint: Checkpoint) -> None:
    """Refuse an ONNX model with another graph than the one that speaks for a spec.

    A written spec may hold for another graph as well. A checkpoint without a graph is taken at the
    names and shapes of its tensors.

    Raises:
        IncompatibleError: with the first difference.

    """
    if not (isinstance(binding, GraphBinding) and isinstance(checkpoint, HOLD_GRAPHS)):
        return
    difference = binding.outline.difference(_outline(checkpoint))
    if difference is None:
        return
    if not binding.inferred:
        try:
            other = against_graph(checkpoint, binding)
        except DetectionError:
            pass
        else:
            if other.spec == binding.spec:
                return
    raise IncompatibleError(
        f"{binding.model} and {checkpoint.path} have different graphs: {difference}; the spec "
        "that the first one's graph speaks for says nothing of the second. Export both alike, or "
        "give a spec with --spec"
    )
