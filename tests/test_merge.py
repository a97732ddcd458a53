"""Merging one tensor of several models."""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from rebasin_hub.errors import InputError
from rebasin_hub.merge import METHODS, combine, linear, normalized, overflowed, slerp
from rebasin_hub.tensors import DTYPES

FLOATING = [dtype.numpy for dtype in DTYPES.values() if dtype.floating]
raw = hnp.arrays(np.uint8, 48)
weights = st.lists(st.floats(0, 1), min_size=2, max_size=4).filter(lambda w: sum(w) > 0.01)


def models(*values, dtype=np.float32):
    return [np.array(value, dtype) for value in values]


@given(raw, st.sampled_from(FLOATING), weights, st.sampled_from(sorted(METHODS)))
def test_equal_models_give_themselves_back(data, dtype, weights, method):
    array = data.view(dtype)
    count = 2 if method == "slerp" else len(weights)
    shares = normalized(weights[:count] if sum(weights[:count]) else None, count)
    assert combine([array] * count, shares, method=method).tobytes() == array.tobytes()


@given(raw, raw, st.sampled_from(FLOATING), st.sampled_from(sorted(METHODS)), st.integers(0, 1))
def test_a_model_with_all_the_weight_is_the_result(data, other, dtype, method, heavy):
    arrays = [data.view(dtype), other.view(dtype)]
    merged = combine(arrays, [1.0 - heavy, 0.0 + heavy], method=method)
    assert merged.tobytes() == arrays[heavy].tobytes()


@pytest.mark.parametrize(
    ("bits", "kind", "dtype"),
    [
        (0x7FC1, np.uint16, ml_dtypes.bfloat16),
        (0x7F812345, np.uint32, np.float32),
        (0x7D01, np.uint16, np.float16),
        (0x7FF0000000000001, np.uint64, np.float64),
    ],
)
def test_the_payload_of_a_nan_is_kept(bits, kind, dtype):
    array = np.array([bits], kind).view(dtype)
    merged = combine([array, array.copy()], [0.5, 0.5], method="linear")
    assert merged.view(kind)[0] == bits


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_sums_that_are_no_means_keep_equal_infinities_too(dtype):
    arrays = [np.array([np.inf, -np.inf, -0.0, n], dtype) for n in (1.0, 2.0, 3.0)]
    merged = combine(arrays, [0.5, 1.0, 1.0], method="linear").astype(np.float64)
    assert merged.tolist() == [np.inf, -np.inf, 0.0, 5.5]
    assert not np.signbit(merged[2])  # as a sum that starts at zero, whatever stands beside it


@given(raw, raw, st.sampled_from(FLOATING), st.sampled_from(["F16", "BF16", "F32", "F64"]))
def test_infinities_and_nan_are_merged_without_a_warning(data, other, dtype, target):
    stored = "C64" if dtype == np.complex64 else target
    for method in METHODS:  # warnings are errors here
        combine([data.view(dtype), other.view(dtype)], [0.25, 0.75], method=method, dtype=stored)


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


@pytest.mark.parametrize("method", METHODS)
def test_ends_of_the_path_are_the_models_in_another_type_too(method):
    a, b = models([1.0, -0.0], [0.5, 3.0])
    first = combine([a, b], [1.0, 0.0], method=method, dtype="F64")
    assert first.tobytes() == a.astype(np.float64).tobytes()
    second = combine([b, a], [0.0, 1.0], method=method, dtype="BF16")
    assert second.tobytes() == a.astype(ml_dtypes.bfloat16).tobytes()


@pytest.mark.parametrize("share", [0.25, 0.5])
def test_slerp_of_complex_arrays_is_slerp_of_their_real_and_imaginary_parts(share):
    a, b = np.random.default_rng(0).normal(size=(2, 3, 4, 2)).astype(np.float32)
    arrays = [np.asfortranarray(v.view(np.complex64)[..., 0]) for v in (a, b)]
    merged = combine(arrays, [1 - share, share], method="slerp")
    assert merged.dtype == np.complex64
    parts = np.stack([merged.real, merged.imag], axis=-1)
    assert np.array_equal(parts, combine([a, b], [1 - share, share], method="slerp"))


@pytest.mark.parametrize("others", [np.float32, np.float64])
def test_an_imaginary_part_is_kept_beside_real_models(others):
    arrays = [np.array([2.0, 4.0], others), np.array([4j, np.inf + 2j], np.complex64)]
    merged = combine(arrays, [0.5, 0.5], method="linear", dtype="C64")
    assert np.array_equal(merged, [1 + 2j, np.inf + 1j])
    scalar = combine([a[0, ...] for a in arrays], [0.5, 0.5], method="linear", dtype="C64")
    assert scalar.shape == ()
    assert scalar == 1 + 2j


