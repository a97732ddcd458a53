"""Activation matching: units that react to the same inputs are one another's partners.

Ainsworth, Hayase and Srinivasa, "Git Re-Basin" (arXiv:2209.04836), section 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rebasin_hub.align.family import families
from rebasin_hub.align.method import Found, Options
from rebasin_hub.align.moments import (
    FeatureTerms,
    Measured,
    Similarity,
    beside,
    correlations,
    evidence_in,
    feature_terms,
    inner_products,
)
from rebasin_hub.align.problem import Problem
from rebasin_hub.align.result import Goal
from rebasin_hub.align.state import State
from rebasin_hub.align.weight import Descent, descend, match_weights
from rebasin_hub.errors import InputError
from rebasin_hub.permute import Element
from rebasin_hub.spec.check import nearest

__all__ = ["Activation", "left_to_weights", "match_activations"]

SIMILARITIES: Mapping[str, tuple[Similarity, str]] = {
    "correlation": (correlations, "mean correlation of matched units"),
    "inner": (inner_products, "mean product of matched units"),
}

WEIGHTS = 1e-6
"""How much the weights count beside the activations where these leave something open: little
enough to decide among equals only."""

SHOWN = 5


@dataclass(frozen=True)
class Activation:
    """Settings of activation matching.

    similarity: `correlation`, or `inner` for the mean of the products.
    samples: how many are looked at, at most.
    floor: units whose deviation is below this share of their layer's are dead; they correlate
        with none.
    """

    similarity: str = "correlation"
    samples: int = 5000
    floor: float = 1e-4


def match_activations(state: State, options: Options) -> Found:
    """Find the element whose matched units have the most similar activations.

    The goal is the mean of the similarities over all places where units are seen. Where each
    permutation stands on its own the result is the best there is, whatever the start. Permutations
    without features, and units that never react, are matched by their weights, with the activations
    deciding wherever they can.

    The laws: the goal is no lower than at the start; the result does not depend on B's numbering,
    as long as no two matches are equally good.
    """
    settings: Activation = options.settings
    if settings.similarity not in SIMILARITIES:
        known = ", ".join(SIMILARITIES)
        raise InputError(
            f"activation:similarity is '{settings.similarity}'"
            f"{nearest(settings.similarity, SIMILARITIES)}; expected one of {known}"
        )
    similarity, name = SIMILARITIES[settings.similarity]
    evidence, models = evidence_in(options)
    features = evidence.features(
        models.read_a, models.read_b, samples=settings.samples, seed=options.seed
    )
    problem = state.problem
    seen = feature_terms(problem.group, problem.backend, features, similarity, settings.floor)
    if not seen.units:
        found = match_weights(state, options)
        return replace(found, notes=(*found.notes, *left_to_weights(state.problem, seen)))
    matching = State(
        Problem(problem.group, problem.backend, seen.terms, 0.0, 1.0, 1.0), list(seen.b)
    )
    identity = matching.objective
    options.watch.keep(options.start or problem.group.identity())
    matching.jump(options.start or problem.group.identity())
    descent = _descended(matching, options, seen.units)
    options.watch.keep(descent.element)
    element = _completed(state, matching, descent.element, seen, options)
    matching.jump(element)
    if matching.objective < descent.history[0]:  # the weights have cost a little
        element = descent.element
        matching.jump(element)
    options.watch.keep(element)
    end = matching.objective / seen.units
    start = descent.history[0] / seen.units
    return Found(
        element,
        (*(value / seen.units for value in descent.history[:-1]), end),
        (end,),
        descent.converged,
        Goal(name, identity / seen.units, start, end, larger_is_better=True),
        left_to_weights(problem, seen),
    )


def _descended(matching: State, options: Options, units: int) -> Descent:
    return descend(
        matching,
        families(matching.problem),
        np.random.default_rng(options.seed),
        max_sweeps=options.max_sweeps,
        watch=Measured(options.watch, 1 / units),
    )


def _completed(
    state: State, matching: State, element: Element, seen: FeatureTerms, options: Options
) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    """Match what the activations leave open by the weights."""
    norms = state.problem.norm_a * state.problem.norm_b or 1.0
    joint = beside(state, seen.scaled(norms / seen.units / WEIGHTS))
    decided = seen.seen - seen.idle
    left = [f for f in families(joint.problem) if not decided.issuperset(f.group.factors)]
    if not left:
        return dict(matching.element)
    joint.jump(element)
    rng = np.random.default_rng((options.seed, 1))
    return descend(joint, left, rng, max_sweeps=options.max_sweeps, watch=None).element


def left_to_weights(problem: Problem, seen: FeatureTerms) -> tuple[str, ...]:
    """Return the note on permutations without features, if there are any."""
    names = [name for name in problem.group.factors if name not in seen.seen]
    if not names:
        return ()
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    shown = ", ".join(names[:SHOWN])
    return (f"No features are numbered by {shown}{more}: the weights decide there.",)
