"""SciPy's solver compiled by numba: the same pairing of small matrices, without the way there.

Called from Python, SciPy's own takes longer to read its arguments than to pair eight rows. Costs
are the negative entries; all sums and comparisons are made in SciPy's order, so that it finds the
same pairing among equal ones: results do not depend on whether numba has been loaded.

Source: Crouse, "On implementing 2D rectangular assignment algorithms", IEEE TAES 52(4), 2016.
"""

# ruff: noqa: PLR0917  (compiled code takes its arguments by position)
from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.machinecode import compiled, helper, variant

__all__ = ["pair_all", "pairing"]


@helper
def _begin(
    scores: NDArray[Any],
    i: int,
    prices: NDArray[Any],
    owner: NDArray[Any],
    distance: NDArray[Any],
    origin: NDArray[Any],
    remaining: NDArray[Any],
) -> Any:  # noqa: ANN401
    """Find the ways from row i to all columns, the last first; return the least and its place.

    Of equally near columns the last free one is taken, or else the first.
    """
    least, found = np.inf, -1
    for place in range(len(scores)):
        j = np.uintp(len(scores) - 1 - place)
        remaining[place] = j
        total = 0.0 - scores[i, j] - prices[j]
        distance[j], origin[j] = total, i
        if total < least or (total == least and owner[j] < 0):
            least, found = total, place
    return least, found


@helper
def _reach(
    scores: NDArray[Any],
    i: int,
    base: float,
    own: float,
    prices: NDArray[Any],
    owner: NDArray[Any],
    distance: NDArray[Any],
    origin: NDArray[Any],
    remaining: NDArray[Any],
    left: int,
) -> Any:  # noqa: ANN401
    """Shorten the ways to the remaining columns by those through row i; return as `_begin` does."""
    least, found = np.inf, -1
    for place in range(left):
        j = remaining[place]
        total = base - scores[i, j] - own - prices[j]
        if total < distance[j]:
            distance[j], origin[j] = total, i
        else:
            total = distance[j]
        if total < least or (total == least and owner[j] < 0):
            least, found = total, place
    return least, found


@helper
def _pair(scores: NDArray[Any], columns: NDArray[Any]) -> float:
    """Fill in the columns of a largest sum and return it; NaN where numbers are not finite."""
    n, bad = len(scores), False
    for i in range(n):
        for k in range(n):
            bad |= not (abs(scores[i, k]) < np.inf)
    if bad:
        return np.nan
    worth, prices, distance = np.zeros(n), np.zeros(n), np.empty(n)
    owner, origin = np.full(n, -1), np.empty(n, np.int64)
    remaining = np.empty(n, np.uintp)  # indices that are never negative need no second look
    for free in range(n):
        least, place = _begin(scores, free, prices, owner, distance, origin, remaining)
        left = n
        while True:
            if place < 0:
                return np.nan  # sums overflow
            left -= 1
            j = remaining[place]
            remaining[place], remaining[left] = remaining[left], j
            i = owner[j]
            if i < 0:
                break
            least, place = _reach(
                scores, i, least, worth[i], prices, owner, distance, origin, remaining, left
            )
        worth[free] = least
        for k in range(left + 1, n):
            settled = remaining[k]
            worth[owner[settled]] += least - distance[settled]
            prices[settled] -= least - distance[settled]
        while i != free:
            i = origin[j]
            owner[j] = i
            columns[i], j = j, np.uintp(columns[i])
    total = 0.0
    for i in range(n):
        total += scores[i, columns[i]]
    return total


@functools.cache
def pairing(kind: np.dtype[Any]) -> Callable[[NDArray[Any], NDArray[Any]], float]:
    """Return what solves one matrix (n, n) of a type, both arrays writable and C-contiguous.

    It fills in `columns` (n,) and returns the sum, or NaN where numbers or sums are not finite.
    """

    def pair(scores: NDArray[Any], columns: NDArray[Any]) -> float:
        return _pair(scores, columns)

    return variant(pair, kind.name)


@compiled
def pair_all(scores: NDArray[Any], columns: NDArray[Any]) -> bool:
    """Solve each of (batch, n, n); False at the first where numbers or sums are not finite."""
    for number in range(len(scores)):
        if np.isnan(_pair(scores[number], columns[number])):
            return False
    return True
