"""Dense passes over a matrix, compiled by numba; imported only where numba is there."""

# ruff: noqa: PLR0917  (compiled code takes its arguments by position)
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.machinecode import compiled, helper

__all__ = ["BLOCK", "all_finite", "beyond", "extremes", "gather"]

BLOCK = 32
"""Entries that are compared at once, without a branch, before any is looked at alone."""


@compiled
def all_finite(bits: NDArray[Any], exponent: Any) -> bool:  # noqa: ANN401
    """Tell whether no number has all bits of its exponent set, which NaN and infinities have."""
    for i in range(len(bits)):
        highest = exponent & ~exponent
        for j in range(bits.shape[1]):
            highest = max(highest, bits[i, j] & exponent)
        if highest == exponent:
            return False
    return True


@helper
def _keep_largest(values: NDArray[Any], places: NDArray[Any], count: int, k: int) -> Any:  # noqa: ANN401
    """Bring the k largest of `count` values to the front (Hoare); return the least of them."""
    low, high = 0, count - 1
    while low < high:
        pivot = values[(low + high) // 2]
        a, b = low, high
        while a <= b:
            while values[a] > pivot:
                a += 1
            while values[b] < pivot:
                b -= 1
            if a <= b:
                values[a], values[b] = values[b], values[a]
                places[a], places[b] = places[b], places[a]
                a += 1
                b -= 1
        if k - 1 <= b:
            high = b
        elif k - 1 >= a:
            low = a
        else:
            break
    return values[k - 1]


@helper
def _scan(
    row: NDArray[Any],
    prices: NDArray[Any],
    first: int,
    last: int,
    floor: Any,  # noqa: ANN401
    values: NDArray[Any],
    places: NDArray[Any],
    count: int,
    k: int,
) -> Any:  # noqa: ANN401
    """Collect the entries of `row - prices` above a floor, which rises as the buffer fills.

    The buffer has room for k entries and two blocks at least.
    """
    start = first
    while start < last:
        end = min(start + BLOCK, last)
        # A slice's indices are known to be positive, without which nothing is vectorized.
        block, price, hit = row[start:end], prices[start:end], False
        for j in range(len(block)):
            hit |= block[j] - price[j] > floor
        if hit:
            if count + BLOCK > len(values):
                floor = _keep_largest(values, places, count, k)
                count = k
            for j in range(len(block)):  # without a branch, which would be foreseen badly
                value = block[j] - price[j]
                values[count], places[count] = value, start + j
                count += value > floor
        start = end
    return count, floor


@compiled
def extremes(
    scores: NDArray[Any],
    row_best: NDArray[Any],
    row_maxima: NDArray[Any],
    column_best: NDArray[Any],
    column_maxima: NDArray[Any],
) -> bool:
    """Find the first largest entry of each row and column; False at the first that is not finite.

    `column_maxima` starts at minus infinity.
    """
    n, m = scores.shape
    infinity = row_maxima.dtype.type(np.inf)
    for i in range(n):
        row, highest, place, start, bad = scores[i], -infinity, 0, 0, False
        while start < m:
            end = min(start + 2 * BLOCK, m)
            block, hit = row[start:end], False
            maxima, best = column_maxima[start:end], column_best[start:end]
            for j in range(len(block)):
                value = block[j]
                bad |= not (abs(value) < infinity)
                hit |= value > highest
                larger = value > maxima[j]
                best[j] = i if larger else best[j]
                maxima[j] = value if larger else maxima[j]
            if hit:
                for j in range(len(block)):
                    if block[j] > highest:
                        highest, place = block[j], start + j
            start = end
        if bad:
            return False
        row_best[i], row_maxima[i] = place, highest
    return True


@compiled
def beyond(
    scores: NDArray[Any],
    rows: NDArray[Any],
    prices: NDArray[Any],
    floors: NDArray[Any],
    slack: float,
    k: int,
    maxima: NDArray[Any],
    counts: NDArray[Any],
    places: NDArray[Any],
) -> None:
    """Find the entries of `scores[rows] - prices` above each row's floor, in float64.

    `maxima` becomes the larger of the floor and the row's maximum, exactly; `places` holds at most
    k entries of a row that are above the floor by more than `slack`, the largest ones.
    """
    m = scores.shape[1]
    values = np.empty(places.shape[1])
    for i in range(len(rows)):
        row, floor = scores[rows[i]], floors[i]
        highest, start, count = floor, 0, 0
        limit = floor + slack
        while start < m:
            end = min(start + 512, m)
            block, price, hits = row[start:end], prices[start:end], 0
            for j in range(len(block)):
                hits += block[j] - price[j] > floor
            if hits:
                for j in range(start, end):
                    highest = max(highest, row[j] - prices[j])
                count, limit = _scan(row, prices, start, end, limit, values, places[i], count, k)
            start = end
        maxima[i] = highest
        if count > k:
            _keep_largest(values, places[i], count, k)
            count = k
        counts[i] = count


@compiled
def gather(scores: NDArray[Any], rows: NDArray[Any], columns: NDArray[Any], out: Any) -> None:  # noqa: ANN401
    """Copy some rows and columns of a matrix."""
    for i in range(len(rows)):
        row, target = scores[rows[i]], out[i]
        for j in range(len(columns)):
            target[j] = row[columns[j]]
