"""Blocks lie in memory as products need them, and stay so."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from align_kinds import bound

from rebasin_hub.align.backend import select
from rebasin_hub.align.family import families, operand
from rebasin_hub.align.problem import memory_order, read_problem
from rebasin_hub.align.room import Room

devices = pytest.mark.parametrize("device", ["cpu", "cpu:torch"])


def kernels():
    text = """
name: kernels
permutations:
  first:
  second:
tensors:
  stem: first 3 5 5
  conv: second first 3 3
  head: 10 (second 4)
"""
    shapes = {"stem": (6, 3, 5, 5), "conv": (7, 6, 3, 3), "head": (10, 28)}
    return bound(text, shapes)


def laid_out(backend, shape, order, rng):
    """Return a NumPy array and its copy on the backend, which memory holds in an order."""
    array = rng.standard_normal(shape).astype(np.float32)
    there = backend.asarray(np.ascontiguousarray(array.transpose(order)))
    return array, backend.xp.permute_dims(there, tuple(int(n) for n in np.argsort(order)))


@devices
def test_units_of_kernels_are_rows_without_a_copy(device):
    if device != "cpu":
        pytest.importorskip("torch")
    binding, rng = kernels(), np.random.default_rng(0)
    weights = {
        str(t.names[()]): rng.standard_normal(t.shape).astype(np.float32) for t in binding.tensors
    }
    backend = select(device)
    problem, b = read_problem(binding, weights.__getitem__, weights.__getitem__, backend)

    for term in problem.terms:
        stored = weights[str(term.block.tensor.names[()])].reshape(term.block.shape)
        np.testing.assert_array_equal(backend.numpy(term.a), stored)
    assert [memory_order(term.block) for term in problem.terms] == [
        (0, 1, 2, 3),
        (0, 2, 3, 1),
        (1, 0, 2),
    ]
    for family in families(problem):
        for view in family.views:
            rows = operand(backend, b[view.term], view)
            assert backend.shares(rows, b[view.term])
            expected = np.moveaxis(backend.numpy(b[view.term]), view.active[0], 0)
            frozen = [n - (n > view.active[0]) + 1 for n in view.frozen]
            expected = expected.transpose(0, *frozen).reshape(len(expected), -1)
            np.testing.assert_array_equal(backend.numpy(rows), expected)


@devices
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_gathering_keeps_the_order_of_memory(device, order):
    if device != "cpu":
        pytest.importorskip("torch")
    rng, backend, room = np.random.default_rng(0), select(device), Room()
    array, there = laid_out(backend, (4, 5, 6), order, rng)
    for axis in range(3):
        index = rng.permutation(array.shape[axis])
        expected = np.take(array, index, axis=axis)
        for place in (None, room):
            found = backend.take(there, backend.asarray(index), axis, place)
            np.testing.assert_array_equal(backend.numpy(found), expected)
            in_order = backend.xp.permute_dims(found, order)
            assert backend._memory_order(in_order) is None
        room.clear()
        if backend.is_fastest(there, axis):
            assert axis == order[-1]
            backend.renumber_fastest(there, backend.asarray(index))
            np.testing.assert_array_equal(backend.numpy(there), expected)
            array = expected
    other, mirrored = laid_out(backend, (4, 5, 6), order[::-1], rng)
    assert backend.inner(there, mirrored) == pytest.approx(float((array * other).sum()), rel=1e-5)


@devices
@pytest.mark.parametrize("turned", list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("kinds", [("f4", "f4", "f4"), ("f8", "f8", "f8"), ("f8", "f4", "f4")])
def test_products_are_added_in_place(device, turned, kinds):
    if device != "cpu":
        pytest.importorskip("torch")
    rng, backend = np.random.default_rng(0), select(device)
    total = backend.asarray(rng.standard_normal((5, 6)).astype(kinds[0]))
    a, b = (
        rng.standard_normal((n, 3)).astype(kind) for n, kind in zip((5, 6), kinds[1:], strict=True)
    )
    expected = backend.numpy(total) + a.astype(np.float64) @ b.T.astype(np.float64)
    rows = [
        backend.asarray(np.ascontiguousarray(x.T)).T if turn else backend.asarray(x)
        for x, turn in zip((a, b), turned, strict=True)
    ]

    backend.add_product(total, *rows)

    np.testing.assert_allclose(backend.numpy(total), expected, rtol=1e-5)


def test_room_is_used_again_and_never_twice_at_a_time():
    room = Room()
    fresh = room.array((5, 6), np.float32)
    room.clear()
    first, second = room.array((2, 3), np.float32), room.array((1,), np.float64)
    first[:], second[:] = 1, 2
    assert (first == 1).all()
    assert not np.may_share_memory(first, fresh)
    assert not np.may_share_memory(first, second)
    room.clear()
    assert np.may_share_memory(room.array((6,), np.float32), first)
