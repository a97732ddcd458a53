"""Streams: tensors made ahead of their use, in a few threads, in order, in bounded memory.

Reading, hashing and the arithmetic of NumPy leave the interpreter to others while they run, so that
a few threads keep all cores and the disk busy. What comes out, and in which order, does not depend
on how many there are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar

__all__ = ["A_FEW", "Bound", "ahead", "ready", "threads"]

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_THREADS = 8
"""More would each hold a tensor, and wait for the same disk."""
FREE_BYTES = 32 << 20
"""By default, this much is held at a time even if all tensors are small."""


@dataclass(frozen=True)
class Bound:
    """How many bytes of tensors are held at a time; None for a few of the largest.

    One tensor is always worked on, however large it is.
    """

    nbytes: int | None = None

    def over(self, costs: Sequence[int]) -> int:
        """Return the bytes, where each tensor takes so many while it is worked on.

        By default there is room for the largest, and for three of the usual size, which half of all
        bytes do not exceed: one that is written while two are made. That one embedding is very
        large does not multiply what is held.
        """
        if self.nbytes is not None:
            return self.nbytes
        ordered = sorted(costs)
        half = sum(ordered) / 2
        reached = accumulate(ordered)
        usual = next(
            (cost for cost, sofar in zip(ordered, reached, strict=True) if sofar >= half), 0
        )
        return max(FREE_BYTES, 3 * usual, *ordered[-1:])


A_FEW = Bound()
"""Room for a few of the largest tensors."""


def threads() -> int:
    """Return how many threads are worth their while: one for each core, two at least."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:  # pragma: no cover - not on Linux
        cores = os.cpu_count() or 1
    return max(2, min(cores, MOST_THREADS))


@contextmanager
def ahead(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    *,
    cost: Callable[[Item], int],
    bound: Bound = A_FEW,
    workers: int | None = None,
) -> Iterator[Iterator[tuple[Item, Result]]]:
    """Yield an iterator over each item with its result, in order, made ahead in threads.

    An error of `work` is raised where its result is due. When the block is left, for whatever
    reason, nothing more is started, and what was started has ended.

    Args:
        items: in the order in which results are due.
        work: makes a result; called in threads, for several items at a time.
        cost: the bytes held from an item's start until the result after it is asked for.
        bound: how many of these at a time.
        workers: threads; one for each core by default.

    """
    queue = list(items)
    limit = bound.over([cost(item) for item in queue])
    with ThreadPoolExecutor(workers or threads(), thread_name_prefix="stream") as pool:
        line = _Line(pool, queue, work, cost, limit)
        try:
            yield line.results()
        finally:
            line.stop()


def ready(
    items: Iterable[Item],
    work: Callable[[Item], Result],
    *,
    cost: Callable[[Item], int],
    bound: Bound = A_FEW,
) -> dict[Item, Result]:
    """Return the result of each item, made as `ahead` does; results count as nothing held."""
    with ahead(items, work, cost=cost, bound=bound) as results:
        return dict(results)


class _Line(Generic[Item, Result]):
    """Items in order: those waiting, and those started whose results are not yet taken."""

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        items: Iterable[Item],
        work: Callable[[Item], Result],
        cost: Callable[[Item], int],
        bound: int,
    ) -> None:
        self._pool, self._work, self._cost, self._bound = pool, work, cost, bound
        self._waiting = deque(items)
        self._started: deque[tuple[Item, Future[Result]]] = deque()
        self._held = 0

    def results(self) -> Iterator[tuple[Item, Result]]:
        self._start()
        while self._started:
            item, future = self._started.popleft()
            result = future.result()
            del future  # it holds the result as well
            yield item, result
            del result
            self._held -= self._cost(item)
            self._start()

    def stop(self) -> None:
        self._waiting.clear()
        for _, future in self._started:
            future.cancel()

    def _start(self) -> None:
        while self._waiting:
            cost = self._cost(self._waiting[0])
            if self._held and self._held + cost > self._bound:
                return
            item = self._waiting.popleft()
            self._started.append((item, self._pool.submit(self._work, item)))
            self._held += cost
