"""Greedy matching: coordinate descent that takes the most similar units first.

What an exact assignment is worth is seen against it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.family import Family, families, operand
from rebasin_hub.align.later import made
from rebasin_hub.align.method import Found, Options
from rebasin_hub.align.state import State
from rebasin_hub.align.weight import update
from rebasin_hub.permute import Index

__all__ = ["greedy", "greedy_pairs"]

CANDIDATES = 8
"""Entries for each row that are sorted at a time."""


def greedy(state: State, options: Options) -> Found:
    """Improve one family after the other, pairing the most similar units first.

    Units with dependent permutations are worth what the best numbering of their dependents makes of
    them; these families are left to weight matching.

    The law: the objective is at least that of the start, which is `options.start` or the identity.
    """
    state.jump(options.start if options.start is not None else state.problem.group.identity())
    options.watch.keep(state.element)
    members = families(state.problem)
    rng = np.random.default_rng(options.seed)
    history, gained = [state.objective], bool(members)
    while gained and len(history) <= options.max_sweeps and not options.watch.over:
        gained = False
        order = rng.permutation(len(members)).tolist()
        if len(history) == 1:  # as in weight matching: what can be compared from the first
            order.sort(key=lambda number: not members[number].touches_fixed)
        for number in order:
            gained |= _update(state, members[number])
        options.watch.keep(state.element)
        history.append(state.objective)
        options.watch.report(len(history) - 2, history[-1])
    nested = [family.root for family in members if len(family.group.factors) > 1]
    notes = (
        f"{', '.join(nested)}: permutations with others that depend on them, which greedy pairing "
        "leaves to weight matching.",
    )
    return Found(
        dict(state.element),
        tuple(history),
        (history[-1],),
        not gained,
        notes=notes if nested else (),
    )


def _update(state: State, family: Family) -> bool:
    """Renumber one family by greedy pairs, if that is for the better, and tell whether it was."""
    if len(family.group.factors) > 1:
        return update(state, family)
    backend = state.problem.backend
    similarity = backend.numpy(
        sum(
            backend.product(
                made(operand(backend, state.problem.terms[view.term].a, view)),
                made(operand(backend, state.block(view.term), view)),
            )
            for view in family.views
        )
    )
    columns = greedy_pairs(similarity)
    rows = np.arange(len(columns))
    # Unlike the best pairs, greedy ones may be worse than those that there are.
    gain = np.sum(similarity[rows, columns] - similarity[rows, rows], dtype=np.float64)
    return bool(gain > 0) and state.improve(family, {family.root: columns})


def greedy_pairs(similarity: NDArray[Any]) -> Index:
    """Pair rows with columns: the largest entry first, then the largest of those still free.

    Args:
        similarity: (n, n), finite, any real type.

    Returns the column of each row, (n,) int64. The law: no entry is larger than both what its row
    and what its column is paired with. Among equal entries rows keep their place if they can.

    """
    columns = np.full(len(similarity), -1, dtype=np.int64)
    free = np.ones((2, len(similarity)), dtype=bool)
    while free[0].any():
        rows, others = (np.flatnonzero(side) for side in free)
        left = similarity[np.ix_(rows, others)]
        if left.min() == left.max():
            _keep_places(columns, rows, others)
            break
        for i, j in _largest(left, rows[:, None] == others):
            row, column = rows[i], others[j]
            if free[0, row] and free[1, column]:
                columns[row] = column
                free[0, row] = free[1, column] = False
    return columns


def _largest(left: NDArray[Any], stays: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the places of the largest entries, in falling order: (entries, 2).

    Of equal ones, those come first that leave a unit where it is.

    After these few, most rows and columns are taken, and so most of the other entries never need
    to be sorted.
    """
    flat = left.reshape(-1)
    count = min(flat.size, CANDIDATES * len(left))
    top = np.sort(np.argpartition(-flat, count - 1)[:count])
    top = top[np.lexsort((~stays.reshape(-1)[top], -flat[top]))]
    return np.stack(np.unravel_index(top, left.shape), axis=-1)


def _keep_places(columns: Index, rows: Index, others: Index) -> None:
    """Pair what is left where all pairs are alike: a unit with its own place, if both are free."""
    same = np.intersect1d(rows, others)
    columns[same] = same
    columns[np.setdiff1d(rows, same)] = np.setdiff1d(others, same)
