"""The grid of a simplex and the barrier on it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_hub.barrier import grid
from rebasin_hub.pipeline.connect.simplex import simplex_barrier, simplex_grid, triples

intervals = st.integers(1, 20)
losses = st.floats(0, 10)


@given(intervals)
def test_the_grid_holds_every_multiple_once(count):
    found = np.asarray(simplex_grid(count))
    assert found.shape == ((count + 1) * (count + 2) // 2, 3)
    assert (found >= -1e-12).all()
    assert found.sum(1) == pytest.approx(np.ones(len(found)))
    rounded = np.rint(found * count)
    assert found * count == pytest.approx(rounded, abs=1e-9)
    assert len({tuple(row) for row in rounded}) == len(found)
    assert {(1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)} <= set(map(tuple, found))


@given(intervals)
def test_edges_are_the_points_of_a_line_to_the_bit(count):
    found = set(simplex_grid(count))
    for x in grid(count + 1):
        assert {(1 - x, x, 0.0), (1 - x, 0.0, x), (0.0, 1 - x, x)} <= found


@given(intervals, st.tuples(losses, losses, losses))
def test_a_loss_that_is_a_plane_has_no_barrier(count, corners):
    weights = simplex_grid(count)
    value, _ = simplex_barrier(weights, np.asarray(weights) @ np.asarray(corners))
    assert value == pytest.approx(0, abs=1e-9)


@given(st.integers(1, 5), st.tuples(losses, losses, losses), st.floats(0.5, 5))
def test_the_barrier_is_the_height_of_a_hill_above_that_plane(thirds, corners, height):
    weights = simplex_grid(3 * thirds)
    alpha = np.asarray(weights)
    hill = height * 27 * alpha.prod(axis=1)  # highest in the middle
    rows = np.stack([alpha @ np.asarray(corners) + hill, np.zeros(len(weights))])
    values, places = simplex_barrier(weights, rows)
    assert values == pytest.approx([height, 0])
    assert weights[places[0]] == pytest.approx([1 / 3, 1 / 3, 1 / 3])


def test_of_few_models_all_triples_are_measured_and_of_many_the_first():
    assert triples(2) == []
    assert triples(3) == [(0, 1, 2)]
    assert len(triples(5)) == 10
    assert triples(6) == [(0, 1, 2)]
