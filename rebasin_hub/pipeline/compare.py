"""Tell how two checkpoints are related once the numbering of their units is set aside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np

from rebasin_hub.align import Alignment
from rebasin_hub.errors import NotFiniteError
from rebasin_hub.pipeline.canonicalize import NOT_EXACT, canonical_digest_of
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.pipeline.models import Choice, Model, Progress, counting, open_like, open_model
from rebasin_hub.rearrange import Read, rearranged
from rebasin_hub.tensors import DTYPES

__all__ = ["Comparison", "Difference", "Relation", "verify"]

ROUNDING = 1e-2
RELATED = 0.5


class Relation(StrEnum):
    """How two models are related, from nearest to farthest."""

    IDENTICAL = "identical"
    RENUMBERED = "renumbered"
    ROUNDED = "rounded"
    RELATED = "related"
    UNRELATED = "unrelated"


@dataclass(frozen=True)
class Difference:
    """How far apart two models are, over their floating-point tensors.

    `relative` is ‖A − B‖ / ‖A‖ in the Frobenius norm, `cosine` the cosine similarity, `largest`
    the largest absolute difference, `equal` the share of elements that are equal.
    """

    relative: float
    cosine: float
    largest: float
    equal: float


@dataclass(frozen=True)
class Comparison:
    """The result of `verify`.

    `digests` are the plain ones, `canonical` the canonical ones (equal if and only if the models
    are renumberings of one another, bit for bit). Without a need to align (`identical`,
    `renumbered`) and where weights are not finite, `aligned` and `alignment` are None.
    """

    a: Path
    b: Path
    spec: str
    relation: Relation
    digests: tuple[str, str]
    canonical: tuple[str, str]
    as_stored: Difference
    aligned: Difference | None
    moved: Mapping[str, int]
    alignment: Alignment | None
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether the two compute the same function, by the numbering of their units alone."""
        return self.relation in {Relation.IDENTICAL, Relation.RENUMBERED}


def verify(
    a: Path,
    b: Path,
    *,
    choice: Choice | None = None,
    matching: Matching | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Compare two checkpoints up to renumbering.

    First exactly, by canonical digests; if they differ, by aligning the second to the first and
    measuring what is left. A difference of less than one percent is called rounding (a cast to
    bfloat16 leaves 0.2 percent), one of less than half the norm a relative (a fine-tuned copy);
    networks that were trained apart stay farther from one another than that.

    Raises:
        InputError: a checkpoint or the spec cannot be used.
        IncompatibleError: the two do not have the same tensors.

    """
    with open_model(a, choice or Choice()) as one, open_like(b, one) as other:
        digests = one.digest(), other.digest()
        as_stored = difference(one, other, other.read, progress)
        (one_canonical, one_exact), (other_canonical, other_exact) = (
            canonical_digest_of(model, progress) for model in (one, other)
        )
        canonical = one_canonical, other_canonical
        result: Alignment | None = None
        notes = () if one_exact and other_exact else (NOT_EXACT,)
        if digests[0] != digests[1] and canonical[0] != canonical[1]:
            try:
                result = (matching or Matching()).run(one, other, progress)
            except NotFiniteError as problem:
                notes = (*notes, str(problem))
        moved: Mapping[str, int] = {}
        aligned = None
        if result is not None:
            read = rearranged(other.binding, result.element, other.read)
            aligned = difference(one, other, read, progress)
            moved = other.binding.group.moved(result.element)
        return Comparison(
            a=a,
            b=b,
            spec=one.binding.spec.name,
            relation=_relation(digests, canonical, aligned or as_stored),
            digests=digests,
            canonical=canonical,
            as_stored=as_stored,
            aligned=aligned,
            moved=moved,
            alignment=result,
            notes=notes,
        )


def _relation(
    digests: tuple[str, str], canonical: tuple[str, str], nearest: Difference
) -> Relation:
    if digests[0] == digests[1]:
        return Relation.IDENTICAL
    if canonical[0] == canonical[1]:
        return Relation.RENUMBERED
    if nearest.relative < ROUNDING:
        return Relation.ROUNDED
    return Relation.RELATED if nearest.relative < RELATED else Relation.UNRELATED


def difference(one: Model, other: Model, read: Read, progress: Progress | None) -> Difference:
    """Measure how far another model, read through `read`, is from the first one.

    Tensors are read one at a time; sums are accumulated in float64.
    """
    gap = norm = other_norm = product = largest = 0.0
    equal = count = 0
    read_one = counting(one.read, one.header, progress, "comparing")
    for name, info in one.header.items():
        if not (DTYPES[info.dtype].floating and DTYPES[other.header[name].dtype].floating):
            continue
        x, y = (array.astype(np.float64).reshape(-1) for array in (read_one(name), read(name)))
        with np.errstate(invalid="ignore"):
            delta = x - y
        gap += float(delta @ delta)
        norm += float(x @ x)
        other_norm += float(y @ y)
        product += float(x @ y)
        largest = max(largest, float(np.max(np.abs(delta), initial=0.0)))
        equal += int(np.count_nonzero(x == y))
        count += x.size
    scale = math.sqrt(norm * other_norm)
    return Difference(
        relative=math.sqrt(gap / norm) if norm else math.sqrt(gap),
        cosine=product / scale if scale else 0.0,
        largest=largest,
        equal=equal / count if count else 1.0,
    )
