"""Align pairs of many models, spread over workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from secrets import token_hex

from rebasin_hub.align import Alignment, Evidence
from rebasin_hub.align.many.work import named
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.pipeline.models import Choice, Model, open_like, open_model
from rebasin_hub.pipeline.progress import Progress, stage
from rebasin_hub.workers import Kept, Workers

__all__ = ["Together", "align_pairs"]


@dataclass(frozen=True)
class Together:
    """Models of one architecture by their files, and how two of them are aligned.

    `mark` tells runs apart: files may have changed since a worker opened them for another one.
    """

    paths: tuple[Path, ...]
    choice: Choice
    matching: Matching
    mark: str = field(default_factory=partial(token_hex, 8))


@dataclass(frozen=True)
class _Pair:
    """One pair: the model that is brought to the reference, by their numbers."""

    together: Together
    model: int
    reference: int

    def __str__(self) -> str:
        return f"{named([self.model])} to {named([self.reference])}"


def align_pairs(
    together: Together,
    pairs: Sequence[tuple[int, int]],
    workers: Workers,
    progress: Progress | None = None,
) -> Iterator[tuple[tuple[int, int], Alignment]]:
    """Align pairs on their own; yield each as it is done.

    Args:
        together: the models.
        pairs: under (p, q) model p is brought to model q.
        workers: who aligns them.
        progress: told how many pairs are aligned.

    The law: every alignment is what `Matching.search` finds on one thread.

    Raises:
        InputError: a checkpoint, the task or the method cannot be used.
        NotFiniteError: weights that count are NaN or infinite.
        RebasinError: a pair has lost its worker too many times.

    """
    jobs = [_Pair(together, p, q) for p, q in pairs]
    told = stage(progress, "aligning pairs")
    try:
        for number, alignment in workers.run(_align, jobs, progress=told):
            yield pairs[number], alignment
    finally:
        _opened.close()


def _open(together: Together, stack: ExitStack) -> tuple[list[Model], Evidence | None]:
    first = stack.enter_context(open_model(together.paths[0], together.choice))
    others = (stack.enter_context(open_like(path, first)) for path in together.paths[1:])
    return [first, *others], together.matching.evidence(first)


_opened = Kept(_open)


def _align(job: _Pair) -> Alignment:
    models, evidence = _opened.of(job.together)
    matching = job.together.matching
    return matching.search(
        models[0].binding,
        models[job.reference].read,
        models[job.model].read,
        evidence=evidence,
        watch=matching.watch(None),
    )
