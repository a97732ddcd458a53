"""Shares of layers that keep their mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_hub.errors import InputError
from rebasin_hub.merge import balanced

numbers = st.floats(-3, 3, allow_subnormal=False)
layers = st.lists(st.tuples(numbers, st.integers(1, 1000)), min_size=1, max_size=8)
fraction = st.floats(0, 1, allow_subnormal=False)


def mean_of(shares, sizes):
    return float(np.dot(shares, sizes)) / sum(sizes)


@given(layers, fraction)
def test_shares_have_their_mean_and_keep_their_order(given_layers, mean):
    values, sizes = zip(*given_layers, strict=True)
    shares = balanced(values, sizes, mean)
    assert ((shares >= 0) & (shares <= 1)).all()
    assert mean_of(shares, sizes) == pytest.approx(mean, abs=1e-9)
    assert (np.diff(shares[np.argsort(values)]) >= 0).all()


@given(layers, fraction)
def test_what_fits_stays_to_the_bit(given_layers, mean):
    values, sizes = zip(*given_layers, strict=True)
    shares = balanced(values, sizes, mean)
    again = balanced(shares, sizes, mean_of(shares, sizes))
    np.testing.assert_allclose(again, shares, rtol=0, atol=1e-9)
    same = np.full(len(sizes), mean)
    assert balanced(same, sizes, mean).tobytes() == same.tobytes()


@given(layers, fraction, st.integers(0, 2**32))
def test_no_other_shares_with_that_mean_are_nearer(given_layers, mean, seed):
    values, sizes = zip(*given_layers, strict=True)
    nearest = balanced(values, sizes, mean)
    other = balanced(np.random.default_rng(seed).uniform(-1, 2, len(values)), sizes, mean)
    apart = [float(np.dot(sizes, (x - np.array(values)) ** 2)) for x in (nearest, other)]
    assert apart[0] <= apart[1] + 1e-6 * sum(sizes)


@pytest.mark.parametrize(
    ("values", "mean"), [([], 0.5), ([np.nan], 0.5), ([np.inf], 0.5), ([0.5], 1.5), ([0.5], np.nan)]
)
def test_what_has_no_answer_is_refused(values, mean):
    with pytest.raises(InputError, match="expected finite numbers"):
        balanced(values, [1] * len(values), mean)
