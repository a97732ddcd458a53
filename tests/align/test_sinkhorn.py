"""Sinkhorn re-basin: soft permutations on the weights and on the path, and their rounding."""

from __future__ import annotations

import numpy as np
import pytest
from align_kinds import KINDS, literal_objective, planted, random_weights
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_evidence import PAIRS, Failing, aligned, loss_between, mlp_pair

from rebasin_hub.align import Watch, align
from rebasin_hub.errors import InputError, NotFiniteError

PATH = (0.25, 0.5, 0.75)


@given(
    kind=st.sampled_from(sorted(KINDS)),
    size=st.integers(2, 5),
    seed=st.integers(0, 2**32 - 1),
    polish=st.booleans(),
)
@settings(max_examples=30)
def test_on_weights_the_objective_is_never_below_that_of_the_start(kind, size, seed, polish):
    binding = KINDS[kind](size)
    rng = np.random.default_rng(seed)
    a, b = random_weights(binding, rng), random_weights(binding, rng)
    start = binding.group.random(rng) if rng.random() < 0.5 else None
    method = f"sinkhorn:steps=12,every=5,polish={str(polish).lower()}"
    watch = Watch()

    found = align(binding, a.__getitem__, b.__getitem__, method=method, start=start, watch=watch)

    binding.group.check(found.element)
    begin = start or binding.group.identity()
    tolerance = 1e-10 * found.norm_a * found.norm_b
    at_start = literal_objective(binding, begin, a, b.__getitem__)
    true = literal_objective(binding, found.element, a, b.__getitem__)
    assert found.history[0] == pytest.approx(at_start, abs=tolerance)
    assert found.objective == pytest.approx(true, abs=tolerance)
    assert found.objective == found.restarts[0] == max(found.history) >= found.history[0]
    assert binding.group.equal(watch.best, found.element)
    nested = [name for name in binding.group.factors if binding.group.children[name]]
    assert bool(found.notes) == bool(nested)


@pytest.mark.parametrize("kind", ["mlp", "lstm", "dense"])
def test_soft_permutations_alone_find_a_planted_renumbering(kind):
    binding = KINDS[kind]()
    method = "sinkhorn:polish=false,rate=0.1,steps=120"
    for seed in range(3):
        a, b, element = planted(binding, np.random.default_rng(seed), 0.02)
        found = align(binding, a.__getitem__, b.__getitem__, method=method)
        assert binding.group.equal(found.element, element)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", ["cpu", "cpu:torch"])
def test_without_a_step_the_start_comes_back(kind, device):
    """The scores of a start are rounded to it, whatever its kind is."""
    binding = KINDS[kind]()
    rng = np.random.default_rng(0)
    a, b = random_weights(binding, rng), random_weights(binding, rng)
    start = binding.group.random(rng)
    single = [name for name in binding.group.roots if not binding.group.children[name]]

    found = align(
        binding,
        a.__getitem__,
        b.__getitem__,
        method="sinkhorn:steps=1,rate=0,polish=false",
        start=start,
        device=device,
    )

    for name in single:
        np.testing.assert_array_equal(found.element[name], start[name])


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize(("loss", "shares"), [("midpoint", (0.5,)), ("path", PATH)])
def test_on_the_line_the_loss_is_never_above_that_of_the_start(pair, loss, shares):
    pair = PAIRS[pair]()
    binding = pair[0]
    start = binding.group.random(np.random.default_rng(0))

    found = aligned(pair, f"sinkhorn:loss={loss},steps=40,every=7,batch=64", start=start)

    binding.group.check(found.element)
    assert found.goal.end <= found.goal.start
    assert found.goal.start == pytest.approx(loss_between(pair, start, shares), rel=1e-5)
    assert found.goal.end == pytest.approx(loss_between(pair, found.element, shares), rel=1e-5)
    assert found.goal.end == min(found.history) == found.restarts[0]


@pytest.mark.parametrize("loss", ["midpoint", "path"])
def test_gradients_lead_below_what_weight_matching_finds(loss):
    shares = PATH if loss == "path" else (0.5,)
    pair = mlp_pair()
    found = aligned(pair, f"sinkhorn:loss={loss},steps=200")

    weight = aligned(pair, "weight", restarts=3)
    assert found.goal.end < loss_between(pair, weight.element, shares)


def test_the_same_seed_gives_the_same_result():
    method = "sinkhorn:loss=path,steps=30,batch=64"
    first, second = (aligned(mlp_pair(), method, seed=3) for _ in range(2))
    assert mlp_pair()[0].group.equal(first.element, second.element)
    assert first.history == second.history
    assert first.history != aligned(mlp_pair(), method, seed=4).history


def test_a_loss_that_is_not_finite_ends_the_search_and_leaves_the_best():
    binding, evidence, a, b = mlp_pair()
    watch = Watch()

    with pytest.raises(NotFiniteError, match=r"loss is nan at step \d+.*smaller rate"):
        aligned(
            (binding, Failing(evidence, 60), a, b), "sinkhorn:loss=midpoint,every=2", watch=watch
        )

    binding.group.check(watch.best)
    identity = binding.group.identity()
    assert loss_between(mlp_pair(), watch.best) < loss_between(mlp_pair(), identity)


@pytest.mark.parametrize("loss", ["weights", "midpoint"])
def test_without_time_the_start_comes_back(loss):
    binding = mlp_pair()[0]
    start = binding.group.random(np.random.default_rng(0))

    found = aligned(mlp_pair(), f"sinkhorn:loss={loss}", start=start, watch=Watch(seconds=0))

    assert binding.group.equal(found.element, start)


def test_progress_is_told_when_elements_are_compared():
    events = []
    aligned(mlp_pair(), "sinkhorn:steps=25,polish=false", watch=Watch(report=events.append))

    assert [(e.sweep, e.unit, e.of) for e in events] == [(n, "step", 25) for n in (9, 19, 24)]


def test_it_takes_sound_settings_and_data_where_the_loss_is_the_networks():
    binding, _, a, b = mlp_pair()
    reads = a.__getitem__, b.__getitem__
    with pytest.raises(InputError, match="loss=path' looks at what the network computes"):
        align(binding, *reads, method="sinkhorn:loss=path")
    with pytest.raises(InputError, match="loss is 'fit', expected one of weights, midpoint, path"):
        align(binding, *reads, method="sinkhorn:loss=fit")
    with pytest.raises(InputError, match="share is 1"):
        align(binding, *reads, method="sinkhorn:share=1")
    with pytest.raises(InputError, match="temperature is 0"):
        align(binding, *reads, method="sinkhorn:temperature=0")
