"""Every pair of models on its own, as if the others were not there."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rebasin_hub.align.many.cycles import cycle_error
from rebasin_hub.align.many.work import Aligner, named
from rebasin_hub.align.result import Alignment
from rebasin_hub.bind import Binding
from rebasin_hub.errors import InputError
from rebasin_hub.permute import SymmetryGroup
from rebasin_hub.rearrange import Read

__all__ = ["Pairwise", "pairs_of", "pairwise"]


@dataclass(frozen=True, eq=False)
class Pairwise:
    """The alignment of every pair: `alignments[p, q]` brings model p to model q, for p > q."""

    group: SymmetryGroup
    alignments: Mapping[tuple[int, int], Alignment]

    @cached_property
    def cycle_error(self) -> float | None:
        """The `cycle_error` of these maps, which know nothing of one another."""
        return cycle_error(self.group, {pair: a.element for pair, a in self.alignments.items()})


def pairs_of(count: int) -> list[tuple[int, int]]:
    """Return all (p, q) with q < p < count: model p is brought to model q."""
    return [(p, q) for q, p in itertools.combinations(range(count), 2)]


def pairwise(binding: Binding, reads: Sequence[Read], align: Aligner) -> Pairwise:
    """Align every model to every one before it: N (N − 1) / 2 alignments for N models.

    Args:
        binding: the binding of all models, which have the same names and shapes.
        reads: reads a tensor of each model; two or more.
        align: how one model is aligned to another.

    Raises:
        InputError: there are fewer than two models.
        NotFiniteError: tensors that count hold NaN or infinity.

    """
    if len(reads) < 2:  # noqa: PLR2004
        raise InputError("aligning many takes two models or more")
    found = {}
    for p, q in pairs_of(len(reads)):
        what = f"{named([p])} to {named([q])}"
        found[p, q] = align(reads[q], reads[p], first=True, what=what)
    return Pairwise(binding.group, found)
