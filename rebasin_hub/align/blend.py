"""Weights and activations together: coordinate descent on a blend of both objectives.

Ainsworth, Hayase and Srinivasa, "Git Re-Basin" (arXiv:2209.04836), sections 3.1 and 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from rebasin_hub.align.activation import left_to_weights
from rebasin_hub.align.method import Found, Options
from rebasin_hub.align.moments import (
    Measured,
    beside,
    correlations,
    evidence_in,
    feature_terms,
)
from rebasin_hub.align.result import Goal
from rebasin_hub.align.state import State
from rebasin_hub.align.weight import match_weights
from rebasin_hub.errors import InputError

__all__ = ["Blend", "match_blend"]


@dataclass(frozen=True)
class Blend:
    """Settings of the blend.

    share: of the activations, between 0 and 1; the weights have the rest.
    samples, floor: as of `Activation`.
    """

    share: float = 0.5
    samples: int = 5000
    floor: float = 1e-4


def match_blend(state: State, options: Options) -> Found:
    """Maximize (1 − share) · cosine of the weights + share · mean correlation of matched units.

    Both measures are 1 for two copies of one model. The search is that of weight matching, from
    the same starts, with the features as further terms.

    The law: the goal is no lower than at the start.
    """
    settings: Blend = options.settings
    share = settings.share
    if not 0 < share < 1:
        raise InputError(
            f"blend:share is {share}; expected above 0 and below 1 (the methods 'weight' and "
            "'activation' look at one alone)"
        )
    evidence, models = evidence_in(options)
    features = evidence.features(
        models.read_a, models.read_b, samples=settings.samples, seed=options.seed
    )
    problem = state.problem
    seen = feature_terms(problem.group, problem.backend, features, correlations, settings.floor)
    norms = problem.norm_a * problem.norm_b or 1.0
    joint = beside(state, seen.scaled(share / (1 - share) * norms / max(1, seen.units)))
    measure = (1 - share) / norms
    identity = joint.objective * measure
    start = identity
    if options.start is not None:
        joint.jump(options.start)
        start = joint.objective * measure
    options.watch.keep(joint.element)
    found = match_weights(joint, replace(options, watch=Measured(options.watch, measure)))
    return Found(
        found.element,
        tuple(value * measure for value in found.history),
        tuple(value * measure for value in found.restarts),
        found.converged,
        Goal(
            f"{1 - share:g} · cosine of weights + {share:g} · correlation of activations",
            identity,
            start,
            max(value * measure for value in found.restarts),
            larger_is_better=True,
        ),
        left_to_weights(problem, seen),
    )
