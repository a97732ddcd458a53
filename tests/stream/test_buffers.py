"""Memory that is used again, and never while somebody still looks at it."""

import gc

import numpy as np
import pytest

from rebasin_hub import buffers
from rebasin_hub.buffers import empty

SHAPE = (300, 1000)
F4 = np.dtype(np.float32)


@pytest.fixture(autouse=True)
def _nothing_idle(monkeypatch):
    monkeypatch.setattr(buffers, "_kept", buffers._Kept())


def address(array) -> int:
    return array.__array_interface__["data"][0]


def test_memory_comes_back_and_is_used_again():
    first = empty(SHAPE, F4)
    assert (first.shape, first.dtype, first.flags.c_contiguous) == (SHAPE, F4, True)
    assert first.flags.writeable
    where = address(first)
    del first
    assert address(empty((290, 1000), F4)) == where


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a[5:, ::2],
        lambda a: a.T[1:],
        lambda a: a.view(np.uint8)[3],
        lambda a: a.reshape(-1)[7:].view(np.uint32),
        lambda a: a.data,
        lambda a: a.reshape(-1).view(np.uint8).data[10:],
        lambda a: np.asarray(a)[0],
        lambda a: np.ascontiguousarray(a)[1:2],
    ],
)
def test_memory_that_is_viewed_is_not_given_away(view):
    first = empty(SHAPE, F4)
    first[...] = 1
    seen = view(first)
    expected = bytes(seen)
    del first
    gc.collect()
    second = empty(SHAPE, F4)
    second[...] = 2
    assert bytes(seen) == expected
    del seen
    gc.collect()
    assert len(buffers._kept.idle) == 1


def test_what_is_kept_is_bounded_and_small_arrays_are_not(monkeypatch):
    monkeypatch.setattr(buffers, "IDLE", 3_000_000)
    several = [empty(SHAPE, F4) for _ in range(5)]
    assert len({address(array) for array in several}) == 5
    del several
    assert sum(map(len, buffers._kept.idle)) <= 3_000_000
    assert buffers._kept.idle
    held = len(buffers._kept.idle)
    empty((10,), F4)
    empty((), F4)
    empty((0, 5), F4)
    assert len(buffers._kept.idle) == held


def test_a_much_larger_buffer_is_not_taken_for_a_small_array():
    large = empty((3000, 1000), F4)
    del large
    small = empty(SHAPE, F4)
    # Not its address, which the system may give out again.
    assert buffers._kept.used == small.nbytes


def test_in_all_there_is_never_more_than_was_in_use_at_some_time():
    rng = np.random.default_rng(0)
    held, most = [], 0
    for _ in range(300):
        if held and rng.random() < 0.5:
            held.pop(int(rng.integers(len(held))))
        else:
            held.append(empty((int(rng.integers(300_000, 3_000_000)),), F4))
        kept = buffers._kept
        most = max(most, kept.used)
        assert kept.used >= sum(array.nbytes for array in held)
        assert kept.used + sum(map(len, kept.idle)) <= most
    held.clear()
    assert buffers._kept.used == 0
