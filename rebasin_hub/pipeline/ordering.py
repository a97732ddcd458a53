"""The canonical order of an open model, and its digest."""

from __future__ import annotations

from collections.abc import Collection

from rebasin_hub.canonical import Canonical, canonical_order
from rebasin_hub.digest import canonical_digest
from rebasin_hub.pipeline.models import Model
from rebasin_hub.pipeline.progress import Progress, counting
from rebasin_hub.stream import A_FEW, Bound

__all__ = ["NOT_EXACT", "canonical_digest_of", "ordered"]

NOT_EXACT = (
    "some units are tied in a way that the canonical order could not resolve: another renumbered "
    "copy of this model may come out in another order, with another digest"
)


def ordered(
    model: Model,
    progress: Progress | None,
    skip: Collection[str],
    bound: Bound = A_FEW,
) -> Canonical:
    """Return the canonical order of a model without the tensors to skip."""
    read = counting(model.read, model.header, progress, "ordering")
    return canonical_order(model.binding, read, skip=skip, bound=bound)


def canonical_digest_of(
    model: Model,
    progress: Progress | None,
    skip: Collection[str] | None = None,
    bound: Bound = A_FEW,
) -> tuple[str, bool]:
    """Return a model's canonical digest, and whether every renumbered copy has the same one.

    Args:
        model: an open model.
        progress: told how far it has come.
        skip: names to leave out; those that are tied to others by default.
        bound: how many bytes of tensors are held at a time.

    """
    skip = model.checkpoint.tied if skip is None else skip
    canonical = ordered(model, progress, skip, bound)
    digest = canonical_digest(model.binding, canonical.element, model.read, skip=skip, bound=bound)
    return digest, canonical.exact
