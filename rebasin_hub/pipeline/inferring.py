"""Infer a spec from a graph, certify it, and write it down."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rebasin_hub.errors import FormatError, InputError, MissingExtraError
from rebasin_hub.formats import new_file
from rebasin_hub.infer import Inferred, Runner, infer_spec, run_rules
from rebasin_hub.pipeline.progress import Progress
from rebasin_hub.pipeline.write import free_output
from rebasin_hub.tasks.pythonfile import load_function, names_function

if TYPE_CHECKING:
    from rebasin_hub.infer import Graph

__all__ = ["FixedPlaces", "FoundGroup", "InferredSpec", "infer"]


@dataclass(frozen=True)
class FoundGroup:
    """One declaration of an inferred spec.

    `sizes` holds the size of every instance; `tensors` counts those on which an instance stands;
    `deviation` and `control` are None without a certificate.
    """

    name: str
    size: int
    instances: int
    within: str | None
    tensors: int
    deviation: float | None
    control: float | None


@dataclass(frozen=True)
class FixedPlaces:
    """Axes that stay for one reason: how many, and one of them."""

    reason: str
    where: str
    axes: int
    example: str


@dataclass(frozen=True)
class InferredSpec:
    """A spec that was inferred from a graph.

    `share` is the share of floating-point parameters that lie on at least one renumbered axis;
    `unruled` counts the operators that have no rule; `removed` holds what the certificate took
    out, each with its deviation.
    """

    source: str
    output: Path | None
    text: str
    operators: int
    groups: tuple[FoundGroup, ...]
    fixed: tuple[FixedPlaces, ...]
    share: float
    certified: bool
    deviation: float | None
    tolerance: float | None
    removed: Mapping[str, float]
    unruled: Mapping[str, int]
    notes: tuple[str, ...]


def infer(
    source: str,
    output: Path | None = None,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    certified: bool = True,
    seed: int = 0,
    force: bool = False,
    progress: Progress | None = None,
) -> InferredSpec:
    """Infer a spec, and write it where one is wanted.

    Args:
        source: an ONNX file, a `.pt2` of torch.export, a Hugging Face directory, or
            `FILE.py:FUNCTION` that returns a module and its inputs.
        output: where to write the spec.
        shapes: of inputs whose axes the graph leaves open.
        certified: whether to try every group on the running model.
        seed: of weights, inputs and permutations.
        force: replace an existing output.
        progress: told how far it has come.

    Raises:
        InputError: the source is of another kind, or cannot be run or exported.
        FormatError: a file is damaged.
        OutputError: the output exists or cannot be written.
        MissingExtraError: torch, onnx or transformers is not installed.

    """
    inputs = [Path(source.rpartition(":")[0] if names_function(source) else source)]
    free_output(output, force=force, inputs=inputs)
    graph, runner, notes = _opened(source, shapes or {}, certified=certified, seed=seed)
    flow = run_rules(graph)
    name = _name(output.stem if output is not None else inputs[0].stem)
    found = infer_spec(
        flow, name, graph.source, runner if certified else None, seed=seed, progress=progress
    )
    if output is not None:
        with new_file(output, force=force) as file:
            file.put(found.written.text.encode())
    return _summary(source, output, graph, found, notes)


def _opened(
    source: str, shapes: Mapping[str, tuple[int, ...]], *, certified: bool, seed: int
) -> tuple[Graph, Runner | None, tuple[str, ...]]:
    path = Path(source)
    if path.suffix.lower() == ".onnx":
        return _onnx(path, shapes, seed, certified=certified)
    if shapes:
        raise InputError(f"{source}: only the inputs of an ONNX graph can be given shapes")
    try:
        from rebasin_hub.infer import sources
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingExtraError("inferring a spec from a torch program", "torch") from error
    if names_function(source):
        found = sources.from_builder(load_function(source), path.name, seed=seed)
    elif path.is_dir():
        found = sources.from_directory(path, seed=seed, certified=certified)
    elif path.suffix.lower() == ".pt2" and path.is_file():
        found = sources.from_program(path, seed=seed)
    elif not path.exists():
        raise FormatError(f"{source}: no such file")
    else:
        raise InputError(
            f"{source}: holds no graph; give an .onnx file, a .pt2 of torch.export, a Hugging Face "
            "directory, or FILE.py:FUNCTION that returns a module and its inputs"
        )
    return found.graph, found.runner, found.notes


def _onnx(
    path: Path, shapes: Mapping[str, tuple[int, ...]], seed: int, *, certified: bool
) -> tuple[Graph, Runner | None, tuple[str, ...]]:
    try:
        from rebasin_hub.infer.onnx_source import from_onnx
    except ModuleNotFoundError as error:
        if error.name not in {"onnx", "onnxruntime"}:
            raise
        raise MissingExtraError("inferring a spec from an ONNX graph", "onnx") from error
    found = from_onnx(path, shapes, seed=seed, certified=certified)
    return found.graph, found.runner, found.notes


def _name(stem: str) -> str:
    """Return a spec's name after a file's."""
    return re.sub(r"[^a-z0-9._-]+", "-", stem.lower()).strip("-._") or "inferred"


def _summary(
    source: str,
    output: Path | None,
    graph: Graph,
    found: Inferred,
    notes: Iterable[str],
) -> InferredSpec:
    certificate = found.certificate
    return InferredSpec(
        source=source,
        output=output,
        text=found.written.text,
        operators=len(graph.nodes),
        groups=tuple(_groups(found)),
        fixed=tuple(_fixed(found)),
        share=found.layout.share,
        certified=certificate is not None,
        deviation=certificate.together if certificate else None,
        tolerance=certificate.tolerance if certificate else None,
        removed=certificate.removed if certificate else {},
        unruled=found.layout.flow.unruled,
        notes=(*notes, *_unnoticed(found)),
    )


def _unnoticed(found: Inferred) -> Iterable[str]:
    if found.certificate is not None:
        for name in found.certificate.unnoticed:
            yield f"leaving out '{name}' on a tensor was not noticed: it was hardly tested"


def _groups(found: Inferred) -> Iterable[FoundGroup]:
    layout, folded = found.layout, found.written.folded
    tensors: Counter[int] = Counter()
    for axes in layout.axes.values():
        tensors.update({atom for axis in axes for atom in layout.labels.atoms(axis)})
    trials = {t.name: t for t in found.certificate.trials} if found.certificate else {}
    first = {m: g for g, members in folded.members.items() for m in members.values()}
    for group, name in found.written.names.items():
        parent = layout.groups[group].parent
        members = folded.members[group].values()
        trial = trials.get(name)
        yield FoundGroup(
            name=name,
            size=layout.groups[group].size,
            instances=len(members),
            within=None if parent is None else found.written.names[first[parent]],
            tensors=sum(tensors[member] for member in members),
            deviation=trial.deviation if trial else None,
            control=trial.control if trial else None,
        )


def _fixed(found: Inferred) -> Iterable[FixedPlaces]:
    counts: Counter[tuple[str, str]] = Counter()
    examples: dict[tuple[str, str], str] = {}
    for fixed in found.layout.fixed:
        key = (fixed.reason.what, fixed.reason.where)
        counts[key] += 1
        examples.setdefault(key, f"{fixed.tensor} axis {fixed.axis}")
    for (what, where), count in counts.most_common():
        yield FixedPlaces(what, where, count, examples[what, where])
