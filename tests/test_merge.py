"""Merging one tensor of several models."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rebasin_hub.errors import InputError
from rebasin_hub.merge import METHODS, combine, linear, normalized, slerp

TYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
raw = hnp.arrays(np.uint8, 48)
weights = st.lists(st.floats(0, 1), min_size=2, max_size=4).filter(lambda w: sum(w) > 0.01)


@given(raw, st.sampled_from(TYPES), weights, st.sampled_from(sorted(METHODS)))
def test_equal_models_give_themselves_back(data, dtype, weights, method):
    array = data.view(dtype)
    count = 2 if method == "slerp" else len(weights)
    shares = normalized(weights[:count] if sum(weights[:count]) else None, count)
    with np.errstate(all="ignore"):
        merged = combine([array] * count, shares, method=method)
    nan = np.isnan(array.astype(np.float64))
    bits = f"u{array.dtype.itemsize}"
    assert np.array_equal(merged.view(bits)[~nan], array.view(bits)[~nan])
    assert np.isnan(merged.astype(np.float64)[nan]).all()


@given(st.integers(0, 2**32), weights)
def test_linear_is_the_weighted_mean(seed, weights):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=(3, 4)) for _ in weights]
    shares = normalized(weights, len(arrays))
    expected = sum(w * a for w, a in zip(shares, arrays, strict=True))
    assert np.allclose(linear(arrays, shares), expected, rtol=0, atol=1e-12)


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_slerp_keeps_the_norm_and_divides_the_angle(seed, share):
    rng = np.random.default_rng(seed)
    a, b = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 50)))
    merged = slerp([a, b], [1 - share, share])
    angle = np.arccos(a @ b)
    assert np.linalg.norm(merged) == pytest.approx(1, abs=1e-12)
    assert a @ merged == pytest.approx(np.cos(share * angle), abs=1e-9)


def test_slerp_of_opposite_or_zero_vectors_is_linear():
    a = np.array([1.0, 2.0])
    assert np.array_equal(slerp([a, -a], [0.75, 0.25]), 0.5 * a)
    assert np.array_equal(slerp([a, 0 * a], [0.75, 0.25]), 0.75 * a)


def test_ends_of_the_line_are_the_models_themselves():
    a, b = np.array([1.0, -0.0], np.float32), np.array([0.1, 3.0], np.float32)
    assert combine([a, b], [1.0, 0.0], method="linear").tobytes() == a.tobytes()
    assert np.array_equal(combine([a, b], [0.0, 1.0], method="linear"), b)


def test_integers_are_kept_from_the_first_model():
    first, second = np.array([3, 4]), np.array([5, 6])
    assert np.array_equal(combine([first, second], [0.5, 0.5], method="linear"), first)


def test_the_stored_type_can_be_chosen():
    a, b = np.ones(3, np.float32), np.full(3, 2, ml_dtypes.bfloat16)
    merged = combine([a, b], [0.5, 0.5], method="linear", dtype="BF16")
    assert merged.dtype == ml_dtypes.bfloat16
    assert np.array_equal(merged.astype(np.float32), np.full(3, 1.5))


def test_small_types_are_summed_in_float32():
    # 1 + 2**-8 rounds to 1 in bfloat16, so a sum in that type would lose every difference.
    arrays = [np.ones(1, ml_dtypes.bfloat16), np.full(1, 1 + 2**-7, ml_dtypes.bfloat16)]
    merged = combine(arrays, [0.5, 0.5], method="linear", dtype="F32")
    assert merged[0] == 1 + 2**-8


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: normalized([1.0], 2), "1 weights for 2 models"),
        (lambda: normalized([0.0, 0.0], 2), "positive sum"),
        (lambda: normalized([2.0, -1.0], 2), "must not be negative"),
        (lambda: normalized([float("nan"), 1.0], 2), "positive sum"),
        (lambda: slerp([np.ones(1)] * 3, [1 / 3] * 3), "slerp merges two models, 3 were given"),
        (lambda: combine([np.ones(1)], [1.0], method="ties"), "unknown merge method 'ties'"),
    ],
)
def test_bad_recipes_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()
