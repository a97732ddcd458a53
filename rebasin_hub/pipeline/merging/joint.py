"""Bring several models into one numbering."""

from __future__ import annotations

from collections.abc import Sequence

from rebasin_hub.align import Alignment, Evidence
from rebasin_hub.align.many import Aligner, Joint, align_many
from rebasin_hub.bind import Binding
from rebasin_hub.errors import NotFiniteError
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.pipeline.progress import Progress, counting
from rebasin_hub.rearrange import Read

__all__ = ["align_models", "aligner"]


def aligner(
    binding: Binding,
    matching: Matching,
    progress: Progress | None,
    evidence: Evidence | None = None,
) -> Aligner:
    """Return what aligns one of several models, or a mean of some, to another.

    Each search has the time limit of `matching` to itself.
    """

    def one(read_reference: Read, read_model: Read, *, first: bool, what: str) -> Alignment:
        return matching.search(
            binding,
            counting(read_reference, binding.header, progress, f"reading, {what}"),
            counting(read_model, binding.header, progress, f"reading, {what}"),
            evidence=evidence,
            watch=matching.watch(progress, what),
            start=None if first else binding.group.identity(),
            restarts=None if first else 1,
        )

    return one


def align_models(
    binding: Binding,
    models: Sequence[Read],
    strategy: str,
    matching: Matching,
    progress: Progress | None,
    *,
    evidence: Evidence | None = None,
) -> Joint:
    """Find one element for each model of a merge.

    Raises:
        InputError: there is no such device, or no data where the method needs some.
        NotFiniteError: weights that count are NaN or infinite.

    """
    try:
        return align_many(
            binding,
            models,
            aligner(binding, matching, progress, evidence),
            strategy=strategy,
            seed=matching.seed,
            device=matching.device,
            watch=matching.watch(progress, strategy),
        )
    except NotFiniteError as problem:
        if evidence is not None:  # then a loss may have become so
            raise
        raise NotFiniteError(
            f"{problem}\nWeights can only be matched where they are numbers; --no-align merges "
            "models as they are numbered."
        ) from problem
