"""Merge checkpoints: align each to the first, then combine tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rebasin_hub.align import Alignment
from rebasin_hub.errors import InputError
from rebasin_hub.formats import check_output, save_like
from rebasin_hub.merge import METHODS, combine, normalized
from rebasin_hub.pipeline.matching import WEIGHT_MATCHING, Matching
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, Model, open_like, open_model
from rebasin_hub.pipeline.progress import Progress, stage
from rebasin_hub.rearrange import Array, Read, rearranged
from rebasin_hub.tensors import DTYPES, Header

__all__ = ["MergePlan", "Merged", "Recipe", "merge"]


@dataclass(frozen=True)
class Recipe:
    """How models are merged.

    `weights` are one for each model and are scaled to sum one; `dtype` is the stored type of the
    result's floating-point tensors (a key of `DTYPES`), the first model's by default.
    """

    method: str = "linear"
    weights: tuple[float, ...] | None = None
    dtype: str | None = None
    align: bool = True

    def scaled_weights(self, count: int) -> tuple[float, ...]:
        """Return one weight for each model, with sum one.

        Raises:
            InputError: something in the recipe is wrong, or does not fit this many models.

        """
        if self.method not in METHODS:
            known = ", ".join(METHODS)
            raise InputError(f"unknown merge method '{self.method}'; there are {known}")
        if self.dtype is not None and not _storable(self.dtype):
            known = ", ".join(name for name in DTYPES if _storable(name))
            raise InputError(f"cannot merge into '{self.dtype}'; there are {known}")
        if count < 2:  # noqa: PLR2004
            raise InputError("a merge takes two models or more")
        if self.method == "slerp" and count != 2:  # noqa: PLR2004
            raise InputError(f"slerp merges two models, {count} were given; use --method linear")
        return normalized(self.weights, count)


def _storable(dtype: str) -> bool:
    return dtype in DTYPES and DTYPES[dtype].floating and DTYPES[dtype].bits >= 16  # noqa: PLR2004


@dataclass(frozen=True)
class MergePlan:
    """What a merge will do, known from the headers alone."""

    models: tuple[Path, ...]
    weights: tuple[float, ...]
    method: str
    align: bool
    output: Path
    spec: str
    tensors: int
    parameters: int
    read_bytes: int
    write_bytes: int


@dataclass(frozen=True)
class Merged:
    """A merge that was written; one alignment for each model but the first."""

    plan: MergePlan
    output: Path
    alignments: tuple[Alignment, ...]
    notes: tuple[str, ...]


def merge(
    paths: Sequence[Path],
    output: Path,
    recipe: Recipe | None = None,
    *,
    choice: Choice = AUTOMATIC,
    matching: Matching = WEIGHT_MATCHING,
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> MergePlan | Merged:
    """Merge checkpoints of one architecture, each aligned to the first one before.

    Args:
        paths: the checkpoints; format, side files and metadata come from the first.
        output: where to write.
        recipe: method, weights, dtype, whether to align.
        choice: the spec; found by itself by default.
        matching: how to align.
        force: replace an existing output.
        dry_run: only return the plan; no weight is read.
        progress: told of each stage.

    Raises:
        InputError: a checkpoint, the spec or the recipe cannot be used.
        IncompatibleError: the models do not have the same tensors.
        OutputError: the output exists or cannot be written.

    """
    recipe = recipe or Recipe()
    matching.check()
    weights = recipe.scaled_weights(len(paths))
    with ExitStack() as stack:
        first = stack.enter_context(open_model(paths[0], choice))
        others = [stack.enter_context(open_like(path, first)) for path in paths[1:]]
        header = _merged_header(first.header, recipe.dtype)
        checkpoints = [model.checkpoint for model in others]
        check_output(first.checkpoint, output, others=checkpoints, force=force)
        steps = MergePlan(
            models=tuple(paths),
            weights=weights,
            method=recipe.method,
            align=recipe.align,
            output=output,
            spec=first.binding.spec.name,
            tensors=len(header),
            parameters=first.parameters,
            read_bytes=sum(model.nbytes for model in (first, *others)),
            write_bytes=sum(info.nbytes for info in header.values()),
        )
        if dry_run:
            return steps
        alignments = [matching.run(first, model, progress) for model in others if recipe.align]
        readers = [first.read, *_readers(others, alignments)]
        saved = save_like(
            first.checkpoint,
            output,
            _combined(readers, weights, recipe, header),
            header=header,
            force=force,
            progress=stage(progress, "merging"),
        )
        notes = (*first.checkpoint.notes, *saved.notes, *_caveats(first))
        return Merged(steps, output, tuple(alignments), notes)


def _merged_header(header: Header, dtype: str | None) -> Header:
    if dtype is None:
        return header
    return {
        name: replace(info, dtype=dtype) if DTYPES[info.dtype].floating else info
        for name, info in header.items()
    }


def _readers(models: list[Model], alignments: list[Alignment]) -> list[Read]:
    if not alignments:
        return [model.read for model in models]
    return [
        rearranged(model.binding, alignment.element, model.read)
        for model, alignment in zip(models, alignments, strict=True)
    ]


def _combined(
    readers: list[Read], weights: tuple[float, ...], recipe: Recipe, header: Header
) -> Read:
    def produce(name: str) -> Array:
        arrays = [read(name) for read in readers]
        return combine(arrays, weights, method=recipe.method, dtype=header[name].dtype)

    return produce


def _caveats(model: Model) -> tuple[str, ...]:
    statistics = [tensor for tensor in model.binding.tensors if tensor.statistic]
    if not statistics:
        return ()
    return (
        f"{len(statistics)} running statistics were averaged like weights; a merged network needs "
        "them computed again on data before it is judged",
    )
