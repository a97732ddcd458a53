"""Compiled means have the bits of those that NumPy makes."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_hub import machinecode
from rebasin_hub.merge import blend, combine

pytest.importorskip("numba")

SPECIAL = [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 1e-40, 65504.0, 3.3e38, 1 + 2**-7]


@pytest.fixture(autouse=True)
def _for_any_size(monkeypatch):
    monkeypatch.setattr(machinecode, "WORTH", 0)


def by_numpy(arrays, weights):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(blend, "mean_of", lambda *_: None)
        return combine(arrays, weights, method="linear")


def values(rng, kind, size):
    """Bits of any kind, numbers of one magnitude, or what is special."""
    which = rng.integers(3)
    if which == 0:
        bits = rng.integers(0, 256, size * kind.itemsize, dtype=np.uint8).view(kind)
        with np.errstate(invalid="ignore"):  # signalling NaN
            return np.where(np.isfinite(bits), bits, 1).astype(kind)
    if which == 1:
        return rng.standard_normal(size).astype(kind)
    return rng.choice(np.array(SPECIAL[:6] + SPECIAL[7:]), size).astype(kind)


@given(
    st.integers(0, 2**32),
    st.sampled_from([np.float32, ml_dtypes.bfloat16]),
    st.integers(2, 4),
    st.sampled_from([None, (0.5, 0.5), (0.75, 0.25), (1.5, -0.5)]),
)
def test_every_bit_is_the_same(seed, kind, count, shares):
    rng = np.random.default_rng(seed)
    if shares is None:
        drawn = rng.random(count)
        weights = tuple(map(float, drawn / drawn.sum()))
    else:
        weights = (*shares, *[0.0] * (count - 2))
    arrays = [values(rng, np.dtype(kind), 20_000) for _ in weights]
    with np.errstate(all="ignore"):
        found, expected = combine(arrays, weights, method="linear"), by_numpy(arrays, weights)
    assert found.tobytes() == expected.tobytes()


def test_bfloat16_is_rounded_once():
    """1 + 2⁻⁸ + 2⁻³⁰ lies above a tie; its nearest float32 lies on it."""
    bf16 = ml_dtypes.bfloat16
    a, b = np.array([1.0], bf16), np.array([1 + 2.0**-7], bf16)
    weights = (0.5 - 2.0**-23, 0.5 + 2.0**-23)
    assert combine([a, b], weights, method="linear")[0] == bf16(1 + 2.0**-7)
    assert combine([a, b], (0.5, 0.5), method="linear")[0] == bf16(1)  # to even


def test_a_piece_with_nan_keeps_the_bits_of_numpy():
    bits = np.arange(40_000, dtype=np.uint32) * np.uint32(107_357) | np.uint32(0x7F800001)
    a = bits.view(np.float32).copy()
    b = np.linspace(-1, 1, a.size, dtype=np.float32)
    found = combine([a, b], (0.25, 0.75), method="linear")
    assert found.tobytes() == by_numpy([a, b], (0.25, 0.75)).tobytes()


@pytest.mark.parametrize("kind", [np.float32, ml_dtypes.bfloat16])
def test_the_result_may_take_the_memory_of_an_array(kind):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(50_000).astype(kind) for _ in range(3)]
    expected = combine(arrays, (0.2, 0.5, 0.3), method="linear").tobytes()
    found = combine(arrays, (0.2, 0.5, 0.3), method="linear", reuse=True)
    assert found.tobytes() == expected
    assert found is arrays[0]
