"""Shortest augmenting paths over full matrices, small ones in batches, compiled by numba.

Every loop over a row compares a block of entries without a branch, so that the compiler uses vector
instructions, and looks at single entries only where something in the block is new.

Source: Jonker and Volgenant, "A shortest augmenting path algorithm for dense and sparse linear
assignment problems", Computing 38, 1987, sections 2 and 4.
"""

# ruff: noqa: PLR0917  (compiled code takes its arguments by position)
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.kernels import BLOCK
from rebasin_hub.machinecode import compiled, helper

__all__ = ["solve_batch"]

Ints = NDArray[Any]
Floats = NDArray[Any]


@compiled
def solve_batch(scores: Floats, columns: Ints, prices: Floats, row_prices: Floats) -> bool:
    """Solve each of (batch, n, n) from given column prices on; fill in the rest, each (batch, n).

    `row_prices` become the largest `entry - price` of each row. True if a matrix had two rows with
    the same best column; without that, prices stay.
    """
    n, crossed = scores.shape[1], False
    owner, origin, order = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(n, np.int64)
    distance, far, closed = np.empty(n), np.empty(n), np.empty(n)
    for number in range(len(scores)):
        one, column, price = scores[number], columns[number], prices[number]
        owner[:] = -1
        if _by_maxima(one, column, price, row_prices[number], owner):
            continue
        crossed = True
        owner[:], column[:] = -1, -1
        _reduce(one, column, price, owner)
        for free in range(n):
            if column[free] < 0:
                _augment(one, column, price, owner, free, distance, origin, closed, order, far)
        for i in range(n):
            row_prices[number, i] = _two_best(one[i], price)[0]
    return crossed


@helper
def _by_maxima(scores: Floats, columns: Ints, prices: Floats, maxima: Floats, owner: Ints) -> bool:
    """Pair all rows with their best columns; False at the first whose best is taken."""
    for i in range(len(scores)):
        maxima[i], _, columns[i] = _two_best(scores[i], prices)
        if owner[columns[i]] >= 0:
            return False
        owner[columns[i]] = i
    return True


@helper
def _two_best(row: Floats, prices: Floats) -> Any:  # noqa: ANN401
    """Return the two largest of `row - prices`, and where the first of them stands."""
    best, second, chosen, start = -np.inf, -np.inf, -1, 0
    while start < len(row):
        end = min(start + BLOCK, len(row))
        block, price, hit = row[start:end], prices[start:end], False
        for j in range(len(block)):
            hit |= block[j] - price[j] > second
        if hit:
            for j in range(len(block)):
                gain = block[j] - price[j]
                if gain > best:
                    best, second, chosen = gain, best, start + j
                elif gain > second:
                    second = gain
        start = end
    return best, second, chosen


@helper
def _reduce(scores: Floats, columns: Ints, prices: Floats, owner: Ints) -> None:
    """Let rows take their best column, raising its price to the second best, in bounded steps."""
    steps = 3 * len(scores)
    for start in range(len(scores)):
        i = start
        while i >= 0 and steps > 0:
            steps -= 1
            best, second, chosen = _two_best(scores[i], prices)
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
def _relax(
    row: Floats, closed: Floats, i: int, base: float, own: float, distance: Floats, origin: Ints
) -> None:
    """Shorten the ways to the columns by those that lead through one row."""
    for j in range(len(row)):
        total = base + max(own - (row[j] - closed[j]), 0.0)
        nearer = total < distance[j]
        origin[j] = i if nearer else origin[j]
        distance[j] = total if nearer else distance[j]


@helper
def _nearest(distance: Floats, owner: Ints) -> int:
    """Return where the least distance stands, at a column without a row if there is one."""
    least, found, start = np.inf, -1, 0
    while start < len(distance):
        end = min(start + BLOCK, len(distance))
        block, hit = distance[start:end], False
        for j in range(len(block)):
            hit |= block[j] <= least
        if hit:
            for j in range(len(block)):
                if block[j] < least or (block[j] == least and owner[start + j] < 0):
                    least, found = block[j], start + j
        start = end
    return found


@helper
def _augment(
    scores: Floats,
    columns: Ints,
    prices: Floats,
    owner: Ints,
    free: int,
    distance: Floats,
    origin: Ints,
    closed: Floats,
    order: Ints,
    far: Floats,
) -> None:
    """Match one free row along a shortest alternating path.

    A column that is settled costs infinitely much from then on (`closed`) and is infinitely far, so
    that no loop has to ask; `order` and `far` remember it.
    """
    distance[:] = np.inf
    closed[:] = prices
    own = _two_best(scores[free], prices)[0]
    i, base, settled = free, 0.0, 0
    while True:
        _relax(scores[i], closed, i, base, own, distance, origin)
        j = _nearest(distance, owner)
        i, base = owner[j], distance[j]
        if i < 0:
            break
        own = scores[i, j] - prices[j]
        order[settled], far[settled] = j, base
        settled += 1
        distance[j] = closed[j] = np.inf
    for d in range(settled):
        prices[order[d]] += base - far[d]
    while True:
        i = origin[j]
        owner[j] = i
        columns[i], j = j, columns[i]
        if i == free:
            break
