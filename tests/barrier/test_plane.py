"""Coordinates on the plane through three models."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_hub.pipeline.barrier.plane import Plane

planes = st.builds(
    Plane,
    b=st.floats(0.1, 100),
    c=st.tuples(st.floats(-100, 100), st.floats(0.1, 100)),
)


@given(planes)
def test_corners_are_the_models(plane):
    for number, (x, y) in enumerate(plane.corners):
        expected = np.eye(3)[number]
        assert plane.weights(x, y) == pytest.approx(expected, abs=1e-9)


@given(planes, st.floats(-10, 10), st.floats(-10, 10))
def test_weights_sum_to_one_and_lead_to_the_point(plane, x, y):
    weights = plane.weights(x, y)
    assert sum(weights) == pytest.approx(1, abs=1e-6)
    found = np.asarray(weights) @ np.asarray(plane.corners)
    assert found == pytest.approx((x, y), abs=1e-6)


@given(planes)
def test_a_grid_has_the_models_inside(plane):
    xs, ys = plane.grid(9)
    for x, y in plane.corners:
        assert xs[0] < x < xs[-1]
        assert ys[0] < y < ys[-1]
