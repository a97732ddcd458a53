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
from rebasin_hub.formats.raw import bytes_of
from rebasin_hub.pipeline.matching import WEIGHT_MATCHING, Matching
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, Model, open_like, open_model
from rebasin_hub.pipeline.ordering import NOT_EXACT, canonical_digest_of
from rebasin_hub.pipeline.progress import Progress, counting
from rebasin_hub.rearrange import Array, Read, rearranged
from rebasin_hub.tensors import DTYPES

__all__ = ["Comparison", "Difference", "Relation", "verify"]

ROUNDING = 1e-2
RELATED = 0.5
STRETCH = 1 << 20
"""Elements that are compared, and widened to float64, at a time."""


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
    the cosine similarity, `largest` the largest absolute difference; NaN where weights are NaN.
    Infinite values at the same place in both have no distance, and count in no norm; others are
    infinitely far apart, and `infinite` names their tensors. Over all tensors: `equal` is the share
    of elements that are equal, bit for bit where the types are. `other` names the tensors of
    integers and booleans that differ.
    """

    relative: float
    cosine: float
    largest: float
    equal: float
    other: tuple[str, ...]
    infinite: tuple[str, ...] = ()


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
    if name not in model.header:
        return True
    one, other = (bytes_of(model.read(n), model.header[n].dtype) for n in (name, first))
    return one == other


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
        notes=(*exact.notes, *map(_infinitely_far, aligned.infinite)),
    )


def _infinitely_far(name: str) -> str:
    return (
        f"{name}: holds infinite values that are not the same in both models, so that their "
        "distance is infinite"
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

    def add(self, x: NDArray[np.float64], y: NDArray[np.float64]) -> bool:
        """Add a tensor; tell whether its infinite values are the same in both models."""
        same = True
        with np.errstate(invalid="ignore", over="ignore"):
            delta = x - y
            if not math.isfinite(delta @ delta):
                infinite = np.isinf(x) | np.isinf(y)
                alike = x == y
                same = bool(alike[infinite].all())
                delta[infinite & alike] = 0
                x, y = (np.where(infinite, 0, part) for part in (x, y))
            self.gap += float(delta @ delta)
            self.norm += float(x @ x)
            self.other_norm += float(y @ y)
            self.product += float(x @ y)
            # Unlike `max`, this keeps NaN.
            self.largest = float(np.maximum(self.largest, np.max(np.abs(delta), initial=0.0)))
        return same


def difference(one: Model, other: Model, read: Read, progress: Progress | None) -> Difference:
    """Measure how far another model, read through `read`, is from the first one.

    Tensors are read one at a time, and compared in stretches; sums are accumulated in float64.
    """
    sums, unequal, infinite = _Sums(), [], []
    read_one = counting(one.read, one.header, progress, "comparing")
    for name, info in one.header.items():
        kinds = (info.dtype, other.header[name].dtype)
        floating = all(DTYPES[dtype].floating for dtype in kinds)
        # What was read is let go of here, before the next is read.
        same, alike = _compared(read_one(name), read(name), sums if floating else None)
        sums.equal += same
        sums.count += info.size
        if not alike:
            infinite.append(name)
        if not floating and same < info.size:
            unequal.append(name)
    scale = math.sqrt(sums.norm * sums.other_norm)
    return Difference(
        relative=math.sqrt(sums.gap / sums.norm) if sums.norm else math.sqrt(sums.gap),
        cosine=sums.product / scale if scale else 0.0,
        largest=sums.largest,
        equal=sums.equal / sums.count if sums.count else 1.0,
        other=tuple(unequal),
        infinite=tuple(infinite),
    )


def _compared(x: Array, y: Array, sums: _Sums | None) -> tuple[int, bool]:
    """Return how many elements are equal, and whether the infinite ones are; add to sums if any."""
    x, y = x.reshape(-1), y.reshape(-1)
    same, alike = 0, True
    for start in range(0, x.size, STRETCH):
        part = slice(start, start + STRETCH)
        same += _equal_elements(x[part], y[part])
        if sums is not None:
            alike &= sums.add(_numbers(x[part]), _numbers(y[part]))
    return same, alike


def _equal_elements(x: Array, y: Array) -> int:
    if x.dtype == y.dtype:
        bits = f"u{x.dtype.itemsize}"
        return int(np.count_nonzero(x.view(bits) == y.view(bits)))
    return int(np.count_nonzero(x == y))


def _numbers(array: Array) -> NDArray[np.float64]:
    """Return a vector's values; a complex number is two of them."""
    parts = array.view(np.float32) if array.dtype == np.complex64 else array
    return parts.astype(np.float64)
