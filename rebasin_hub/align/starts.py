"""Where descents start: features of units that need no numbering, the identity, random elements.

From the identity alone, coordinate descent recovers a planted renumbering of a residual network
without fixed ends in hardly any case, because nothing that it compares at first is comparable.
The sorted weights of a unit are: they do not depend on how its inputs are numbered.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import numpy as np

from rebasin_hub.align.family import Family, View, operand
from rebasin_hub.align.later import after
from rebasin_hub.align.nested import solve_family
from rebasin_hub.align.problem import Problem
from rebasin_hub.align.similarity import Operand
from rebasin_hub.align.state import State
from rebasin_hub.permute import Element, Index

__all__ = ["outward", "starts"]


def starts(
    state: State,
    families: Sequence[Family],
    start: Element | None,
    rng: np.random.Generator,
) -> Iterator[Element]:
    """Yield elements to start from, the most promising ones first, without end.

    These are `start` if it is given; the better and then the other one of the identity and the
    match by comparable features; the match by all features; then by turns the match by randomly
    weighted features and a random element.
    """
    group = state.problem.group
    if start is not None:
        yield start
    identity = group.identity()
    state.jump(identity)
    at_identity = state.objective
    matched = outward(state, families)
    pair = (matched, identity) if state.objective > at_identity else (identity, matched)
    yield pair[0]
    state.jump(identity)
    yield outward(state, families, mixed=True)
    yield pair[1]
    while True:
        state.jump(identity)
        yield outward(state, families, rng=rng)
        yield group.random(rng)


def outward(
    state: State,
    families: Sequence[Family],
    *,
    mixed: bool = False,
    rng: np.random.Generator | None = None,
) -> dict[str, Index]:
    """Match one family after the other, from fixed axes outward; the state goes there.

    The next family is the one whose blocks have the largest share of comparable numbers: along
    fixed atoms and along families that are matched already. These numbers alone decide, if there
    are any and unless `mixed`; the others take part sorted.

    Args:
        state: where to start; its element does not matter for families that are matched here.
        families: all of them.
        mixed: let sorted numbers take part beside comparable ones.
        rng: weights each feature by a random number (a Bayesian bootstrap).

    """
    matched: set[str] = set()
    left = list(families)
    while left:
        shares = [_comparable(state.problem, family, matched) for family in left]
        family = left.pop(max(range(len(left)), key=shares.__getitem__))
        folded = {view: _unaligned(state.problem, view, matched) for view in family.views}
        views = family.views
        if not mixed and _comparable(state.problem, family, matched)[0] > 0:
            views = tuple(view for view in views if not folded[view])
        step = solve_family(
            state.problem.backend,
            family.group,
            [_features(state, view, folded[view], rng) for view in views],
        )
        state.step(family, step)
        matched.update(family.group.factors)
    return dict(state.element)


def _features(
    state: State, view: View, folded: Collection[int], rng: np.random.Generator | None
) -> Operand:
    backend = state.problem.backend
    blocks = (state.problem.terms[view.term].a, state.block(view.term))
    a, b = (operand(backend, block, view, folded) for block in blocks)
    if rng is not None:
        weights = rng.exponential(size=a.shape[-1])
        each = backend.asarray(weights.astype(backend.widest))
        each = backend.xp.astype(each, backend.product_type(a.dtype))
        a = after(a, a.shape, lambda x: backend.wide(x) * each)
    return Operand(view, a, b)


def _unaligned(problem: Problem, view: View, matched: Collection[str]) -> tuple[int, ...]:
    """Return the atoms of a view whose numbering is not common to both models yet."""
    atoms = problem.terms[view.term].block.atoms
    return tuple(
        number
        for number, atom in enumerate(atoms)
        if number not in view.active
        and atom.permutation is not None
        and atom.permutation not in matched
    )


def _comparable(problem: Problem, family: Family, matched: Collection[str]) -> tuple[float, int]:
    """Return the share of comparable numbers among a unit's features, and how many it has.

    Blocks with a single number a unit (biases, gains) are too little to count.
    """
    total = comparable = 0
    for view in family.views:
        block = problem.terms[view.term].block
        width = math.prod(n for i, n in enumerate(block.shape) if i not in view.active)
        total += width if width > 1 else 0
        if width > 1 and not _unaligned(problem, view, matched):
            comparable += width
    return comparable / max(total, 1), total
