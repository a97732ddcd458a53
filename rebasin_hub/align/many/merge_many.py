"""Each model to the mean of the others, by turns."""

from __future__ import annotations

from rebasin_hub.align.many.reference import to_reference
from rebasin_hub.align.many.work import Work

__all__ = ["merge_many", "rounds"]

MAX_ROUNDS = 100


def merge_many(work: Work) -> tuple[tuple[float, ...], bool]:
    """In random order, align each model to the mean of the others, until none moves any more.

    Source: Git Re-Basin (arXiv:2209.04836), algorithm 3; but that it starts where `reference`
    ends, not at the models as they are numbered, and so never ends farther apart.
    """
    to_reference(work)
    start = work.spread()
    distances, converged = rounds(work)
    return (start, *distances), converged


def rounds(work: Work) -> tuple[tuple[float, ...], bool]:
    """Align each model to the mean of the others, round by round, until none moves.

    Returns the spread after each round, and whether the last one moved no model. The law: the
    spread never rises, because each step raises the sum of the inner products of all pairs.
    """
    count = len(work.reads)
    distances: list[float] = []
    for _ in range(MAX_ROUNDS):
        moved = False
        for number in work.rng.permutation(count).tolist():
            others = [other for other in range(count) if other != number]
            moved |= work.step([number], others, first=False)
        distances.append(work.spread())
        if not moved:
            return tuple(distances), True
        if work.watch.over:
            break
    return tuple(distances), False