@pytest.mark.parametrize(("dtype", "named"), [(None, "F32"), ("F16", "F16")])
def test_an_imaginary_part_is_never_dropped(dtype, named):
    arrays = [np.ones(2, np.float32), np.array([1j, 2j], np.complex64)]
    with pytest.raises(InputError, match=f"complex values cannot be merged into '{named}'"):
        combine(arrays, [0.5, 0.5], method="linear", dtype=dtype)


def test_overflow_is_counted_where_every_model_was_finite():
    arrays = models([7e4, 1.0, np.inf, np.nan, -7e4], [7e4, 1.0, 7e4, 1.0, -6.9e4])
    assert overflowed(arrays, combine(arrays, [0.5, 0.5], method="linear", dtype="F16")) == 2
    assert overflowed(arrays, combine(arrays, [0.5, 0.5], method="linear", dtype="BF16")) == 0
    far = models([3e38], [-3e38])  # the difference is too large for float32, but not for float64
    assert combine(far, [0.5, 0.5], method="linear").tolist() == [0.0]
    farther = [array.astype(np.float64) * 5e269 for array in far]
    assert overflowed(farther, combine(farther, [0.5, 0.5], method="linear")) == 1


@pytest.mark.parametrize("kind", [np.float32, np.float16, ml_dtypes.bfloat16])
def test_halves_are_the_nearest_values_that_can_be_stored(kind):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=100_000).astype(kind) for _ in range(2))
    exact = (a.astype(np.float64) + b.astype(np.float64)) / 2
    merged = combine([a, b], [0.5, 0.5], method="linear").astype(np.float64)
    for neighbor in (np.inf, -np.inf):
        other = np.nextafter(merged.astype(kind), kind(neighbor)).astype(np.float64)
        assert np.all(np.abs(merged - exact) <= np.abs(other - exact))


def test_overflow_of_integers_and_small_types_is_counted():
    assert overflowed([np.array([3])] * 2, np.array([3])) == 0
    arrays = models([500.0], [700.0])
    merged = combine(arrays, [0.5, 0.5], method="linear", dtype="F8_E4M3")
    assert overflowed(arrays, merged) == 1  # this type has no infinity, but NaN


def rounded(value, bits, smallest):
    """Round half to even to so many bits, of 2**smallest at least, in exact arithmetic."""
    step = Fraction(2) ** max(math.frexp(value)[1] - bits, smallest)
    return math.copysign(float(round(Fraction(value) / step) * step), value)


near_ties = st.builds(
    # The last bits of float64 decide where the ones before them say "half way".
    lambda whole, tie, last, exponent: math.ldexp(whole + tie / 2 + last * 2.0**-40, exponent),
    st.integers(-2048, 2048),
    st.integers(0, 1),
    st.integers(-2, 2),
    st.integers(-160, 4),
)


@given(near_ties | st.floats(-6e4, 6e4))
@example(1 + 2**-8 + 2**-30)
@example(2.0**-134 + 2.0**-180)
@pytest.mark.parametrize(("dtype", "bits", "smallest"), [("BF16", 8, -133), ("F16", 11, -24)])
def test_float64_is_rounded_once(dtype, bits, smallest, value):
    arrays = [np.array([value])] * 2
    merged = combine(arrays, [0.5, 0.5], method="linear", dtype=dtype)
    expected = np.array([rounded(value, bits, smallest)])
    assert merged.astype(np.float64).tobytes() == expected.tobytes()


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
        (lambda: normalized([1.0], 2), "2 models take 2 weights, and not 1"),
        (lambda: normalized([0.0, 0.0], 2), "positive sum"),
        (lambda: normalized([2.0, -1.0], 2), "must not be negative"),
        (lambda: normalized([float("nan"), 1.0], 2), "positive sum"),
        (lambda: combine(models(1, 2), [0.5, 0.5], method="ties"), "unknown merge method 'ties'"),
        (lambda: combine(models(1), [1.0], method="linear"), "two models or more"),
        (
            lambda: combine(models(1, 2, 3), [1 / 3] * 3, method="slerp"),
            "slerp merges two models, 3 were given",
        ),
    ],
)
def test_bad_recipes_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F64"])
def test_a_tensor_may_be_merged_in_any_stretches(monkeypatch, method, dtype):
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(7, 5)).astype(DTYPES[dtype].numpy) for _ in range(2)]
    whole = combine(arrays, [0.25, 0.75], method=method)
    monkeypatch.setattr("rebasin_hub.merge.blend.STRETCH", 4)
    parts = combine(arrays, [0.25, 0.75], method=method)
    assert parts.shape == whole.shape
    assert np.allclose(parts.astype(float), whole.astype(float), rtol=1e-6, atol=0)
