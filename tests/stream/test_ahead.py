"""Work ahead of its use: in order, within a bound, and over when its block is left."""

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_hub.stream import A_FEW, Bound, ahead, ready, threads


def size(item: int) -> int:
    return item


class Watched:
    """Work that notes how much is held between its start and the moment its result is done with."""

    def __init__(self) -> None:
        self.lock, self.held, self.most, self.running, self.together = threading.Lock(), 0, 0, 0, 0

    def __call__(self, item: int) -> int:
        with self.lock:
            self.held += item
            self.most = max(self.most, self.held)
            self.running += 1
            self.together = max(self.together, self.running)
        time.sleep(0.0005)
        with self.lock:
            self.running -= 1
        return -item

    def taken(self, item: int) -> None:
        with self.lock:
            self.held -= item


@given(st.lists(st.integers(0, 20), max_size=20), st.integers(0, 40), st.integers(1, 4))
def test_results_come_in_order_and_what_is_held_stays_within_the_bound(items, limit, workers):
    watched = Watched()
    found = []
    with ahead(items, watched, cost=size, bound=Bound(limit), workers=workers) as results:
        for item, result in results:
            found.append((item, result))
            watched.taken(item)
    assert found == [(item, -item) for item in items]
    assert watched.most <= max(limit, *items, 0)
    assert watched.together <= workers


def test_several_threads_work_at_a_time():
    barrier = threading.Barrier(2, timeout=30)  # passed by two at once, or never
    found = ready([1, 2], lambda item: (barrier.wait(), item)[1], cost=size, bound=Bound(10))
    assert found == {1: 1, 2: 2}
    assert threads() >= 2


def test_one_item_is_worked_on_however_large_it_is():
    assert ready([7, 9], size, cost=size, bound=Bound(1)) == {7: 7, 9: 9}


def test_by_default_there_is_room_for_the_largest_or_three_usual_tensors():
    giant, usual = 1 << 30, 1 << 28
    assert A_FEW.over([giant] * 3) == 3 * giant
    assert A_FEW.over([giant, *[usual] * 9, 10, 20]) == giant
    assert A_FEW.over([giant * 9 // 20, *[usual] * 9]) == 3 * usual
    assert A_FEW.over([10, 20]) > 100  # small tensors need no bound
    assert A_FEW.over([]) > 100
    assert Bound(5).over([giant]) == 5


def test_an_error_is_raised_in_its_turn_and_ends_the_work():
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise ValueError("three")
        return item

    seen = []
    with (
        pytest.raises(ValueError, match="three"),
        ahead(range(1000), work, cost=lambda _: 1, bound=Bound(4)) as results,
    ):
        seen.extend(item for item, _ in results)
    assert begun[-1] < 10
    assert not [t for t in threading.enumerate() if t.name.startswith("stream")]


def test_leaving_the_block_ends_the_work():
    begun = []

    def interrupted() -> None:
        with ahead(range(1000), begun.append, cost=lambda _: 1, bound=Bound(4)) as results:
            next(results)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(begun) < 10
    assert not [t for t in threading.enumerate() if t.name.startswith("stream")]
