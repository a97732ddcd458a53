"""Bring many models into one numbering: strategies of one signature, in one table.

Each finds one element of the group for each model; what is made of the renumbered models, a mean
say, is not their affair. All of them leave the first model as it is numbered, and for two models
all are the one alignment of the second to the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.result import Alignment
from rebasin_hub.bind import Binding
from rebasin_hub.errors import InputError
from rebasin_hub.permute import Index
from rebasin_hub.rearrange import Array, Read, rearranged
from rebasin_hub.tensors import DTYPES

__all__ = ["STRATEGIES", "Aligner", "Joint", "Step", "Strategy", "align_many", "spread"]

MAX_ROUNDS = 100
GAIN = 1e-9
"""Share of the norms that an objective must rise by for a model to count as moved."""


class Aligner(Protocol):
    """Aligns one model to another; see `align`."""

    def __call__(
        self, read_reference: Read, read_model: Read, *, first: bool, what: str
    ) -> Alignment:
        """Return the element that brings the model to the reference, and how it was found.

        Args:
            read_reference: reads the reference.
            read_model: reads the model.
            first: whether to search from several starts; otherwise only from the identity.
            what: which models these are, for people.

        The law: the objective is at least that of the identity.
        """


@dataclass(frozen=True, eq=False)
class Step:
    """One alignment: of `models`, as one, to the mean of `references`; both count from 0."""

    models: tuple[int, ...]
    references: tuple[int, ...]
    alignment: Alignment


@dataclass(frozen=True, eq=False)
class Joint:
    """One element for each model, the first one's the identity, and how they were found.

    `distances` is what `spread` says once all are aligned to the first one, and after each round
    (merge-many alone); `converged` whether the last round moved no model.
    """

    strategy: str
    elements: tuple[dict[str, Index], ...]
    steps: tuple[Step, ...]
    distances: tuple[float, ...] = ()
    converged: bool = True


@dataclass(eq=False)
class _Work:
    """Models that are being renumbered: each one's element so far."""

    binding: Binding
    reads: Sequence[Read]
    align: Aligner
    rng: np.random.Generator
    elements: list[dict[str, Index]] = field(init=False)
    steps: list[Step] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.elements = [self.binding.group.identity() for _ in self.reads]

    def read(self, number: int) -> Read:
        """Return a reader of a model in its present numbering."""
        return rearranged(self.binding, self.elements[number], self.reads[number])

    def mean(self, numbers: Sequence[int]) -> Read:
        """Return a reader of the mean of models in their present numberings."""
        reads = [self.read(number) for number in numbers]
        return lambda name: _mean([read(name) for read in reads])

    def spread(self) -> float:
        """Return how far the models are from their mean, as they are numbered now."""
        return spread(self.binding, [self.read(number) for number in range(len(self.reads))])

    def step(self, models: Sequence[int], references: Sequence[int], *, first: bool = True) -> bool:
        """Align models, as one, to the mean of others; tell whether that was a gain."""
        what = f"{_named(models)} to {_named(references)}"
        found = self.align(self.mean(references), self.mean(models), first=first, what=what)
        self.steps.append(Step(tuple(models), tuple(references), found))
        if found.objective - found.start_objective <= GAIN * found.norm_a * found.norm_b:
            return False
        for number in models:
            self.elements[number] = self.binding.group.compose(found.element, self.elements[number])
        return True


Strategy: TypeAlias = Callable[[_Work], tuple[tuple[float, ...], bool]]
"""Renumbers the models of the work; returns distances, and whether it came to an end."""


