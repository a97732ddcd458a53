"""Bring many models into one numbering: strategies of one signature, in one table.

Each finds one element of the group for each model; what is made of the renumbered models, a mean
say, is not their affair. All of them leave the first model as it is numbered, and for two models
all are the one alignment of the second to the first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np

from rebasin_hub.align.many.cycles import cycle_error, maps_between
from rebasin_hub.align.many.hierarchical import hierarchical
from rebasin_hub.align.many.mean import cosines_to_others, spread
from rebasin_hub.align.many.merge_many import merge_many
from rebasin_hub.align.many.pairwise import Pairwise, pairs_of, pairwise
from rebasin_hub.align.many.reference import to_reference
from rebasin_hub.align.many.universe import universe
from rebasin_hub.align.many.work import Aligner, Joint, Step, Strategy, Work
from rebasin_hub.align.watch import Watch
from rebasin_hub.bind import Binding
from rebasin_hub.errors import InputError
from rebasin_hub.rearrange import Read

__all__ = [
    "STRATEGIES",
    "SYNONYMS",
    "Aligner",
    "Joint",
    "Pairwise",
    "Step",
    "Strategy",
    "Work",
    "align_many",
    "cosines_to_others",
    "cycle_error",
    "maps_between",
    "pairs_of",
    "pairwise",
    "spread",
]

SYNONYMS: Mapping[str, str] = MappingProxyType({"to-reference": "reference"})
"""Other names of strategies that are in use."""

STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "reference": to_reference,
        "hierarchical": hierarchical,
        "merge-many": merge_many,
        "universe": universe,
        "to-reference": to_reference,
    }
)
"""All strategies by their names and synonyms."""


def align_many(
    binding: Binding,
    reads: Sequence[Read],
    align: Aligner,
    *,
    strategy: str = "reference",
    seed: int = 0,
    device: str = "cpu",
    watch: Watch | None = None,
) -> Joint:
    """Find one element for each of many models so that all are close to one another.

    Args:
        binding: the binding of all models, which have the same names and shapes.
        reads: reads a tensor of each model; two or more.
        align: how one model, or the mean of several, is aligned to another.
        strategy: a key of `STRATEGIES`.
        seed: of the order in which models have their turn; the same seed gives the same result.
        device: where `universe` computes; see `backend.select`.
        watch: has the time limit of `universe` and of the rounds, and is told of the former.

    Beside what one alignment takes, a tensor of each model is in memory (`universe`: all models);
    models are read again for every alignment. The law: `Joint.distances` never rise.

    Raises:
        InputError: the strategy is unknown, or there are fewer than two models.
        NotFiniteError: tensors that count hold NaN or infinity.

    """
    if strategy not in STRATEGIES:
        known = ", ".join(name for name in STRATEGIES if name not in SYNONYMS)
        raise InputError(f"strategy '{strategy}' is none of {known}; choose one")
    if len(reads) < 2:  # noqa: PLR2004
        raise InputError("aligning many takes two models or more")
    strategy = SYNONYMS.get(strategy, strategy)
    rng = np.random.default_rng(seed)
    work = Work(binding, reads, align, rng, device=device, watch=watch or Watch())
    chosen = STRATEGIES[strategy if len(reads) > 2 else "reference"]  # noqa: PLR2004
    distances, converged = chosen(work)
    back = binding.group.invert(work.elements[0])
    elements = tuple(binding.group.compose(back, element) for element in work.elements)
    steps, notes = tuple(work.steps), tuple(work.notes)
    return Joint(strategy, binding.group, elements, steps, distances, converged, notes)
