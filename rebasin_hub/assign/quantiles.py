"""What is about the k-th largest of each row and column, and what lies above; compiled by numba.

The largest entry of each of 128 parts of a line is found by passes without a branch; about the k-th
largest of these is about the k-th largest of the line, as the k largest seldom share a part.
"""

# ruff: noqa: PLR0917  (compiled code takes its arguments by position)
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.assign.kernels import BLOCK
from rebasin_hub.machinecode import compiled, helper

__all__ = ["PARTS", "above", "column_floors", "row_floors"]

PARTS = 128
"""Parts of a line whose maxima are compared."""

HALVINGS = 16
"""Halvings of the range in which the k-th largest lies."""

TILE = 16
"""Columns that are transposed at once."""


@helper
def _about(values: NDArray[Any], k: int) -> Any:  # noqa: ANN401
    """Return what k of the values or a few more reach, by bisection, which needs no branches."""
    low, high = values[0], values[0]
    for g in range(len(values)):
        low, high = min(low, values[g]), max(high, values[g])
    for _ in range(HALVINGS):
        middle = low + (high - low) / 2
        reached = 0
        for g in range(len(values)):
            reached += values[g] >= middle
        if reached < k:
            high = middle
        else:
            low = middle
            if reached <= k + 2:
                break
    return low


@compiled
def row_floors(
    scores: NDArray[Any],
    prices: NDArray[Any],
    k: int,
    floors: NDArray[Any],
    best: NDArray[Any],
) -> None:
    """Find what about k entries of each row of `scores - prices` reach, and a largest one.

    Among equal ones each row looks from a place of its own, so that ties spread over the columns.
    """
    n, m = scores.shape
    parts = min(PARTS, m)
    peaks = np.empty(parts, scores.dtype)
    for i in range(n):
        row, start = scores[i], 0
        peaks[:] = -np.inf
        while start < m:
            end = min(start + parts, m)
            block, price = row[start:end], prices[start:end]
            for g in range(len(block)):
                value = block[g] - price[g]
                peaks[g] = value if value > peaks[g] else peaks[g]
            start = end
        floors[i] = _about(peaks, k)
        part = (i * 40503) % parts
        highest, chosen = peaks[part], part
        for _ in range(1, parts):
            part = part + 1 if part + 1 < parts else 0
            if peaks[part] > highest:
                highest, chosen = peaks[part], part
        steps = (m - chosen + parts - 1) // parts
        step = i % steps
        while row[chosen + step * parts] - prices[chosen + step * parts] != highest:
            step = step + 1 if step + 1 < steps else 0
        best[i] = chosen + step * parts


@compiled
def column_floors(
    scores: NDArray[Any], prices: NDArray[Any], k: int, peaks: NDArray[Any], floors: NDArray[Any]
) -> None:
    """Find what about k entries of each column of `scores - prices[:, None]` reach.

    `peaks` has room for the largest entry of each part of a column, (parts, columns).
    """
    n, m = scores.shape
    parts = len(peaks)
    for g in range(parts):
        peak = peaks[g]
        peak[:] = -np.inf
        for i in range(g * n // parts, (g + 1) * n // parts):
            row, price = scores[i], prices[i]
            for j in range(m):
                value = row[j] - price
                peak[j] = value if value > peak[j] else peak[j]
    tile = np.empty((TILE, parts), scores.dtype)
    for first in range(0, m, TILE):
        last = min(first + TILE, m)
        for g in range(parts):
            for j in range(first, last):
                tile[j - first, g] = peaks[g, j]
        for j in range(first, last):
            floors[j] = _about(tile[j - first], k)


@helper
def _collect(
    row: NDArray[Any],
    prices: NDArray[Any],
    floor: Any,  # noqa: ANN401
    first: int,
    last: int,
    columns: NDArray[Any],
    count: int,
    most: int,
) -> int:
    """Append where `row - prices` reaches the floor, until there are `most` or a few more."""
    start = first
    while start < last and count < most:
        end = min(start + BLOCK, last)
        # A slice's indices are known to be positive, without which nothing is vectorized.
        block, price, hit = row[start:end], prices[start:end], False
        for j in range(len(block)):
            hit |= block[j] - price[j] >= floor
        if hit:
            for j in range(len(block)):  # without a branch, which would be foreseen badly
                columns[count] = start + j
                count += block[j] - price[j] >= floor
        start = end
    return count


@compiled
def above(
    scores: NDArray[Any],
    floors: NDArray[Any],
    prices: NDArray[Any],
    usual: int,
    first: NDArray[Any],
    columns: NDArray[Any],
    entries: NDArray[Any],
) -> None:
    """Collect the entries with `entry - price >= floor` in the order of rows, then columns.

    While there are more than `usual` a row and twice the columns on top, the matrix is full of
    ties: a row takes only so many, from a place of its own on, so that rows choose different
    columns. There is room for `usual` entries of each row and four times the columns.
    """
    n, m = scores.shape
    count, room = 0, 2 * m
    for i in range(n):
        first[i] = count
        room += usual
        row, floor = scores[i], floors[i]
        end = _collect(row, prices, floor, 0, m, columns, count, count + m)
        if end > room and end > count + usual:
            turn = (i * 40503) % m
            end = _collect(row, prices, floor, turn, m, columns, count, count + usual)
            end = _collect(row, prices, floor, 0, turn, columns, end, count + usual)
            end = min(end, count + usual)
            columns[count:end].sort()
        for e in range(count, end):
            entries[e] = row[columns[e]]
        count = end
    first[n] = count