def align_many(
    binding: Binding,
    reads: Sequence[Read],
    align: Aligner,
    *,
    strategy: str = "reference",
    seed: int = 0,
) -> Joint:
    """Find one element for each of many models so that all are close to one another.

    Args:
        binding: the binding of all models, which have the same names and shapes.
        reads: reads a tensor of each model; two or more.
        align: how one model, or the mean of several, is aligned to another.
        strategy: a key of `STRATEGIES`.
        seed: of the order in which models have their turn; the same seed gives the same result.

    Beside what one alignment takes, a tensor of each model is in memory; models are read again
    for every alignment. The law: from round to round of merge-many, `spread` never rises.

    Raises:
        InputError: the strategy is unknown, or there are fewer than two models.
        NotFiniteError: tensors that count hold NaN or infinity.

    """
    if strategy not in STRATEGIES:
        raise InputError(f"strategy '{strategy}' is none of {', '.join(STRATEGIES)}; choose one")
    if len(reads) < 2:  # noqa: PLR2004
        raise InputError("aligning many takes two models or more")
    work = _Work(binding, reads, align, np.random.default_rng(seed))
    chosen = STRATEGIES[strategy if len(reads) > 2 else "reference"]  # noqa: PLR2004
    distances, converged = chosen(work)
    back = binding.group.invert(work.elements[0])
    elements = (binding.group.compose(back, element) for element in work.elements)
    return Joint(strategy, tuple(elements), tuple(work.steps), distances, converged)


def _to_reference(work: _Work) -> tuple[tuple[float, ...], bool]:
    """Align each model to the first one."""
    for number in range(1, len(work.reads)):
        work.step([number], [0])
    return (), True


def _hierarchical(work: _Work) -> tuple[tuple[float, ...], bool]:
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


def _merge_many(work: _Work) -> tuple[tuple[float, ...], bool]:
    """In random order, align each model to the mean of the others, until none moves any more.

    Source: Git Re-Basin (arXiv:2209.04836), algorithm 3; but that it starts where `reference`
    ends, not at the models as they are numbered, and so never ends farther apart. Each step
    raises the sum of the inner products of all pairs, so that the distance to the mean falls.
    """
    _to_reference(work)
    count = len(work.reads)
    distances = [work.spread()]
    for _ in range(MAX_ROUNDS):
        moved = False
        for number in work.rng.permutation(count).tolist():
            others = [other for other in range(count) if other != number]
            moved |= work.step([number], others, first=False)
        distances.append(work.spread())
        if not moved:
            return tuple(distances), True
    return tuple(distances), False


STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {"reference": _to_reference, "hierarchical": _hierarchical, "merge-many": _merge_many}
)


def spread(binding: Binding, reads: Sequence[Read]) -> float:
    """Return how far models are from their mean: the root of the mean squared Frobenius distance.

    Floats that are no running statistics count, as in `align`; sums are made in float64.
    """
    squares = []
    for name in _counting(binding):
        arrays = [read(name) for read in reads]
        mean = _mean(arrays)
        squares += [_squared_distance(array, mean) for array in arrays]
    return math.sqrt(math.fsum(squares) / len(reads))


def _counting(binding: Binding) -> Iterator[str]:
    for tensor in binding.tensors:
        for name in tensor.names.flat:
            if not tensor.statistic and DTYPES[binding.header[str(name)].dtype].floating:
                yield str(name)


def _squared_distance(array: Array, mean: NDArray[Any]) -> float:
    off = (array.astype(mean.dtype) - mean).reshape(-1)
    return float(np.einsum("i,i->", off, off.conj(), dtype=np.result_type(off, np.float64)).real)


def _mean(arrays: Sequence[Array]) -> NDArray[Any]:
    """Return the mean of arrays of one shape, in float32 or wider; a single array is itself.

    As a sum over differences, so that equal arrays give themselves back.
    """
    first = arrays[0]
    if len(arrays) == 1 or first.dtype.kind in "biu":
        return first
    kind = np.result_type(*(_wide(array.dtype) for array in arrays))
    base = first.astype(kind)
    shift = sum((array.astype(kind) - base for array in arrays[1:]), np.zeros_like(base))
    mean: NDArray[Any] = base + shift / len(arrays)
    return mean


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    known = dtype in {np.dtype(np.float64), np.dtype(np.complex64), np.dtype(np.complex128)}
    return dtype if known else np.dtype(np.float32)


def _named(numbers: Sequence[int]) -> str:
    shown = ", ".join(str(number + 1) for number in numbers)
    return f"model {shown}" if len(numbers) == 1 else f"the mean of models {shown}"
