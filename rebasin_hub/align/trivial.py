"""Methods that look at no weight: what a match has to be better than."""

from __future__ import annotations

import numpy as np

from rebasin_hub.align.method import Found, Options
from rebasin_hub.align.state import State
from rebasin_hub.permute import Element

__all__ = ["keep", "shuffle"]


def keep(state: State, options: Options) -> Found:
    """Stay at the start, the identity by default."""
    return _at(state, options.start or state.problem.group.identity())


def shuffle(state: State, options: Options) -> Found:
    """Draw an element uniformly from the group."""
    return _at(state, state.problem.group.random(np.random.default_rng(options.seed)))


def _at(state: State, element: Element) -> Found:
    state.jump(element)
    return Found(dict(state.element), (state.objective,), (state.objective,), converged=True)
