"""Simulated annealing: moves, the Metropolis rule, cooling, and the best that is kept."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
from align_kinds import KINDS
from hypothesis import given
from hypothesis import strategies as st
from toy_evidence import PAIRS, Failing, aligned, loss_between, mlp_pair, toy

from rebasin_hub.align import Watch
from rebasin_hub.align.anneal import AnnealSettings, Swap, Walk, metropolis, temperature
from rebasin_hub.align.method import Models
from rebasin_hub.align.midpoint import Best, Line
from rebasin_hub.errors import InputError, NotFiniteError
from rebasin_hub.permute import Factor, SymmetryGroup

SHORT = "anneal:steps=80"


@pytest.mark.parametrize(("rise", "heat"), [(0.1, 0.2), (1.0, 0.5), (3e-4, 1e-3)])
def test_moves_uphill_are_taken_over_as_often_as_metropolis_says(rise, heat):
    rng = np.random.default_rng(0)
    taken = sum(metropolis(rise, heat, rng) for _ in range(20_000))

    assert taken / 20_000 == pytest.approx(math.exp(-rise / heat), abs=0.012)


@given(rise=st.floats(-1e300, 0), heat=st.floats(1e-12, 1e12))
def test_moves_that_do_not_lose_are_always_taken_over(rise, heat):
    assert metropolis(rise, heat, np.random.default_rng(0))


@dataclass(frozen=True)
class Linear:
    """A line whose loss is linear in one permutation of three units."""

    costs: np.ndarray
    values: np.ndarray
    move = SimpleNamespace(factors={"h"})

    def loss(self, element):
        return float(self.costs @ self.values[element["h"]])


def test_a_walk_at_one_temperature_visits_places_by_their_boltzmann_weights():
    line = Linear(np.array([0.0, 1.0, 2.5]), np.array([0.1, 0.5, 0.9]))
    group, steps, heat = SymmetryGroup({"h": Factor(3)}), 40_000, 1.0
    begin = group.identity()
    walk = Walk(line, group, begin, line.loss(begin), Best(Watch(), begin, 10.0))
    rng, visits = np.random.default_rng(0), Counter()
    for number in range(steps):
        walk.step(heat, rng, one=False, number=number)
        assert walk.energy == line.loss(walk.element)
        visits[tuple(walk.element["h"].tolist())] += 1

    places = list(itertools.permutations(range(3)))
    weights = [math.exp(-line.loss({"h": np.array(place)}) / heat) for place in places]
    for place, weight in zip(places, weights, strict=True):
        assert visits[place] / steps == pytest.approx(weight / sum(weights), abs=0.02)


@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 2**32 - 1))
def test_a_swap_is_an_element_that_is_its_own_inverse(kind, seed):
    group = KINDS[kind](3).group
    rng = np.random.default_rng(seed)
    element = group.random(rng)
    name = str(rng.choice([name for name in group.factors if group.factors[name].size > 1]))

    swap = Swap.draw(group, [name], rng)

    step, moved = group.identity(), {n: index.copy() for n, index in element.items()}
    i, k = swap.pair
    row = step[name][swap.above]
    row[i], row[k] = row[k], row[i]
    swap.apply(moved)
    group.check(moved)
    assert group.equal(moved, group.compose(step, element))
    assert not group.equal(moved, element)
    swap.apply(moved)
    assert group.equal(moved, element)


def test_it_cools_geometrically_from_hot_to_cold():
    settings = AnnealSettings(steps=5, hot=1.0, cold=1e-4)
    temperatures = [temperature(step, settings) for step in range(5)]
    assert temperatures == pytest.approx([1, 0.1, 0.01, 1e-3, 1e-4])
    assert temperature(0, AnnealSettings(steps=1, hot=1.0, cold=0.5)) == 1.0
    assert temperature(0, settings, 0.5) == temperature(2, settings)  # of a time limit
    assert temperature(3, settings, 0.5) == temperature(3, settings)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("moves", ["every", "one"])
def test_it_keeps_the_best_of_all_walks_by_its_own_goal(pair, moves):
    pair = PAIRS[pair]()
    binding = pair[0]
    start = binding.group.random(np.random.default_rng(0))

    found = aligned(pair, f"{SHORT},moves={moves},hot=0.1", start=start, restarts=2)

    binding.group.check(found.element)
    assert found.goal.end < found.goal.start
    assert found.goal.start == pytest.approx(loss_between(pair, start), rel=1e-5)
    assert found.goal.end == pytest.approx(loss_between(pair, found.element), rel=1e-5)
    assert found.goal.end == min(found.restarts)
    assert len(found.restarts) == 2
    assert found.restarts[0] != found.restarts[1]
    assert found.goal.end <= min(found.history)
    assert found.history[0] == found.goal.start


def test_a_single_move_swaps_in_every_permutation_or_in_one():
    binding, evidence, a, b = mlp_pair()
    line = Line(evidence, Models(binding, a.__getitem__, b.__getitem__), samples=16)
    begin = binding.group.identity()
    for one, count in ((False, len(begin)), (True, 1)):
        walk = Walk(line, binding.group, begin, 0.0, Best(Watch(), begin, 0.0))
        assert walk.step(1e9, np.random.default_rng(0), one=one, number=0)
        moved = binding.group.moved(walk.element)
        assert sorted(moved.values()) == [0] * (len(begin) - count) + [2] * count


def test_permutations_that_the_loss_does_not_see_stay():
    binding, evidence, a, b = mlp_pair()
    partial = toy(binding, evidence.forward, evidence.data)
    partial.names = ("2.weight", "2.bias")
    partial.forward = lambda w, x: x @ w["2.weight"][:, : x.shape[1]].T + w["2.bias"]

    found = aligned((binding, partial, a, b), SHORT)

    assert binding.group.moved(found.element)["hidden[0]"] == 0
    assert binding.group.moved(found.element)["hidden[1]"] > 0
    assert any("hidden[0]" in note for note in found.notes)


def test_the_same_seed_gives_the_same_walk():
    first, second = (aligned(mlp_pair(), SHORT, seed=3) for _ in range(2))
    assert mlp_pair()[0].group.equal(first.element, second.element)
    assert first.history == second.history
    assert first.history != aligned(mlp_pair(), SHORT, seed=4).history


def test_a_loss_that_is_not_finite_ends_the_walk_and_leaves_the_best():
    binding, evidence, a, b = mlp_pair()
    watch = Watch()

    with pytest.raises(NotFiniteError, match="method 'anneal': the loss is nan at step 28"):
        aligned((binding, Failing(evidence, 60), a, b), SHORT, watch=watch)

    binding.group.check(watch.best)
    identity = binding.group.identity()
    assert loss_between(mlp_pair(), watch.best) < loss_between(mlp_pair(), identity)


def test_without_time_the_start_comes_back():
    binding = mlp_pair()[0]
    start = binding.group.random(np.random.default_rng(0))

    found = aligned(mlp_pair(), SHORT, start=start, restarts=3, watch=Watch(seconds=0))

    assert binding.group.equal(found.element, start)
    assert found.restarts == (found.goal.start,)


def test_progress_has_the_energy_of_steps():
    events = []
    found = aligned(mlp_pair(), "anneal:steps=250", watch=Watch(report=events.append))

    assert [event.sweep for event in events] == list(range(1, 250, 2))
    assert {(event.unit, event.of) for event in events} == {("step", 250)}
    assert tuple(event.objective for event in events) == found.history[1:]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("hot=1e-6", "cools from hot=1e-06 to cold=1e-05"),
        ("cold=0", "expected both above 0"),
        ("moves=all", "moves is 'all', expected every or one"),
        ("samples=0", "samples is 0, expected 1 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        aligned(mlp_pair(), f"anneal:{settings}")
