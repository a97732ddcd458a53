"""Swaps of two units, for permutations that the objective is quadratic in."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.align.backend import Array
from rebasin_hub.align.family import Family, operand
from rebasin_hub.align.later import made
from rebasin_hub.align.state import State
from rebasin_hub.permute import Index

__all__ = ["swap_gains", "swap_steps"]


def swap_steps(state: State, family: Family) -> Iterator[dict[str, Index]]:
    """Yield steps made of disjoint swaps, the last one the single swap that gains most.

    The gain of one swap is exact for a permutation that stands at most twice on a block; those of
    several at once influence one another, so ever smaller sets of the best swaps are yielded.
    Families with dependent permutations have none.
    """
    if len(family.group.factors) > 1:
        return
    pairs = _disjoint(swap_gains(state, family))
    while pairs:
        step = family.group.identity()
        index = step[family.root]
        for i, k in pairs:
            index[[i, k]] = index[[k, i]]
        yield step
        pairs = pairs[: len(pairs) // 2]


def swap_gains(state: State, family: Family) -> NDArray[np.float64]:
    """Return the gain of each swap (i, k), shape (n, n), symmetric."""
    backend = state.problem.backend
    size = family.group.factors[family.root].size
    gains = np.zeros((size, size))
    for number in family.terms:
        blocks = (state.problem.terms[number].a, state.block(number))
        a, b = (backend.wide(made(block)) for block in blocks)
        views = [view for view in family.views if view.term == number]
        for view in views:
            rows_a, rows_b = (operand(backend, x, view) for x in (a, b))
            gram = backend.numpy(rows_a @ backend.xp.matrix_transpose(rows_b)).astype(np.float64)
            kept = np.diagonal(gram)
            gains += gram + gram.T - kept[:, None] - kept[None, :]
        if len(views) == 2:  # noqa: PLR2004
            (first,), (second,) = (view.active for view in views)
            gains += backend.numpy(
                backend.xp.sum(
                    _both(state, a, first, second) * _both(state, b, first, second), axis=-1
                )
            )
    return gains


def _both(state: State, array: Array, first: int, second: int) -> Array:
    """Return x[i, i] − x[i, k] − x[k, i] + x[k, k] over the two axes, shape (n, n, rest).

    A swap changes both axes at once; the product of these for A and B is what that adds to the
    gains of changing each axis alone.
    """
    xp = state.problem.backend.xp
    rest = [axis for axis in range(array.ndim) if axis not in (first, second)]
    square = xp.permute_dims(array, (first, second, *rest))
    square = xp.reshape(square, (*square.shape[:2], -1))
    places = state.problem.backend.asarray(np.arange(square.shape[0]))
    kept = square[places, places]
    return kept[:, None] + kept[None, :] - square - xp.permute_dims(square, (1, 0, 2))


def _disjoint(gains: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Choose swaps that gain, the best first, no unit twice."""
    rows, columns = np.nonzero(np.triu(gains, 1) > 0)
    pairs: list[tuple[int, int]] = []
    taken: set[int] = set()
    for number in np.argsort(-gains[rows, columns], kind="stable"):
        i, k = int(rows[number]), int(columns[number])
        if i not in taken and k not in taken:
            pairs.append((i, k))
            taken |= {i, k}
    return pairs
