"""Shortest augmenting paths for many small full matrices, compiled by numba.

Source: Jonker and Volgenant, "A shortest augmenting path algorithm for dense and sparse linear
assignment problems", Computing 38, 1987, sections 2 and 4.
"""

# ruff: noqa: PLR0917  (compiled code takes its arguments by position)
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.kernels import compiled, helper

__all__ = ["solve_batch"]

Ints = NDArray[Any]
Floats = NDArray[Any]


@compiled
def solve_batch(scores: Floats, columns: Ints, prices: Floats) -> None:
    """Solve each of (batch, n, n), filling in `columns` and column `prices`, both (batch, n)."""
    n = scores.shape[1]
    owner = np.empty(n, np.int64)
    distance, origin = np.empty(n), np.empty(n, np.int64)
    settled = np.empty(n, np.bool_)
    for number in range(len(scores)):
        owner[:] = -1
        columns[number, :] = -1
        prices[number, :] = 0.0
        _reduce(scores[number], columns[number], prices[number], owner)
        for free in range(n):
            if columns[number, free] < 0:
                _augment(
                    scores[number], columns[number], prices[number], owner, free,
                    distance, origin, settled,
                )  # fmt: skip


@helper
def _reduce(scores: Floats, columns: Ints, prices: Floats, owner: Ints) -> None:
    """Let rows take their best column, raising its price to the second best, in bounded steps."""
    n = len(scores)
    steps = 3 * n
    for start in range(n):
        i = start
        while i >= 0 and steps > 0:
            steps -= 1
            row, best, second, chosen = scores[i], -np.inf, -np.inf, -1
            for j in range(n):
                gain = row[j] - prices[j]
                if gain > second:
                    if gain > best:
                        best, second, chosen = gain, best, j
                    else:
                        second = gain
            displaced = owner[chosen]
            if displaced >= 0:
                if second in (best, -np.inf):
                    break
                columns[displaced] = -1
            if second > -np.inf:
                prices[chosen] += best - second
            owner[chosen], columns[i] = i, chosen
            i = displaced


@helper
def _augment(
    scores: Floats,
    columns: Ints,
    prices: Floats,
    owner: Ints,
    free: int,
    distance: Floats,
    origin: Ints,
    settled: NDArray[np.bool_],
) -> None:
    """Match one free row along a shortest alternating path."""
    n = len(scores)
    settled[:] = False
    distance[:] = np.inf
    own = -np.inf
    for j in range(n):
        own = max(own, scores[free, j] - prices[j])
    i, base, end = free, 0.0, -1
    while end < 0:
        row, nearest, least = scores[i], -1, np.inf
        for j in range(n):
            if not settled[j]:
                total = base + max(own - (row[j] - prices[j]), 0.0)
                if total < distance[j]:
                    distance[j], origin[j] = total, i
                if distance[j] < least or (distance[j] == least and owner[j] < 0):
                    least, nearest = distance[j], j
        settled[nearest] = True
        base, i = least, owner[nearest]
        if i < 0:
            end = nearest
        else:
            own = scores[i, nearest] - prices[nearest]
    for j in range(n):
        if settled[j]:
            prices[j] += base - distance[j]
    j = end
    while True:
        i = origin[j]
        owner[j] = i
        columns[i], j = j, columns[i]
        if i == free:
            break
