"""Greedy matching: the pairing itself, and the descent that uses it."""

from __future__ import annotations

import numpy as np
import pytest
from align_kinds import KINDS, literal_objective, mlp, planted, random_weights
from hypothesis import given, settings
from hypothesis import strategies as st

from rebasin_hub.align import Watch, align
from rebasin_hub.align.greedy import greedy_pairs


def literal_pairs(similarity):
    """Take the largest entry, strike its row and its column out, and so on."""
    left = similarity.astype("f8")
    columns = np.empty(len(left), dtype=np.int64)
    for _ in range(len(left)):
        i, j = np.unravel_index(left.argmax(), left.shape)
        columns[i] = j
        left[i], left[:, j] = -np.inf, -np.inf
    return columns


@given(size=st.integers(1, 40), seed=st.integers(0, 2**32 - 1), rank_one=st.booleans())
def test_pairs_are_those_of_the_literal_algorithm(size, seed, rank_one):
    rng = np.random.default_rng(seed)
    similarity = rng.normal(size=(size, size))
    if rank_one:
        similarity = np.multiply.outer(*np.exp(similarity[:, :1].repeat(2, 1)).T)
        similarity *= np.exp(1e-6 * rng.normal(size=(size, size)))
    np.testing.assert_array_equal(greedy_pairs(similarity), literal_pairs(similarity))


@given(size=st.integers(1, 30), seed=st.integers(0, 2**32 - 1), levels=st.integers(1, 4))
def test_among_ties_no_entry_is_larger_than_both_pairs_that_it_would_break(size, seed, levels):
    similarity = np.random.default_rng(seed).integers(0, levels, size=(size, size)).astype("f4")

    columns = greedy_pairs(similarity)

    assert sorted(columns) == list(range(size))
    of_row = similarity[np.arange(size), columns]
    of_column = of_row[np.argsort(columns)]
    assert (similarity <= np.maximum(of_row[:, None], of_column[None, :])).all()


def test_units_that_are_all_alike_stay_in_their_places():
    np.testing.assert_array_equal(greedy_pairs(np.zeros((5, 5), "f4")), np.arange(5))
    similarity = np.zeros((4, 4))
    similarity[0, 2] = 1
    np.testing.assert_array_equal(greedy_pairs(similarity), [2, 1, 0, 3])


def test_the_greatest_entry_is_taken_though_it_spoils_the_sum():
    assert greedy_pairs(np.array([[1.0, 0.9], [0.9, 0.0]])).tolist() == [0, 1]


@given(kind=st.sampled_from(sorted(KINDS)), size=st.integers(2, 6), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_the_objective_never_falls_and_is_the_true_one(kind, size, seed):
    binding = KINDS[kind](size)
    rng = np.random.default_rng(seed)
    a, b = random_weights(binding, rng), random_weights(binding, rng)
    start = binding.group.random(rng) if rng.random() < 0.5 else None
    watch = Watch()

    found = align(binding, a.__getitem__, b.__getitem__, method="greedy", start=start, watch=watch)

    binding.group.check(found.element)
    begin = start or binding.group.identity()
    tolerance = 1e-10 * found.norm_a * found.norm_b
    at_start = literal_objective(binding, begin, a, b.__getitem__)
    true = literal_objective(binding, found.element, a, b.__getitem__)
    assert found.history[0] == pytest.approx(at_start, abs=tolerance)
    assert found.objective == pytest.approx(true, abs=tolerance)
    assert list(found.history) == sorted(found.history)
    assert found.history[-1] == found.restarts[0] == found.objective
    assert found.converged
    assert binding.group.equal(watch.best, found.element)
    nested = [name for name in binding.group.factors if binding.group.children[name]]
    assert bool(found.notes) == bool(nested)


@given(size=st.integers(1, 60), seed=st.integers(0, 2**32 - 1))
def test_the_units_of_a_renumbered_copy_are_found(size, seed):
    """No product of two units is larger than both their squares, so that greed is right."""
    rng = np.random.default_rng(seed)
    units = rng.lognormal(size=(size, 1)) * rng.normal(size=(size, 7))
    order = rng.permutation(size)

    np.testing.assert_array_equal(greedy_pairs(units[order] @ units.T), order)


def test_it_is_worse_than_the_exact_assignment_on_the_whole():
    behind = []
    for seed in range(8):
        binding = mlp(24)
        rng = np.random.default_rng(seed)
        a, b = random_weights(binding, rng), random_weights(binding, rng)
        greedy, exact = (
            align(binding, a.__getitem__, b.__getitem__, method=method, restarts=1)
            for method in ("greedy", "weight")
        )
        assert greedy.objective > greedy.start_objective
        behind.append(exact.objective - greedy.objective)
    assert np.mean(behind) > 0


def test_without_time_the_start_comes_back():
    binding = mlp()
    a, b, _ = planted(binding, np.random.default_rng(0))
    start = binding.group.random(np.random.default_rng(1))
    found = align(
        binding,
        a.__getitem__,
        b.__getitem__,
        method="greedy",
        start=start,
        watch=Watch(seconds=0),
    )
    assert binding.group.equal(found.element, start)
    assert not found.converged


def test_it_runs_on_torch_too():
    binding = mlp(12)
    rng = np.random.default_rng(0)
    a, b = random_weights(binding, rng), random_weights(binding, rng)
    found, other = (
        align(binding, a.__getitem__, b.__getitem__, method="greedy", device=device)
        for device in ("cpu", "cpu:torch")
    )
    assert binding.group.equal(found.element, other.element)
    assert found.objective == pytest.approx(other.objective)
