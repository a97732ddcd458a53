"""Align many checkpoints with one another, and keep the permutations of each."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from rebasin_hub.align import Alignment
from rebasin_hub.align.many import (
    STRATEGIES,
    SYNONYMS,
    Aligner,
    Pairwise,
    Step,
    align_many,
    cosines_to_others,
    pairs_of,
    pairwise,
    spread,
)
from rebasin_hub.bind import Binding
from rebasin_hub.errors import InputError, OutputError, RebasinError
from rebasin_hub.formats import new_directory
from rebasin_hub.formats.atomic import refuse_existing
from rebasin_hub.permfile import PermutationFile
from rebasin_hub.permute import Element
from rebasin_hub.pipeline.matching import WEIGHT_MATCHING, Matching
from rebasin_hub.pipeline.merging.joint import aligner
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, Model, open_like, open_model
from rebasin_hub.pipeline.pairs import Together, align_pairs
from rebasin_hub.pipeline.progress import Progress, counting
from rebasin_hub.pipeline.write import Found
from rebasin_hub.rearrange import Read, rearranged
from rebasin_hub.spec.check import nearest
from rebasin_hub.workers import Workers

__all__ = ["PAIRWISE", "AlignedMany", "Member", "Pair", "align_together"]

PAIRWISE = "pairwise"
"""Every pair on its own; of no use for a merge, so no strategy of one."""


@dataclass(frozen=True)
class Member:
    """One of the models, in the numbering that all have in common.

    cosine, start_cosine: to the mean of the others, with all in the common numbering, and with all
        as they are stored.
    moved: the units that change their place, of `units`.
    """

    model: Path
    output: Path | None
    cosine: float
    start_cosine: float
    moved: int
    units: int


@dataclass(frozen=True, eq=False)
class Pair:
    """One alignment of two models on their own."""

    model: Path
    reference: Path
    output: Path | None
    alignment: Alignment


@dataclass(frozen=True, eq=False)
class AlignedMany:
    """Many models that were aligned with one another.

    members: each of them; none for `pairwise`.
    pairs: for `pairwise`, every pair.
    distances: `align.many.spread` of the models as they are stored, once all are aligned to the
        first one or to one another, and after each round of a strategy that has some; none for
        `pairwise`.
    cycle_error: the share of units that the way round three models does not lead to themselves.
    steps: the single alignments.
    """

    strategy: str
    method: str
    spec: str
    output: Path | None
    members: tuple[Member, ...]
    pairs: tuple[Pair, ...]
    distances: tuple[float, ...]
    converged: bool
    cycle_error: float | None
    steps: tuple[Step, ...]
    notes: tuple[str, ...]


def align_together(
    paths: Sequence[Path],
    output: Path | None = None,
    *,
    strategy: str = "universe",
    choice: Choice = AUTOMATIC,
    matching: Matching = WEIGHT_MATCHING,
    force: bool = False,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> AlignedMany:
    """Find the permutations that bring many models together, and write them to a new folder.

    The folder has one file for each model, named like it, that brings it into the numbering of the
    first one; with `pairwise` one for each pair, named `MODEL-to-REFERENCE`.

    Args:
        paths: the checkpoints, two or more; the first one's numbering is kept.
        output: the folder.
        strategy: a key of `align.many.STRATEGIES`, or `pairwise`.
        choice: the spec; found by itself by default.
        matching: how to align two of them.
        force: replace an existing folder of permutation files.
        workers: who aligns the pairs of `pairwise`; by default this process, one after another.
        progress: told of each stage.

    Raises:
        InputError: a checkpoint, the spec, the strategy or the method cannot be used, or workers
            are given to a strategy in which every step builds on those before it.
        IncompatibleError: the models do not have the same tensors.
        NotFiniteError: weights that count are NaN or infinite.
        OutputError: the folder exists, holds something else, or cannot be written.

    """
    strategy = _known(strategy)
    matching.check()
    if workers is not None and strategy != PAIRWISE:
        raise InputError(
            f"every step of '{strategy}' builds on those before it; workers share the pairs of "
            f"--strategy {PAIRWISE} alone"
        )
    if len(paths) < 2:  # noqa: PLR2004
        raise InputError("aligning many takes two models or more")
    _check_folder(output, paths, force=force)
    with ExitStack() as stack:
        first = stack.enter_context(open_model(paths[0], choice))
        models = [first, *(stack.enter_context(open_like(path, first)) for path in paths[1:])]
        work = _Work(tuple(paths), tuple(models), strategy, matching, output, progress)
        if strategy == PAIRWISE:
            return _pairwise(work, Together(work.paths, choice, matching), workers, force=force)
        return _joint(work, force=force)


@dataclass(frozen=True, eq=False)
class _Work:
    """Open models with what is to be done to them."""

    paths: tuple[Path, ...]
    models: tuple[Model, ...]
    strategy: str
    matching: Matching
    output: Path | None
    progress: Progress | None

    @property
    def binding(self) -> Binding:
        return self.models[0].binding

    @cached_property
    def reads(self) -> list[Read]:
        return [model.read for model in self.models]

    @cached_property
    def labels(self) -> list[str]:
        """What the models are called in names of files: as their own files, each differently."""
        names: list[str] = []
        for path in self.paths:
            whole = path.resolve()
            base = whole.name if whole.is_dir() else whole.stem
            again = (f"{base}-{number}" for number in itertools.count(2))
            names.append(next(n for n in itertools.chain([base], again) if n not in names))
        return names

    @cached_property
    def digests(self) -> list[str]:
        """The plain digest of each model as it is stored."""
        return [
            model.digest(counting(model.read, model.header, self.progress, f"digesting {label}"))
            for model, label in zip(self.models, self.labels, strict=True)
        ]

    def aligner(self) -> Aligner:
        evidence = self.matching.evidence(self.models[0])
        return aligner(self.binding, self.matching, self.progress, evidence)

    def renumbered(self, number: int, element: Element) -> Read:
        return rearranged(self.binding, element, self.reads[number])

    def path(self, name: str) -> Path | None:
        """Return where a permutation file will be."""
        return None if self.output is None else self.output / f"{name}.safetensors"

    def save(self, found: Mapping[str, tuple[int, int, Found]], *, force: bool) -> None:
        """Write permutation files: for each name which model, to which one, and how."""
        if self.output is None:
            return
        files = {
            name: replace(how, reference_digest=self.digests[to]).file(
                self.models[number],
                self.digests[number],
                self.models[number].digest(self.renumbered(number, how.element)),
            )
            for name, (number, to, how) in found.items()
        }
        with new_directory(self.output.absolute(), force=force) as folder:
            for name, file in files.items():
                file.save(folder / f"{name}.safetensors")


def _joint(work: _Work, *, force: bool) -> AlignedMany:
    """Align all models with one another."""
    binding, matching = work.binding, work.matching
    found = align_many(
        binding,
        work.reads,
        work.aligner(),
        strategy=work.strategy,
        seed=matching.seed,
        device=matching.device,
        watch=matching.watch(work.progress, work.strategy),
    )
    numbered = [work.renumbered(n, element) for n, element in enumerate(found.elements)]
    how = f"{matching.method}, {work.strategy}"
    work.save(
        {
            label: (number, 0, Found(element, how))
            for number, (label, element) in enumerate(zip(work.labels, found.elements, strict=True))
        },
        force=force,
    )
    before, after = (cosines_to_others(binding, reads) for reads in (work.reads, numbered))
    units = sum(binding.group.units.values())
    return AlignedMany(
        strategy=work.strategy,
        method=matching.method,
        spec=binding.spec.name,
        output=work.output,
        members=tuple(
            Member(
                model=path,
                output=work.path(work.labels[number]),
                cosine=after[number],
                start_cosine=before[number],
                moved=sum(binding.group.moved(found.elements[number]).values()),
                units=units,
            )
            for number, path in enumerate(work.paths)
        ),
        pairs=(),
        distances=(
            spread(binding, work.reads),
            *(found.distances or (spread(binding, numbered),)),
        ),
        converged=found.converged,
        cycle_error=found.cycle_error,
        steps=found.steps,
        notes=(*found.notes, *(note for step in found.steps for note in step.alignment.notes)),
    )


def _pairwise(
    work: _Work, together: Together, workers: Workers | None, *, force: bool
) -> AlignedMany:
    """Align every pair on its own."""
    if workers is None:
        found = pairwise(work.binding, work.reads, work.aligner())
    else:
        pairs = pairs_of(len(work.models))
        done = dict(align_pairs(together, pairs, workers, work.progress))
        found = Pairwise(work.binding.group, {pair: done[pair] for pair in pairs})
    names = {(p, q): f"{work.labels[p]}-to-{work.labels[q]}" for p, q in found.alignments}
    work.save(
        {
            names[p, q]: (p, q, Found(alignment.element, alignment.method, alignment))
            for (p, q), alignment in found.alignments.items()
        },
        force=force,
    )
    return AlignedMany(
        strategy=work.strategy,
        method=work.matching.method,
        spec=work.binding.spec.name,
        output=work.output,
        members=(),
        pairs=tuple(
            Pair(work.paths[p], work.paths[q], work.path(names[p, q]), alignment)
            for (p, q), alignment in found.alignments.items()
        ),
        distances=(),
        converged=all(alignment.converged for alignment in found.alignments.values()),
        cycle_error=found.cycle_error,
        steps=(),
        notes=tuple(note for a in found.alignments.values() for note in a.notes),
    )


def _known(strategy: str) -> str:
    """Return a strategy's own name.

    Raises:
        InputError: there is no such strategy.

    """
    known = [*STRATEGIES, PAIRWISE]
    if strategy not in known:
        shown = ", ".join(name for name in known if name not in SYNONYMS)
        hint = nearest(strategy, known)
        raise InputError(f"strategy '{strategy}' is none of {shown}{hint}; choose one")
    return SYNONYMS.get(strategy, strategy)


def _check_folder(output: Path | None, inputs: Sequence[Path], *, force: bool) -> None:
    """Refuse a folder that cannot be written or replaced, before any long work starts.

    Raises:
        OutputError: it exists and `force` is not set, holds anything but permutation files, or an
            input among them.

    """
    if output is None:
        return
    whole = output.absolute()
    refuse_existing(whole, force=force)
    if not whole.parent.is_dir():
        raise OutputError(f"{output}: the directory {whole.parent} does not exist; create it first")
    if not os.access(whole.parent, os.W_OK | os.X_OK):
        raise OutputError(
            f"{output}: no permission to write in {whole.parent}; choose another place"
        )
    if not whole.exists():
        return
    if not whole.is_dir():
        raise OutputError(f"{output}: is a file; name a folder")
    if any(whole.resolve() in path.resolve().parents for path in inputs):
        raise OutputError(f"{output}: holds an input, which is never changed; choose another name")
    for entry in sorted(whole.iterdir()):
        if not _is_permutation_file(entry):
            raise OutputError(
                f"{output}: {entry.name} in it is no permutation file; only a folder of these is "
                "replaced; choose another name"
            )


def _is_permutation_file(path: Path) -> bool:
    try:
        PermutationFile.load(path)
    except RebasinError:
        return False
    return True
