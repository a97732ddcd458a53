"""Straight-through estimator: it lowers the loss at the midpoint, and keeps the best."""

from __future__ import annotations

import numpy as np
import pytest
from toy_evidence import PAIRS, Failing, aligned, loss_between, mlp_pair

from rebasin_hub.align import Watch, align
from rebasin_hub.errors import InputError, NotFiniteError
from rebasin_hub.rearrange import rearranged

SHORT = "straight-through:steps=60,batch=64,every=5"
pairs = pytest.mark.parametrize("pair", PAIRS)


@pairs
@pytest.mark.parametrize("given", [False, True])
def test_it_is_at_least_as_good_as_its_start_by_its_own_goal(pair, given):
    pair = PAIRS[pair]()
    binding = pair[0]
    start = binding.group.random(np.random.default_rng(0)) if given else None

    found = aligned(pair, SHORT, start=start)

    binding.group.check(found.element)
    begin = start or aligned(pair, "weight").element
    identity = binding.group.identity()
    assert found.goal.end <= found.goal.start
    assert found.goal.start == pytest.approx(loss_between(pair, begin), rel=1e-5)
    assert found.goal.end == pytest.approx(loss_between(pair, found.element), rel=1e-5)
    assert found.goal.identity == pytest.approx(loss_between(pair, identity), rel=1e-5)
    assert found.goal.end == min(found.history) == found.restarts[0]
    assert found.history[0] == found.goal.start


def test_gradients_lead_below_what_weight_matching_finds():
    found = aligned(mlp_pair(), "straight-through:steps=200,batch=64,every=5")

    assert found.goal.end < 0.8 * found.goal.start
    without = aligned(mlp_pair(), "straight-through:steps=200,batch=64,every=5,rate=0")
    assert without.goal.end > found.goal.end


def test_the_steps_are_those_of_gradient_descent_with_momentum():
    """With the model leaning nowhere, free weights are followed by hand for three steps."""
    import torch

    from rebasin_hub.align.backend import select
    from rebasin_hub.align.method import Models
    from rebasin_hub.align.midpoint import Line
    from rebasin_hub.align.problem import read_problem
    from rebasin_hub.align.state import State
    from rebasin_hub.align.straight_through import Free, StraightThroughSettings

    binding, evidence, a, b = mlp_pair()
    reads = a.__getitem__, b.__getitem__
    state = State(*read_problem(binding, *reads, select("cpu")))
    element = binding.group.random(np.random.default_rng(0))
    line = Line(evidence, Models(binding, *reads), samples=100)
    settings = StraightThroughSettings(rate=0.1, momentum=0.5, lean=0)
    free = Free(line, state, element, settings, 0)
    read = rearranged(binding, element, b.__getitem__)
    expected = {name: torch.tensor(np.array(read(name))) for name in a}
    velocity = dict.fromkeys(a, 0.0)
    for _ in range(3):
        leaf = {n: torch.tensor(np.array(read(n)), requires_grad=True) for n in a}
        middle = {n: (torch.tensor(a[n]) + leaf[n]) / 2 for n in a}
        evidence.loss(middle, evidence.data).backward()
        for name in a:
            velocity[name] = 0.5 * velocity[name] + leaf[name].grad
            expected[name] = expected[name] - 0.1 * velocity[name]

        free.descend(element, evidence.data)

    assert set(free.weights) == set(a) - {"2.bias"}  # which no permutation moves
    for name in free.weights:
        torch.testing.assert_close(free.weights[name], expected[name])


@pairs
@pytest.mark.parametrize("device", ["cpu", "cpu:torch"])
def test_free_weights_are_projected_onto_the_nearest_renumbering(pair, device):
    """Free weights that are a renumbering themselves are projected to it, from another one."""
    from rebasin_hub.align.backend import select
    from rebasin_hub.align.method import Models
    from rebasin_hub.align.midpoint import Line
    from rebasin_hub.align.problem import read_problem
    from rebasin_hub.align.state import State
    from rebasin_hub.align.straight_through import Free, StraightThroughSettings

    binding, evidence, _, b = PAIRS[pair]()
    element = binding.group.random(np.random.default_rng(0))
    a = {name: rearranged(binding, element, b.__getitem__)(name) for name in b}
    reads = a.__getitem__, b.__getitem__
    state = State(*read_problem(binding, *reads, select(device)))
    line = Line(evidence, Models(binding, *reads), samples=100)
    settings = StraightThroughSettings(lean=1, sweeps=20)

    free = Free(line, state, binding.group.identity(), settings, 0)

    assert binding.group.equal(free.project(), element)
    assert binding.group.equal(free.project(), element)


def test_the_same_seed_gives_the_same_result():
    first, second = (aligned(mlp_pair(), SHORT, seed=3) for _ in range(2))
    assert mlp_pair()[0].group.equal(first.element, second.element)
    assert first.history == second.history
    assert first.history != aligned(mlp_pair(), SHORT, seed=4).history


def test_a_loss_that_is_not_finite_ends_the_search_and_leaves_the_best():
    binding, evidence, a, b = mlp_pair()
    start = binding.group.random(np.random.default_rng(0))
    watch = Watch()
    failing = Failing(evidence, 4 + 10)  # both losses at first take two batches each

    with pytest.raises(NotFiniteError, match=r"nan at step \d+.*rate=0\.001"):
        aligned((binding, failing, a, b), SHORT, start=start, watch=watch)

    binding.group.check(watch.best)
    pair = (binding, evidence, a, b)
    assert loss_between(pair, watch.best) <= loss_between(pair, start)


def test_free_weights_that_run_away_are_a_clear_error():
    with pytest.raises(NotFiniteError, match="smaller rate"):
        aligned(mlp_pair(), "straight-through:rate=1e38,steps=20")


def test_without_time_the_start_comes_back():
    binding = mlp_pair()[0]
    start = binding.group.random(np.random.default_rng(0))

    found = aligned(mlp_pair(), SHORT, start=start, watch=Watch(seconds=0))

    assert binding.group.equal(found.element, start)
    assert found.goal.end == found.goal.start


def test_progress_has_the_loss_of_every_step():
    events = []
    aligned(mlp_pair(), SHORT, watch=Watch(report=events.append))

    steps = [event for event in events if event.unit == "step"]
    assert [event.sweep for event in steps] == list(range(60))
    assert {event.of for event in steps} == {60}
    assert all(0 < event.objective < 10 for event in steps)


def test_it_takes_data_and_sound_settings():
    binding, _, a, b = mlp_pair()
    with pytest.raises(InputError, match="there is no data"):
        align(binding, a.__getitem__, b.__getitem__, method="straight-through")
    with pytest.raises(InputError, match="straight-through:steps is -1, expected 0 or more"):
        aligned(mlp_pair(), "straight-through:steps=-1")
