"""Weight matching: coordinate descent over the families of a group.

Ainsworth, Hayase and Srinivasa, "Git Re-Basin" (arXiv:2209.04836), section 3.2, algorithm 1,
generalized from permutations to families of dependent ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rebasin_hub.align.family import Family, View, families, operand
from rebasin_hub.align.method import Found, Options
from rebasin_hub.align.nested import solve_family
from rebasin_hub.align.similarity import Operand
from rebasin_hub.align.starts import starts
from rebasin_hub.align.state import State
from rebasin_hub.align.swaps import swap_steps
from rebasin_hub.align.totals import Totals
from rebasin_hub.align.watch import Watch
from rebasin_hub.permute import Index

__all__ = ["Descent", "descend", "match_weights", "update"]


@dataclass(frozen=True, eq=False)
class Descent:
    """One descent: where it ended, the objective at its start and after each sweep."""

    element: dict[str, Index]
    history: tuple[float, ...]
    converged: bool


def match_weights(state: State, options: Options) -> Found:
    """Descend from several starts and keep the best; see `starts` for which.

    The law: the objective is at least that of the first start, which is `options.start` or no
    worse than the identity.
    """
    all_families = families(state.problem)
    found: list[Descent] = []
    begin = starts(state, all_families, options.start, np.random.default_rng(options.seed))
    for restart, element in zip(range(options.restarts), begin, strict=False):
        if found and options.watch.over:
            break
        state.jump(element)
        rng = np.random.default_rng((options.seed, restart))
        found.append(
            descend(
                state,
                all_families,
                rng,
                max_sweeps=options.max_sweeps,
                watch=options.watch,
                restart=restart,
            )
        )
        if found[-1].history[-1] >= max(descent.history[-1] for descent in found):
            options.watch.keep(found[-1].element)
    best = max(found, key=lambda descent: descent.history[-1])
    return Found(best.element, best.history, tuple(d.history[-1] for d in found), best.converged)


def descend(
    state: State,
    all_families: Sequence[Family],
    rng: np.random.Generator,
    *,
    max_sweeps: int,
    watch: Watch | None = None,
    restart: int = 0,
) -> Descent:
    """Improve one family after the other until nothing can be gained.

    A sweep goes through the families in random order, the first one through those that touch
    fixed axes before the others. Each update uses the newest others; a family whose neighbours
    have not changed since its last update is passed over. The objective never falls.
    """
    neighbours = _neighbours(all_families)
    stale = set(range(len(all_families)))
    begin, gains = state.objective, [state.gained]
    while stale and len(gains) <= max_sweeps and not (watch is not None and watch.over):
        for number in _order(all_families, rng, first=len(gains) == 1):
            if number in stale:
                stale.discard(number)
                if update(state, all_families[number]):
                    stale |= neighbours[number]
        gains.append(state.gained)
        if watch is not None:
            watch.report(len(gains) - 2, begin + (gains[-1] - gains[0]), restart=restart)
    # Reckoned back from the end, which is exact, the history still never falls.
    end = state.objective
    history = tuple(end - (gains[-1] - gained) for gained in gains)
    return Descent(dict(state.element), history, not stale)


def update(state: State, family: Family) -> bool:
    """Renumber one family for the better, if that is possible, and tell whether it was.

    Where a permutation stands twice on one block, the best numbering of the linearized objective
    may be worse in truth. Then each place is tried alone, and then swaps of two units.
    """
    if Totals.fit(family):
        return state.improve(family, state.matched(family))
    if state.improve(family, _solved(state, family, family.views)):
        return True
    if family.linear:
        return False
    for views in _single_places(family):
        if state.improve(family, _solved(state, family, views)):
            return True
    return any(state.improve(family, step) for step in swap_steps(state, family))


def _solved(state: State, family: Family, views: Sequence[View]) -> dict[str, Index]:
    backend = state.problem.backend
    return solve_family(
        backend,
        family.group,
        [
            Operand(
                view,
                operand(backend, state.problem.terms[view.term].a, view),
                operand(backend, state.block(view.term), view),
            )
            for view in views
        ],
    )


def _single_places(family: Family) -> list[tuple[View, ...]]:
    """Return the family's views with one place a block, in as many ways as a block has places."""
    by_term = [[view for view in family.views if view.term == term] for term in family.terms]
    most = max(len(views) for views in by_term)
    return [tuple(views[way % len(views)] for views in by_term) for way in range(most)]


def _order(families: Sequence[Family], rng: np.random.Generator, *, first: bool) -> list[int]:
    shuffled: list[int] = rng.permutation(len(families)).tolist()
    return sorted(shuffled, key=lambda n: first and not families[n].touches_fixed)


def _neighbours(families: Sequence[Family]) -> list[set[int]]:
    """Return for each family those that its own change makes worth another look."""
    terms = [set(family.terms) for family in families]
    return [
        {
            other
            for other, theirs in enumerate(terms)
            if theirs & own and (other != number or not families[number].linear)
        }
        for number, own in enumerate(terms)
    ]
