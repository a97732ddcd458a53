"""The simplex of three models: how far the loss rises above their own losses inside a triangle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.barrier import Resampled, resampled
from rebasin_hub.pipeline.barrier.measure import Job
from rebasin_hub.pipeline.connect.figures import drawn
from rebasin_hub.pipeline.connect.numberings import Numberings
from rebasin_hub.pipeline.connect.places import Places
from rebasin_hub.pipeline.connect.request import ConnectRequest
from rebasin_hub.record.connect import SimplexRecord, SimplexStrategy
from rebasin_hub.record.model import Intervals

__all__ = [
    "edges_of",
    "has_simplices",
    "measure_simplices",
    "simplex_barrier",
    "simplex_grid",
    "triples",
]

CORNERS = 3
MOST_TRIPLES = 10
"""With more of them, as six models have, only the first three models are measured."""
Floats = NDArray[np.float64]
Weights = tuple[float, float, float]


def has_simplices(request: ConnectRequest) -> bool:
    """Tell whether simplices are measured."""
    return len(request.models) >= CORNERS if request.simplex is None else request.simplex


def triples(count: int) -> list[tuple[int, int, int]]:
    """Return the triples of models that are measured: all of a few models, else the first."""
    every = list(islice(combinations(range(count), 3), MOST_TRIPLES + 1))
    return every if len(every) <= MOST_TRIPLES else every[:1]


def simplex_grid(intervals: int) -> list[Weights]:
    """Return weights of three models on a triangular grid, corners and edges included.

    Weights on an edge are those of a line of as many intervals, bit for bit, so that a line that
    was measured already gives its points.
    """
    steps = np.linspace(0.0, 1.0, intervals + 1).tolist()
    found = []
    for third in range(intervals + 1):
        for second in range(intervals + 1 - third):
            c = steps[third]
            b = steps[second] if second + third < intervals else 1 - c
            a = 1 - b - c if second + third < intervals else 0.0
            found.append((a, b, c))
    return found


def simplex_barrier(weights: Sequence[Weights], losses: Floats) -> tuple[Floats, NDArray[np.int64]]:
    """Return max over the simplex of L(Σ αᵢ·θᵢ) − Σ αᵢ·L(θᵢ), and where it is.

    Args:
        weights: of each point; each corner is among them.
        losses: (…, points) float64.

    Source: Sharma et al. 2024 (arXiv:2404.06498).
    """
    alpha = np.asarray(weights)
    corners = losses[..., [int(np.argmax(alpha[:, corner])) for corner in range(CORNERS)]]
    rises = losses - corners @ alpha.T
    return rises.max(axis=-1), rises.argmax(axis=-1)


def measure_simplices(
    request: ConnectRequest, numberings: Numberings, places: Places
) -> Iterator[SimplexRecord]:
    """Yield the simplex of each triple in each numbering that all models share, by split."""
    weights = simplex_grid(request.resolution)
    for labels, strategy, jobs in _simplices(request, numberings, places):
        scores = places.score(jobs)
        for split in places.measurer.splits:
            here = [score[split] for score in scores]
            rows = [np.stack([getattr(m, key) for m in here]) for key in ("losses", "errors")]
            found = resampled(range(len(weights)), rows, here[0].counts, seed=request.seed)
            yield SimplexRecord(
                models=labels,
                strategy=strategy,
                split=split,
                weights=weights,
                loss=found.means[0].tolist(),
                error=found.means[1].tolist(),
                **_barrier(weights, found),
            )
        places.forget(jobs)


def edges_of(request: ConnectRequest, numberings: Numberings, places: Places) -> set[str]:
    """Return the names of the jobs on the edges of all simplices: points of lines, most likely."""
    return {
        job.name
        for _, _, jobs in _simplices(request, numberings, places)
        for job in jobs
        if len(job.weights) < CORNERS
    }


def _simplices(
    request: ConnectRequest, numberings: Numberings, places: Places
) -> Iterator[tuple[tuple[str, str, str], SimplexStrategy, list[Job]]]:
    """Yield the models of each simplex with its strategy and the jobs of its points."""
    weights = simplex_grid(request.resolution)
    treatment = next(iter(places.measurer.treatments.run))
    for numbers in triples(len(numberings.members)):
        for strategy in request.measured:
            if strategy == "pairwise":  # three models have no one numbering in it
                continue
            elements = numberings.elements(strategy, numbers)
            a, b, c = (numberings.members[number].label for number in numbers)
            stage = f"the simplex of {a}, {b}, {c}, {strategy}"
            jobs = [places.job(numbers, elements, w, treatment, stage) for w in weights]
            yield (a, b, c), strategy, jobs


def _barrier(weights: Sequence[Weights], found: Resampled) -> dict[str, Any]:
    """Return the barrier of a record, and where the loss rises most."""
    with np.errstate(all="ignore"):  # models that overflow have infinite losses
        values, places = simplex_barrier(weights, found.means)
        draws, _ = simplex_barrier(weights, found.draws)
    loss, error = (drawn(float(values[k]), draws[:, k]) for k in (0, 1))
    return {"barrier": Intervals(loss=loss, error=error), "highest": weights[int(places[0])]}
