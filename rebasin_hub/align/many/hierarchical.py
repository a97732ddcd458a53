"""A tree of pairs."""

from __future__ import annotations

from rebasin_hub.align.many.work import Work

__all__ = ["hierarchical"]


def hierarchical(work: Work) -> tuple[tuple[float, ...], bool]:
    """Align pairs, then the means of pairs, and so on; an odd one out waits for the next level.

    Source: arXiv:2510.09174, hierarchical pairwise merging.
    """
    clusters = [[number] for number in range(len(work.reads))]
    while len(clusters) > 1:
        joined = []
        for left, right in zip(clusters[::2], clusters[1::2], strict=False):
            work.step(right, left)
            joined.append(left + right)
        clusters = joined + ([clusters[-1]] if len(clusters) % 2 else [])
    return (), True
