"""Tell how two checkpoints are related once the numbering of their units is set aside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align import Alignment
from rebasin_hub.errors import NotFiniteError
from rebasin_hub.pipeline.matching import WEIGHT_MATCHING, Matching
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, Model, open_like, open_model
from rebasin_hub.pipeline.ordering import NOT_EXACT, canonical_digest_of
from rebasin_hub.pipeline.progress import Progress, counting
from rebasin_hub.rearrange import Array, Read, rearranged
from rebasin_hub.tensors import DTYPES

__all__ = ["Comparison", "Difference", "Relation", "verify"]

ROUNDING = 1e-2
RELATED = 0.5


class Relation(StrEnum):
    """How two models are related, from nearest to farthest; or that it cannot be told."""

    IDENTICAL = "identical"
    RENUMBERED = "renumbered"
    ROUNDED = "rounded"
    RELATED = "related"
    UNRELATED = "unrelated"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Difference:
    """How far apart two models are.

    Over their floating-point tensors: `relative` is ‖A − B‖ / ‖A‖ in the Frobenius norm, `cosine`
    the cosine similarity, `largest` the largest absolute difference; NaN where weights are not
    finite. Over all tensors: `equal` is the share of elements that are equal, bit for bit where
    the types are. `other` names the tensors of integers and booleans that differ.
    """

    relative: float
    cosine: float
    largest: float
    equal: float
    other: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The result of `verify`.

    `digests` are the plain ones, `canonical` the canonical ones: equal if and only if the models
    are renumberings of one another, bit for bit; None where the plain ones are equal already.
    `aligned`, `moved` and `alignment` are those of the second model aligned to the first, where
    that was needed and possible.
    """

    a: Path
    b: Path
    spec: str
    relation: Relation
    digests: tuple[str, str]
    canonical: tuple[str, str] | None
    as_stored: Difference
    aligned: Difference | None = None
    moved: Mapping[str, int] = field(default_factory=dict)
    alignment: Alignment | None = None
    notes: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether the two compute the same function, by the numbering of their units alone."""
        return self.relation in {Relation.IDENTICAL, Relation.RENUMBERED}


def verify(
    a: Path,
    b: Path,
    *,
    choice: Choice = AUTOMATIC,
    matching: Matching = WEIGHT_MATCHING,
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
    matching.check()
    with open_model(a, choice) as one, open_like(b, one) as other:
        exact = _exactly(a, b, one, other, progress)
        if exact.relation is not Relation.UNKNOWN:
            return exact
        return _nearly(exact, one, other, matching, progress)


def _exactly(a: Path, b: Path, one: Model, other: Model, progress: Progress | None) -> Comparison:
    """Compare by digests; the relation is unknown where they differ."""
    skip = _tied_in_both(one, other)
    digests = one.digest(skip=skip), other.digest(skip=skip)
    as_stored = difference(one, other, other.read, progress)
    same = Comparison(
        a=a,
        b=b,
        spec=one.binding.spec.name,
        relation=Relation.IDENTICAL,
        digests=digests,
        canonical=None,
        as_stored=as_stored,
        notes=(*one.inferred, *other.borrowed),
    )
    if digests[0] == digests[1]:
        return same
    (mine, mine_exact), (theirs, theirs_exact) = (
        canonical_digest_of(model, progress, skip) for model in (one, other)
    )
    return replace(
        same,
        relation=Relation.RENUMBERED if mine == theirs else Relation.UNKNOWN,
        canonical=(mine, theirs),
        notes=same.notes if mine_exact and theirs_exact else (*same.notes, NOT_EXACT),
    )


def _tied_in_both(one: Model, other: Model) -> set[str]:
    """Return the names that share another tensor's values in both models.

    A torch file says so; in a file that stores a tensor twice the values do.
    """
    tied = {**one.checkpoint.tied, **other.checkpoint.tied}
    return {
        name
        for name, first in tied.items()
        if all(_shares(model, name, first) for model in (one, other))
    }


def _shares(model: Model, name: str, first: str) -> bool:
    if name in model.checkpoint.tied or name in model.elsewhere:
        return True
    return name not in model.header or model.read(name).tobytes() == model.read(first).tobytes()


def _nearly(
    exact: Comparison, one: Model, other: Model, matching: Matching, progress: Progress | None
) -> Comparison:
    """Align the second model to the first, and measure what is left."""
    try:
        result = matching.run(one, other, progress)
    except NotFiniteError as problem:
        return replace(exact, notes=(*exact.notes, str(problem)))
    read = rearranged(other.binding, result.element, other.read)
    aligned = difference(one, other, read, progress)
    return replace(
        exact,
        relation=_relation(aligned),
        aligned=aligned,
        moved=other.binding.group.moved(result.element),
        alignment=result,
    )


def _relation(aligned: Difference) -> Relation:
    if aligned.relative < ROUNDING and not aligned.other:
        return Relation.ROUNDED
    return Relation.RELATED if aligned.relative < RELATED else Relation.UNRELATED


@dataclass
class _Sums:
    """What a `Difference` is made of, summed over tensors in float64."""

    gap: float = 0.0
    norm: float = 0.0
    other_norm: float = 0.0
    product: float = 0.0
    largest: float = 0.0
    equal: int = 0
    count: int = 0

    def add(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            delta = x - y
            self.gap += float(delta @ delta)
            self.norm += float(x @ x)
            self.other_norm += float(y @ y)
            self.product += float(x @ y)
            # Unlike `max`, this keeps NaN.
            self.largest = float(np.maximum(self.largest, np.max(np.abs(delta), initial=0.0)))


def difference(one: Model, other: Model, read: Read, progress: Progress | None) -> Difference:
    """Measure how far another model, read through `read`, is from the first one.

    Tensors are read one at a time; sums are accumulated in float64.
    """
    sums, unequal = _Sums(), []
    read_one = counting(one.read, one.header, progress, "comparing")
    for name, info in one.header.items():
        x, y = read_one(name), read(name)
        same = _equal_elements(x, y)
        sums.equal += same
        sums.count += x.size
        if DTYPES[info.dtype].floating and DTYPES[other.header[name].dtype].floating:
            sums.add(_numbers(x), _numbers(y))
        elif same < x.size:
            unequal.append(name)
    scale = math.sqrt(sums.norm * sums.other_norm)
    return Difference(
        relative=math.sqrt(sums.gap / sums.norm) if sums.norm else math.sqrt(sums.gap),
        cosine=sums.product / scale if scale else 0.0,
        largest=sums.largest,
        equal=sums.equal / sums.count if sums.count else 1.0,
        other=tuple(unequal),
    )


def _equal_elements(x: Array, y: Array) -> int:
    if x.dtype == y.dtype:
        bits = f"u{x.dtype.itemsize}"
        return int(np.count_nonzero(x.view(bits) == y.view(bits)))
    return int(np.count_nonzero(x == y))


def _numbers(array: Array) -> NDArray[np.float64]:
    """Return the values as a vector; a complex number is two of them."""
    flat = array.reshape(-1)
    return (flat.view(np.float32) if flat.dtype == np.complex64 else flat).astype(np.float64)
