"""Barriers of arrays of curves, their bootstrap intervals, and calibration by temperature."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rebasin_hub.barrier import (
    TEMPERATURES,
    Curve,
    Scores,
    calibrated,
    entezari,
    frankle,
    grid,
    joined,
    resampled,
)

POINTS = grid(5)
losses = arrays(np.float64, (5,), elements=st.floats(0, 10, width=16))


@given(losses)
def test_both_definitions_by_hand(curve):
    a, b = curve[0], curve[-1]
    over_line = [loss - ((1 - x) * a + x * b) for x, loss in zip(POINTS, curve, strict=True)]
    assert entezari(POINTS, curve) == pytest.approx(max(over_line), abs=1e-12)
    assert frankle(curve) == pytest.approx(max(curve) - (a + b) / 2, abs=1e-12)
    assert Curve(POINTS, tuple(curve)).entezari == entezari(POINTS, curve)
    assert Curve(POINTS, tuple(curve)).frankle == frankle(curve)


@given(losses)
def test_ends_of_equal_loss_make_the_definitions_one(curve):
    curve[-1] = curve[0]
    assert entezari(POINTS, curve) == pytest.approx(float(frankle(curve)), abs=1e-12)


@given(losses, st.floats(0, 100, width=16), st.floats(0, 100, width=16))
def test_a_barrier_ignores_what_is_linear_along_the_line(curve, offset, slope):
    shifted = curve + offset + slope * np.asarray(POINTS)
    assert entezari(POINTS, shifted) == pytest.approx(float(entezari(POINTS, curve)), abs=1e-9)


# Bootstrap


def hill(samples: int, height: float, seed: int) -> np.ndarray:
    """Return losses of samples: a parabola of this height, and noise of deviation one."""
    x = np.asarray(POINTS)[:, None]
    return 4 * height * x * (1 - x) + np.random.default_rng(seed).normal(size=(5, samples)) + 10


def test_means_are_those_of_all_predictions():
    curve, counts = hill(100, 1.0, 0), np.random.default_rng(1).integers(1, 9, 100).astype(float)
    found = resampled(POINTS, [curve], counts, draws=10)
    np.testing.assert_allclose(found.means[0], curve.sum(1) / counts.sum())


def test_an_interval_holds_the_true_barrier_as_often_as_it_says():
    held = 0
    for trial in range(100):
        found = resampled(POINTS, [hill(200, 3.0, trial)], np.ones(200), draws=200, seed=trial)
        interval = found.entezari(0)
        assert interval.low <= interval.value <= interval.high
        held += interval.low <= 3.0 <= interval.high
    assert 88 <= held <= 100


def test_an_interval_is_as_wide_as_the_mean_is_uncertain():
    # Only the middle point varies: its mean's standard error is 1/√n, and 2·1.96 of them.
    curve = np.full((3, 400), 1.0)
    curve[1] = 5 + np.random.default_rng(0).normal(size=400)
    interval = resampled(grid(3), [curve], np.ones(400), draws=2000).entezari(0)
    # Poisson draws leave their number free, but means do not depend on it to first order.
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / 20, rel=0.1)


def test_curves_share_their_draws():
    curve = hill(50, 2.0, 0)
    found = resampled(POINTS, [curve, curve, 0.5 * curve], np.ones(50), draws=100)
    same = found.removed(0, 1)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    half = found.removed(0, 2)
    assert half.low == pytest.approx(0.5)
    assert half.high == pytest.approx(0.5)


def test_the_seed_decides_the_draws_and_nothing_else():
    curve = hill(50, 2.0, 0)
    one, same, other = (
        resampled(POINTS, [curve], np.ones(50), draws=50, seed=seed).frankle(0)
        for seed in (0, 0, 1)
    )
    assert one == same
    assert one.value == other.value
    assert one.low != other.low


def test_undefined_figures_are_nan():
    flat, infinite = np.ones((5, 10)), np.full((5, 10), np.inf)
    found = resampled(POINTS, [flat, infinite], np.ones(10), draws=20)
    assert np.isnan(found.removed(0, 0).value)
    overflowed = found.entezari(1)
    assert np.isnan([overflowed.low, overflowed.high]).all()


# Temperature


def scores_of(logits: np.ndarray, labels: np.ndarray) -> Scores:
    each = []
    for temperature in TEMPERATURES:
        z = logits / temperature
        each.append(np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), labels])
    tempered = np.stack(each)
    wrong = (logits.argmax(1) != labels).astype(float)
    return Scores(tempered[TEMPERATURES.index(1.0)], wrong, np.ones(len(labels)), tempered)


def confident(scale: float, samples: int = 4000) -> Scores:
    """Return scores of logits whose own probabilities the labels follow, times a scale."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(samples, 4))
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = np.array([rng.choice(4, p=share) for share in shares])
    return scores_of(scale * logits, labels)


@pytest.mark.parametrize("scale", [0.25, 1.0, 4.0])
def test_calibration_finds_the_scale_of_the_logits(scale):
    before = confident(scale)
    after, temperature = calibrated(before)
    assert temperature == pytest.approx(scale, rel=0.15)
    assert after.loss == pytest.approx(confident(1.0).loss, rel=0.01)
    assert after.error == before.error
    assert after.loss <= before.loss + 1e-3


def test_no_sample_has_a_say_in_its_own_temperature():
    before = confident(4.0, 100)
    worse = before.tempered.copy()
    worse[:, 3::10] = 1e3 * before.tempered[::-1, 3::10]  # these alone want another temperature
    after, _ = calibrated(Scores(before.losses, before.errors, before.counts, worse))
    others = int(np.argmin(np.delete(worse, np.s_[3::10], axis=1).sum(1)))
    everyone = int(np.argmin(worse.sum(1)))
    assert others != everyone
    np.testing.assert_array_equal(after.losses[3::10], worse[others, 3::10])


def test_temperatures_that_overflow_are_passed_over():
    before = confident(1.0, 100)
    broken = before.tempered.copy()
    broken[:5] = np.inf
    broken[-5:] = np.nan
    after, temperature = calibrated(Scores(before.losses, before.errors, before.counts, broken))
    assert np.isfinite(after.losses).all()
    assert temperature == pytest.approx(1.0, rel=0.3)


def test_without_logits_there_is_no_temperature():
    with pytest.raises(ValueError, match="without logits"):
        calibrated(Scores(np.ones(4), np.zeros(4), np.ones(4)))


def test_batches_join_in_order():
    whole = confident(1.0, 30)
    parts = [
        Scores(
            whole.losses[part],
            whole.errors[part],
            whole.counts[part],
            whole.tempered[:, part],
        )
        for part in (slice(0, 7), slice(7, 30))
    ]
    again = joined(parts)
    for name in ("losses", "errors", "counts", "tempered"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
