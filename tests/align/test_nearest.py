"""Units that are matched without all of their products: exact, or not at all."""

from __future__ import annotations

import numpy as np
import pytest
from align_kinds import mlp, random_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from rebasin_hub.align import align, nearest, nested, similarity, totals
from rebasin_hub.align.backend import Backend, select
from rebasin_hub.align.family import View
from rebasin_hub.permute import Factor, Index, SymmetryGroup
from rebasin_hub.rearrange import rearranged

UNITS, WIDTH = 48, 2048


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Let few units be worth it, and go through all loops more than once."""
    monkeypatch.setattr(nearest, "LEAST_UNITS", 8)
    monkeypatch.setattr(nearest, "BLOCK", 20 * UNITS)
    monkeypatch.setattr(nearest, "CHUNK", 5 * WIDTH)


def matched(a: np.ndarray, b: np.ndarray, device: str = "cpu", cut: int = 700) -> Index | None:
    """Match units that are cut into two blocks, the second one with its units as columns."""
    backend = select(device)
    pairs = [
        tuple(backend.asarray(np.ascontiguousarray(x[:, :cut])) for x in (a, b)),
        tuple(backend.asarray(np.ascontiguousarray(x[:, cut:].T)).T for x in (a, b)),
    ]
    return nearest.nearest(backend, pairs)


def best(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return linear_sum_assignment(a.astype(np.float64) @ b.T.astype(np.float64), maximize=True)[1]


@pytest.mark.parametrize("device", ["cpu", "cpu:torch"])
@given(
    rng=st.builds(np.random.default_rng, st.integers(0, 2**32 - 1)),
    noise=st.sampled_from([0.0, 0.02, 0.1, 0.3]),
    kind=st.sampled_from(["f4", "f8"]),
    scale=st.sampled_from([1e-9, 1.0, 1e9]),
    spread=st.sampled_from([0.0, 1.0]),
)
@settings(max_examples=20, deadline=None)
def test_copies_with_noise_are_matched(*, device, rng, noise, kind, scale, spread):
    if device != "cpu":
        pytest.importorskip("torch")
    a = rng.standard_normal((UNITS, WIDTH)) * np.exp(spread * rng.standard_normal((UNITS, 1)))
    p = rng.permutation(UNITS)
    near = a + noise * np.linalg.norm(a, axis=1, keepdims=True) / np.sqrt(WIDTH) * (
        rng.standard_normal(a.shape)
    )
    a, b = (scale * a).astype(kind), (scale * near).astype(kind)[np.argsort(p)]

    found = matched(a, b, device)

    np.testing.assert_array_equal(found, p)
    np.testing.assert_array_equal(best(a, b), p)


def test_strangers_are_given_up_before_norms_are_taken(monkeypatch):
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((UNITS, WIDTH), np.float32) for _ in range(2))
    monkeypatch.setattr(nearest._Units, "of", None)

    assert matched(a, b) is None


@given(seed=st.integers(0, 2**32 - 1), twins=st.integers(0, 6), kept=st.sampled_from([0.0, 0.3]))
@settings(max_examples=60, deadline=None)
def test_what_samples_do_not_show_is_never_guessed(seed, twins, kept):
    """Some units of B are exchanged in all coordinates but those that are looked at."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((UNITS, WIDTH), np.float32)
    b = a + np.float32(0.05) * rng.standard_normal(a.shape, np.float32)
    hidden = np.ones(WIDTH, bool)
    needed = 512
    for width in range(1, needed):
        hidden[np.arange(width) * WIDTH // width] = False
    hidden |= rng.random(WIDTH) > 0.02 + kept
    index = np.arange(UNITS)
    chosen = rng.choice(UNITS, twins, replace=False)
    index[chosen] = rng.permutation(chosen)
    b[:, hidden] = b[index][:, hidden]

    found = matched(a, b)

    if found is not None:
        np.testing.assert_array_equal(found, best(a, b))


@pytest.mark.parametrize("apart", [0.003, 0.01, 0.03])
def test_differences_below_rounding_are_never_guessed(apart):
    """Two units differ in one coordinate that is looked at, by what float32 may lose in a sum."""
    for seed in range(150):
        rng = np.random.default_rng(seed)
        a = rng.standard_normal((UNITS, WIDTH), np.float32)
        a[7] = a[3]
        a[7, 0] += np.float32(apart)
        p = rng.permutation(UNITS)

        found = matched(a, a[np.argsort(p)])

        assert found is None or np.array_equal(found, p)


@pytest.mark.parametrize("idle", [1, 3])
def test_units_that_are_zero_in_both_keep_their_order(idle):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((UNITS, WIDTH), np.float32)
    a[5 : 5 + idle] = 0
    p = rng.permutation(UNITS)
    p[[5, 0]] = p[[0, 5]] if p[0] == 5 else p[[5, 0]]
    b = a[np.argsort(p)]

    found = matched(a, b)

    live = a.any(axis=1)
    np.testing.assert_array_equal(found[live], p[live])
    assert sorted(found) == list(range(UNITS))
    unmoved = matched(a, a)
    np.testing.assert_array_equal(unmoved, np.arange(UNITS))
    b[p[6]] = 0 if idle == 1 else b[p[6]] + 1  # there is one more, or one less, in B
    assert matched(a, b) is None


def test_units_that_are_alike_are_not_told_apart():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((UNITS, WIDTH), np.float32)
    a[7] = a[3]

    assert matched(a, a) is None


def test_what_vanishes_when_squared_is_not_zero():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((UNITS, WIDTH))
    a[5] *= 1e-200

    assert matched(a, a) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e30])
