"""Merge checkpoints: align each to the first, then combine tensor by tensor."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from rebasin_hub.align import Alignment
from rebasin_hub.errors import InputError
from rebasin_hub.formats import check_output, save_like
from rebasin_hub.merge import check, combine, normalized, overflowed
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
        check(self.method, count)
        if self.dtype is not None and not _storable(self.dtype):
            known = ", ".join(name for name in DTYPES if _storable(name))
            raise InputError(f"cannot merge into '{self.dtype}'; there are {known}")
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
    nbytes: int
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
        combined = _Combined(readers, weights, recipe, header)
        saved = save_like(
            first.checkpoint,
            output,
            combined,
            header=header,
            force=force,
            progress=stage(progress, "merging"),
        )
        notes = (
            *first.checkpoint.notes,
            *(note for model in others for note in model.borrowed),
            *saved.notes,
            *combined.notes(),
            *_caveats(first),
        )
        return Merged(steps, output, saved.nbytes, tuple(alignments), notes)


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


class _Combined:
    """Reads the merged model, and keeps count of what the stored type cannot hold."""

    def __init__(
        self, readers: list[Read], weights: tuple[float, ...], recipe: Recipe, header: Header
    ) -> None:
        self._readers = readers
        self._weights = weights
        self._method = recipe.method
        self._header = header
        self._overflowed: dict[str, int] = {}

    def __call__(self, name: str) -> Array:
        """Return one merged tensor."""
        arrays = [read(name) for read in self._readers]
        dtype = self._header[name].dtype
        merged = combine(arrays, self._weights, method=self._method, dtype=dtype)
        if DTYPES[dtype].floating and (count := overflowed(arrays, merged)):
            self._overflowed[name] = count
        return merged

    def notes(self) -> tuple[str, ...]:
        """Say which tensors hold values that became infinite."""
        return tuple(
            f"{name}: {count:,} finite values are too large for {self._header[name].dtype} and "
            "became infinite; choose a larger --dtype"
            for name, count in self._overflowed.items()
        )


def _caveats(model: Model) -> tuple[str, ...]:
    statistics = [tensor for tensor in model.binding.tensors if tensor.statistic]
    if not statistics:
        return ()
    return (
        f"{len(statistics)} running statistics were averaged like weights; a merged network needs "
        "them computed again on data before it is judged",
    )
