"""Bring the models of a merge into one numbering."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rebasin_hub.align import Alignment, align
from rebasin_hub.align.many import Joint, align_many
from rebasin_hub.bind import Binding
from rebasin_hub.errors import NotFiniteError
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.pipeline.progress import Progress, counting
from rebasin_hub.rearrange import Read

__all__ = ["align_models"]


def align_models(
    binding: Binding,
    models: Sequence[Read],
    strategy: str,
    matching: Matching,
    progress: Progress | None,
) -> Joint:
    """Find one element for each model.

    Raises:
        InputError: there is no such device.
        NotFiniteError: weights that count are NaN or infinite.

    """

    def one(read_reference: Read, read_model: Read, *, first: bool, what: str) -> Alignment:
        options: dict[str, Any] = {}
        if not first:
            options = {"start": binding.group.identity(), "restarts": 1}
        elif matching.restarts is not None:
            options = {"restarts": matching.restarts}
        return align(
            binding,
            counting(read_reference, binding.header, progress, f"reading, {what}"),
            counting(read_model, binding.header, progress, f"reading, {what}"),
            method=matching.method,
            device=matching.device,
            seed=matching.seed,
            progress=None
            if progress is None
            else lambda p: progress(f"{what}, start {p.restart + 1}, sweep {p.sweep + 1}", 0, 0),
            **options,
        )

    try:
        return align_many(binding, models, one, strategy=strategy, seed=matching.seed)
    except NotFiniteError as problem:
        raise NotFiniteError(
            f"{problem}\nWeights can only be matched where they are numbers; --no-align merges "
            "models as they are numbered."
        ) from problem
