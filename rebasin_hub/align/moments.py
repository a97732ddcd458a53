"""Features of two models as terms of a problem: matching them is matching blocks of weights.

The similarities S of the features of A (rows) with those of B (columns) are a block whose columns
are numbered as the features are. Renumbered by p, its inner product with the identity matrix is
the sum of S[i, p[i]]: what a matching of features maximizes, for all kinds of permutations.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.backend import Array, Backend
from rebasin_hub.align.evidence import Evidence, Features
from rebasin_hub.align.method import Models, Options
from rebasin_hub.align.problem import Problem, Term
from rebasin_hub.align.state import State
from rebasin_hub.align.watch import Watch
from rebasin_hub.bind.axes import Atom, Block, BoundAxis, BoundTensor, Segment
from rebasin_hub.errors import InputError
from rebasin_hub.permute import Element, SymmetryGroup

__all__ = [
    "FeatureTerms",
    "Measured",
    "Similarity",
    "beside",
    "correlations",
    "evidence_in",
    "feature_terms",
    "inner_products",
    "numbering_block",
]

Similarity = Callable[[Features, float], NDArray[np.float64]]
"""From features and the floor to (n, n): A's features as rows, B's as columns."""


@dataclass(frozen=True, eq=False)
class FeatureTerms:
    """Terms of features, one for each numbering, with B's block for each.

    units: features that are compared, over all places: the sum of the terms over this is a mean.
    seen: the permutations that number features.
    idle: permutations of which some unit shows nothing at any place, in either model.
    """

    terms: tuple[Term, ...]
    b: tuple[Array, ...]
    units: int
    seen: frozenset[str]
    idle: frozenset[str]

    def scaled(self, factor: float) -> FeatureTerms:
        """Return the terms with their values times a factor."""
        terms = tuple(replace(t, a=t.a * factor, scale=t.scale * factor) for t in self.terms)
        return replace(self, terms=terms)


def correlations(features: Features, floor: float) -> NDArray[np.float64]:
    """Return Pearson's correlations, zero for features that do not vary.

    A deviation below `floor` times the root mean square of all counts as none.
    """
    inverse_a, inverse_b = (
        _inverse_deviations(variance, floor)
        for variance in (features.variance_a, features.variance_b)
    )
    return np.asarray(features.cross * inverse_a[:, None] * inverse_b[None, :])


def inner_products(features: Features, floor: float) -> NDArray[np.float64]:  # noqa: ARG001
    """Return the means of the features' products."""
    return np.asarray(features.cross + np.outer(features.mean_a, features.mean_b))


def _inverse_deviations(variance: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    deviation = np.sqrt(np.maximum(variance, 0.0))
    least = floor * np.sqrt(np.mean(np.square(deviation))) if deviation.size else 0.0
    alive = deviation > least
    return np.where(alive, 1.0 / np.where(alive, deviation, 1.0), 0.0)


def feature_terms(
    group: SymmetryGroup,
    backend: Backend,
    features: Sequence[Features],
    similarity: Similarity,
    floor: float,
) -> FeatureTerms:
    """Return the terms whose sum is the similarity of matched features, over all places.

    Places that are numbered alike, such as those along a residual stream, make one term: the sum
    of their similarities.
    """
    sums: dict[object, NDArray[np.float64]] = {}
    atoms: dict[object, tuple[Atom, ...]] = {}
    for place in features:
        whole = similarity(place, floor)
        for segment in place.axis.segments:
            if not any(atom.permutation for atom in segment.atoms):
                continue
            positions = segment.positions.reshape(-1)
            part = whole[np.ix_(positions, positions)]
            key = tuple((atom.permutation, atom.size) for atom in segment.atoms)
            sums[key] = sums[key] + part if key in sums else part
            atoms.setdefault(key, segment.atoms)
    blocks = {key: numbering_block(group, own) for key, own in atoms.items()}
    shapes = {key: (-1, *blocks[key].shape[1:]) for key in sums}
    units = sum(
        segment.positions.size
        for place in features
        for segment in place.axis.segments
        if any(atom.permutation for atom in segment.atoms)
    )
    return FeatureTerms(
        tuple(
            Term(
                blocks[key],
                backend.asarray(np.eye(len(total), dtype=backend.widest).reshape(shapes[key])),
                float(np.sqrt(len(total)) * np.linalg.norm(total)),
            )
            for key, total in sums.items()
        ),
        tuple(
            backend.asarray(total.astype(backend.widest, copy=False).reshape(shapes[key]))
            for key, total in sums.items()
        ),
        units,
        frozenset(a.permutation for own in atoms.values() for a in own if a.permutation),
        _idle(sums, atoms),
    )


def _idle(
    sums: dict[object, NDArray[np.float64]], atoms: dict[object, tuple[Atom, ...]]
) -> frozenset[str]:
    shown: dict[str, bool] = {}
    for key, total in sums.items():
        live = bool(total.any(axis=1).all() and total.any(axis=0).all())
        for atom in atoms[key]:
            if atom.permutation is not None:
                shown[atom.permutation] = shown.get(atom.permutation, False) or live
    return frozenset(name for name, live in shown.items() if not live)


def numbering_block(group: SymmetryGroup, atoms: tuple[Atom, ...]) -> Block:
    """Return the block of a matrix: rows that stay, and columns that are numbered by atoms."""
    shape = tuple(atom.size for atom in atoms)
    length = int(np.prod(shape, dtype=np.int64))
    rows = BoundAxis(length, (Segment((Atom("feature", length),), np.arange(length)),))
    columns = BoundAxis(length, (Segment(atoms, np.arange(length).reshape(shape)),))
    names = np.empty((), dtype=object)
    names[()] = "features"
    parents = {name: f.parent for name, f in group.factors.items() if f.parent is not None}
    return BoundTensor("features", names, (), (rows, columns), False, parents).blocks[0]


def beside(state: State, extra: FeatureTerms) -> State:
    """Return a state of the weights and the features together, at the identity.

    Args:
        state: of the weights, at the identity; it is not changed.
        extra: the features' terms, as they should count beside the weights.

    """
    problem = state.problem
    joint = Problem(
        problem.group,
        problem.backend,
        (*problem.terms, *extra.terms),
        problem.constant,
        problem.norm_a,
        problem.norm_b,
    )
    return State(joint, [*state.b, *extra.b])


def evidence_in(options: Options) -> tuple[Evidence, Models]:
    """Return what a method needs that looks at the network.

    Raises:
        InputError: it is not there.

    """
    if options.evidence is None or options.models is None:
        raise InputError(
            "this method looks at what the network computes, and there is no evidence of it; give "
            "`evidence` to `align`"
        )
    return options.evidence, options.models


class Measured(Watch):
    """A watch whose progress is told in another measure: value times `factor` plus `offset`."""

    def __init__(self, watch: Watch, factor: float, offset: float = 0.0) -> None:
        super().__init__()
        self._watch, self._factor, self._offset = watch, factor, offset

    @property
    def limited(self) -> bool:
        """Whether there is a time limit."""
        return self._watch.limited

    @property
    def over(self) -> bool:
        """Whether the time is up."""
        return self._watch.over

    def keep(self, element: Element) -> None:
        """Remember an element as the best so far."""
        self._watch.keep(element)

    def report(
        self, step: int, value: float, *, restart: int = 0, unit: str = "sweep", of: int = 0
    ) -> None:
        """Tell of a finished step."""
        told = value * self._factor + self._offset
        self._watch.report(step, told, restart=restart, unit=unit, of=of)
