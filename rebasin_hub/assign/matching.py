"""Shortest augmenting paths on the kept entries of a matrix, compiled by numba.

Rows come in kinds (copies of one row share their entries), columns have a capacity (copies of one
column share their price). Everything here raises or keeps prices so that each matched row has its
largest `entry - price` at its column: complementary slackness, by which an assignment is optimal.

Source: Jonker and Volgenant, "A shortest augmenting path algorithm for dense and sparse linear
assignment problems", Computing 38, 1987, sections 2 and 4.
"""

# ruff: noqa: PLR0917  (compiled code takes its arguments by position)
from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.machinecode import compiled, helper

__all__ = ["augment", "reduce_rows", "release"]

Ints = NDArray[Any]
Floats = NDArray[Any]


@helper
def _leave(i: int, match: Ints, load: Ints, head: Ints, after: Ints) -> None:
    """Take a row off the list of its column."""
    j = match[i]
    if head[j] == i:
        head[j] = after[i]
    else:
        k = head[j]
        while after[k] != i:
            k = after[k]
        after[k] = after[i]
    load[j] -= 1
    match[i] = -1


@helper
def _enter(i: int, j: int, match: Ints, load: Ints, head: Ints, after: Ints) -> None:
    """Put a row on the list of a column."""
    after[i], head[j] = head[j], i
    load[j] += 1
    match[i] = j


@compiled
def reduce_rows(
    first: Ints,
    columns: Ints,
    entries: Floats,
    kind: Ints,
    capacity: Ints,
    prices: Floats,
    match: Ints,
    worth: Floats,
    load: Ints,
    head: Ints,
    after: Ints,
) -> None:
    """Let free rows take their best column, raising its price to the second best if it is taken.

    A row that is displaced goes on at once. The number of steps is bounded: what is left over is
    for the shortest paths.
    """
    steps = 4 * len(match)
    for start in range(len(match)):
        i = start
        while match[i] < 0 and steps > 0:
            steps -= 1
            best, second, chosen, value = -np.inf, -np.inf, -1, 0.0
            for e in range(first[kind[i]], first[kind[i] + 1]):
                j = columns[e]
                gain = entries[e] - prices[j]
                if gain > best or (gain == best and load[j] < capacity[j] and j != chosen):
                    if j != chosen:
                        second = best
                    best, chosen, value = gain, j, entries[e]
                elif gain > second and j != chosen:
                    second = gain
            if chosen < 0:
                break
            j = chosen
            if load[j] < capacity[j]:
                _enter(i, j, match, load, head, after)
                worth[i] = value
                break
            if capacity[j] > 1 or second in (best, -np.inf):
                break
            prices[j] += best - second
            displaced = head[j]
            _leave(displaced, match, load, head, after)
            _enter(i, j, match, load, head, after)
            worth[i] = value
            i = displaced


@helper
def _sift_up(heap: Ints, place: Ints, distance: Floats, at: int) -> None:
    j = heap[at]
    while at > 0:
        up = (at - 1) >> 1
        if distance[heap[up]] <= distance[j]:
            break
        heap[at] = heap[up]
        place[heap[at]] = at
        at = up
    heap[at], place[j] = j, at


@helper
def _sift_down(heap: Ints, place: Ints, distance: Floats, size: int) -> None:
    j, at = heap[0], 0
    while True:
        below = 2 * at + 1
        if below >= size:
            break
        if below + 1 < size and distance[heap[below + 1]] < distance[heap[below]]:
            below += 1
        if distance[heap[below]] >= distance[j]:
            break
        heap[at] = heap[below]
        place[heap[at]] = at
        at = below
    heap[at], place[j] = j, at


@compiled
def augment(  # noqa: C901, PLR0912, PLR0915 (one loop whose state is a dozen local variables)
    first: Ints,
    columns: Ints,
    entries: Floats,
    kind: Ints,
    capacity: Ints,
    prices: Floats,
    match: Ints,
    worth: Floats,
    load: Ints,
    head: Ints,
    after: Ints,
    patience: int,
) -> int:
    """Match free rows along shortest alternating paths; return how many have none.

    `patience` bounds the columns that all searches together may settle; -1 is returned when they
    run out, with a valid state.
    """
    m = len(prices)
    distance, reach = np.empty(m), np.empty(m)
    origin, heap, place = np.empty(m, np.int32), np.empty(m, np.int32), np.empty(m, np.int32)
    done = np.empty(m, np.int32)
    seen, settled = np.full(m, -1, np.int32), np.full(m, -1, np.int32)
    visited = np.full(len(first) - 1, -1, np.int32)
    lost = 0
    for free in range(len(match)):
        if match[free] >= 0:
            continue
        size, finished, end, limit = 0, 0, -1, np.inf
        i, base, own = free, 0.0, -np.inf
        for e in range(first[kind[i]], first[kind[i] + 1]):
            own = max(own, entries[e] - prices[columns[e]])
        queued = -1
        while True:
            if visited[kind[i]] != free:
                visited[kind[i]] = free
                for e in range(first[kind[i]], first[kind[i] + 1]):
                    j = columns[e]
                    step = own - (entries[e] - prices[j])
                    total = base + max(step, 0.0)
                    if total >= limit or settled[j] == free:
                        continue
                    if seen[j] == free and total >= distance[j]:
                        continue
                    new = seen[j] != free
                    seen[j], distance[j] = free, total
                    origin[j], reach[j] = i, entries[e]
                    if load[j] < capacity[j]:
                        limit, end = total, j
                    elif new:
                        heap[size] = j
                        size += 1
                        _sift_up(heap, place, distance, size - 1)
                    else:
                        _sift_up(heap, place, distance, place[j])
            queued = after[queued] if queued >= 0 else -1
            if queued < 0:
                if size == 0 or distance[heap[0]] >= limit:
                    break
                j = heap[0]
                size -= 1
                if size:
                    heap[0] = heap[size]
                    _sift_down(heap, place, distance, size)
                settled[j] = free
                done[finished] = j
                finished += 1
                patience -= 1
                base, queued = distance[j], head[j]
            i = queued
            own = worth[i] - prices[match[i]]
        if end < 0:
            lost += 1
            continue
        for d in range(finished):
            prices[done[d]] += limit - distance[done[d]]
        j = end
        while True:
            i = origin[j]
            left = match[i]
            if left >= 0:
                _leave(i, match, load, head, after)
            _enter(i, j, match, load, head, after)
            worth[i] = reach[j]
            if i == free:
                break
            j = left
        if patience < 0:
            return -1
    return lost


@compiled
def release(rows: Ints, match: Ints, load: Ints, head: Ints, after: Ints) -> None:
    """Make matched rows free again."""
    for i in rows:
        if match[i] >= 0:
            _leave(i, match, load, head, after)
