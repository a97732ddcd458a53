"""Casts: every number rounded once, to the nearest, and every loss counted."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_hub.pipeline.convert.cast import CASTABLE, cast
from rebasin_hub.tensors import DTYPES

NARROW = [name for name in CASTABLE if name != "F64"]
BITS = st.integers(0, 2**64 - 1).map(lambda n: np.array([n], np.uint64).view(np.float64))
NEAR = st.floats(-500, 500, width=64).map(lambda x: np.array([x]))


def grid(kind: np.dtype) -> list[float]:
    """Return all finite values of a type with at most 16 bits."""
    every = np.arange(2 ** (8 * kind.itemsize), dtype=f"u{kind.itemsize}").view(kind)
    with np.errstate(invalid="ignore"):  # signalling NaNs
        values = every.astype(np.float64)
    return sorted(set(values[np.isfinite(values)].tolist()))


GRID = {name: grid(DTYPES[name].numpy) for name in NARROW if name != "F32"}


@pytest.mark.parametrize("dtype", list(GRID))
@given(x=BITS | NEAR)
def test_the_nearest_number_is_taken(dtype: str, x: np.ndarray):
    result, found = cast(x, dtype, "x")
    value, got = float(x[0]), float(result.astype(np.float64)[0])
    values = GRID[dtype]
    if not np.isfinite(value):
        assert np.isnan(got) if np.isnan(value) else not np.isfinite(got)
        return
    if found.overflowed:
        step = values[-1] - values[-2]
        assert abs(value) >= values[-1] + step / 2
        return
    place = int(np.searchsorted(values, value))
    around = values[max(place - 1, 0) : place + 1]
    distance = {n: abs(Fraction(n) - Fraction(value)) for n in around}
    assert distance[got + 0.0] == min(distance.values())
    if len({*distance.values()}) < len(distance):  # in the middle: the last bit is even
        assert int(result.view(f"u{result.itemsize}")[0]) % 2 == 0


def test_nothing_is_rounded_twice():
    # Beside the middle of two neighbours, by less than float32 can tell.
    middle, little = 1 + 2.0**-8, 2.0**-40
    x = np.array([middle + little, -middle - little, middle, middle - little, little - middle])
    result, _ = cast(x, "BF16", "x")
    assert result.astype(float).tolist() == [1 + 2.0**-7, -1 - 2.0**-7, 1.0, 1.0, -1.0]
    middle = 1 + 3 * 2.0**-8  # where the even neighbour is the upper one
    result, _ = cast(np.array([middle - little, middle, middle + little]), "BF16", "x")
    assert result.astype(float).tolist() == [1 + 2.0**-7, 1 + 2.0**-6, 1 + 2.0**-6]


@pytest.mark.parametrize(("narrow", "wide"), [("F16", "F32"), ("BF16", "F32"), ("F32", "F64"),
                                              ("F8_E4M3", "F16"), ("F16", "F64")])  # fmt: skip
def test_wider_and_back_gives_the_same_bits(narrow: str, wide: str):
    kind = DTYPES[narrow].numpy
    rng = np.random.default_rng(1)
    array = rng.integers(0, 256, 4096 * kind.itemsize, np.uint8).view(kind).reshape(64, 64)
    there, first = cast(array, wide, "x")
    back, second = cast(there, narrow, "x")
    with np.errstate(invalid="ignore"):  # signalling NaNs
        nan = np.isnan(array.astype(np.float64))
    bits = f"u{kind.itemsize}"
    assert first.exact
    assert second.exact
    assert np.array_equal(back.view(bits)[~nan], array.view(bits)[~nan])
    assert np.isnan(back.astype(np.float64)[nan]).all()


def test_every_loss_is_counted():
    x = np.array([[1e6, -1e6, np.inf, np.nan, 0.0], [1e-9, -1e-9, 1 / 3, 1.5, -0.0]], np.float32)
    result, found = cast(x, "F16", "w")
    assert (found.tensor, found.before, found.after, found.size) == ("w", "F32", "F16", 10)
    assert (found.overflowed, found.underflowed, found.rounded) == (2, 2, 1)
    third = float(np.float32(1 / 3))
    assert found.largest_error == abs(float(np.float16(third)) - third) / third
    assert not found.exact
    assert result.shape == (2, 5)
    assert np.signbit(result[1, 4])


def test_large_arrays_are_counted_whole():
    x = np.full(600_001, 1 / 3, np.float32)
    x[-1] = 1e30
    _, found = cast(x, "F16", "w")
    assert (found.rounded, found.overflowed) == (600_000, 1)


def test_scalars_and_empty_arrays():
    assert cast(np.array(1 / 3), "BF16", "x")[0].shape == ()
    assert cast(np.zeros((0, 3)), "BF16", "x")[1].exact