def test_what_cannot_be_summed_is_not_proven(bad):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((UNITS, WIDTH), np.float32)
    b = a.copy()
    b[3, 4] = bad

    with np.errstate(all="ignore"):
        assert matched(a, b) is None


def test_products_of_less_than_float32_prove_nothing():
    torch = pytest.importorskip("torch")

    class Coarse(Backend):
        """Rounds its factors, as a device does that was told so."""

        def asarray(self, array: np.ndarray) -> torch.Tensor:
            return super().asarray(array).bfloat16().float()

    a = np.random.default_rng(0).standard_normal((UNITS, WIDTH), np.float32)
    exact = select("cpu:torch")
    assert nearest._is_exact(exact)
    assert nearest._is_exact(select("cpu"))
    assert not nearest._is_exact(Backend(exact.xp, "mps"))
    coarse = Coarse(exact.xp, exact.device)

    assert nearest.nearest(coarse, [(coarse.asarray(a), coarse.asarray(a))]) is None


def test_a_descent_makes_no_matrix_where_all_units_have_their_nearest(monkeypatch):
    binding = mlp(600)
    rng = np.random.default_rng(0)
    a, element = random_weights(binding, rng), binding.group.random(rng)
    read = rearranged(binding, binding.group.invert(element), a.__getitem__)
    b = {
        n: read(n) + np.float32(0.01) * rng.standard_normal(x.shape, np.float32)
        for n, x in a.items()
    }
    monkeypatch.setattr(nearest, "PROBED_WIDTH", 64)
    monkeypatch.setattr(nearest, "LEAST_SAVED", 1)
    usual = align(binding, a.__getitem__, b.__getitem__, start=element, restarts=1)
    monkeypatch.setattr(totals.Totals, "_made", None)

    found = align(binding, a.__getitem__, b.__getitem__, start=element, restarts=1)

    assert binding.group.equal(found.element, usual.element)
    assert binding.group.equal(found.element, element)
    assert found.objective == usual.objective


def test_a_family_alone_is_matched_without_all_products(monkeypatch):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((UNITS, WIDTH), np.float32)
    p = rng.permutation(UNITS)
    group = SymmetryGroup({"hidden": Factor(UNITS)})
    operand = similarity.Operand(View(0, ("hidden",), (0,)), a, a[np.argsort(p)])
    monkeypatch.setattr(nested, "solve_assignment", None)

    found = nested.solve_family(select("cpu"), group, [operand])

    np.testing.assert_array_equal(found["hidden"], p)
