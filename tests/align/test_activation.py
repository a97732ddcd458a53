"""Activation matching: units that react alike are matched, by whatever permutations."""

import itertools

import evidence_nets as nets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rebasin_hub.align import Watch, align
from rebasin_hub.errors import InputError
from rebasin_hub.rearrange import rearranged

METHODS = ["activation", "activation:similarity=inner", "blend", "functional"]


def matched(p, method="activation", *, read_b=None, **options):
    return align(
        p.binding, p.read_a, read_b or p.read_b, method=method, evidence=p.evidence, **options
    )


def strangers(kind, seed=0):
    """Return a network with two unrelated models: A, and B by the seed after it."""
    p = nets.planted(kind, seed)
    other = nets.nets.state(p.network.module, seed + 77)
    return p, lambda name: other[name].numpy()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", nets.KINDS)
def test_a_planted_renumbering_is_found(kind, method) -> None:
    p = nets.planted(kind)
    found = matched(p, method)
    assert p.binding.group.equal(found.element, p.element)
    assert found.cosine == pytest.approx(1, abs=1e-6)
    assert found.converged


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["resnet", "llama"])
def test_blocks_of_torch_give_the_same(kind, method) -> None:
    p, read_b = strangers(kind)
    found, again = (matched(p, method, read_b=read_b, device=d) for d in ("cpu", "cpu:torch"))
    assert p.binding.group.equal(found.element, again.element)


@pytest.mark.parametrize("kind", ["mlp", "resnet", "gpt2", "lstm"])
def test_the_result_does_not_depend_on_how_b_is_numbered(kind) -> None:
    p, read_b = strangers(kind)
    group = p.binding.group
    element = group.random(np.random.default_rng(1))
    plain = matched(p, read_b=read_b)
    moved = matched(p, read_b=rearranged(p.binding, element, read_b))
    assert group.equal(group.compose(moved.element, element), plain.element)
    assert moved.goal.end == pytest.approx(plain.goal.end, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=4)
@given(seed=st.integers(0, 1000), kind=st.sampled_from(["mlp", "gpt2", "grouped", "attention"]))
def test_the_goal_is_never_worse_than_at_the_start(method, seed, kind) -> None:
    p, read_b = strangers(kind, seed)
    start = p.binding.group.random(np.random.default_rng(seed))
    for options in ({}, {"start": start}):
        found = matched(p, method, read_b=read_b, seed=seed, **options)
        goal = found.goal
        sign = 1 if goal.larger_is_better else -1
        assert sign * goal.end >= sign * goal.start - 1e-12
        assert goal.start == pytest.approx(goal.identity) or options
        again = matched(p, method, read_b=read_b, seed=seed, start=found.element)
        assert again.goal.start == pytest.approx(goal.end, abs=1e-9)
        assert sign * again.goal.end >= sign * goal.end - 1e-9
        p.binding.group.check(found.element)


def literal(p, read_b, element):
    """Return the mean correlation of matched units by numpy, place by place."""
    found = p.evidence.features(p.read_a, read_b, samples=5000, seed=0, within=True)
    return mean_correlation(found, element)


def mean_correlation(found, element):
    values = []
    for f in found:
        if not f.axis.permutations:
            continue
        index = element[f.axis.permutations[0]]
        a, b = np.sqrt(f.within_a.diagonal()), np.sqrt(f.within_b.diagonal()[index])
        varies = (a > 1e-4 * np.sqrt((a**2).mean())) & (b > 1e-4 * np.sqrt((b**2).mean()))
        pairs = f.cross[np.arange(len(index)), index]
        values += (pairs[varies] / (a * b)[varies]).tolist() + [0.0] * int((~varies).sum())
    return float(np.mean(values))


@pytest.mark.parametrize("kind", ["mlp", "resnet"])
def test_the_goal_is_the_mean_correlation_of_matched_units(kind) -> None:
    p, read_b = strangers(kind)
    found = matched(p, read_b=read_b)
    identity = p.binding.group.identity()
    assert found.goal.end == pytest.approx(literal(p, read_b, found.element), abs=1e-9)
    assert found.goal.identity == pytest.approx(literal(p, read_b, identity), abs=1e-9)
    assert found.history[-1] == found.goal.end
    assert found.restarts == (found.goal.end,)


def test_no_other_renumbering_is_better() -> None:
    nets.KINDS["tiny"] = (lambda: nets.zoo.MLP([7, 6, 5]), lambda: nets.numbers(7), "mlp", {})
    try:
        p, read_b = strangers("tiny")
    finally:
        del nets.KINDS["tiny"]
    (name,) = p.binding.group.factors
    found = p.evidence.features(p.read_a, read_b, samples=5000, seed=0, within=True)
    best = max(
        mean_correlation(found, {name: np.array(index)})
        for index in itertools.permutations(range(6))
    )
    assert matched(p, read_b=read_b).goal.end == pytest.approx(best, abs=1e-9)


@pytest.mark.parametrize("method", METHODS)
def test_units_that_never_react_are_matched_by_their_weights(method) -> None:
    p = nets.planted("mlp")
    dead = {"layers.0.bias", "layers.1.bias"}

    def read_a(name):
        array = p.read_a(name).copy()
        if name in dead:
            array[:5] = -1000
        return array

    read_b = rearranged(p.binding, p.binding.group.invert(p.element), read_a)
    found = align(p.binding, read_a, read_b, method=method, evidence=p.evidence)
    assert p.binding.group.equal(found.element, p.element)
    assert np.isfinite([found.goal.identity, found.goal.start, found.goal.end]).all()


def test_models_that_are_dead_altogether() -> None:
    p = nets.planted("mlp")
    read = lambda name: p.read_a(name) * 0  # noqa: E731
    for method in METHODS:
        found = align(p.binding, read, read, method=method, evidence=p.evidence)
        assert np.isfinite(found.goal.end)
        p.binding.group.check(found.element)


def test_permutations_without_features_are_named_and_left_to_the_weights() -> None:
    p = nets.planted("attention")
    found = matched(p)
    assert found.notes == ("No features are numbered by head, vo: the weights decide there.",)
    assert matched(nets.planted("mlp")).notes == ()


def test_without_any_features_the_weights_decide() -> None:
    p = nets.planted("mlp")
    p.evidence.__dict__["plan"] = type("Plan", (), {"places": (), "fixed": (), "notes": ()})()
    for method in METHODS:
        found = matched(p, method)
        assert p.binding.group.equal(found.element, p.element)
        assert found.notes


@pytest.mark.parametrize("method", METHODS)
def test_a_search_without_time_returns_what_it_was_given(method) -> None:
    p, read_b = strangers("gpt2")
    start = p.binding.group.random(np.random.default_rng(3))
    watch = Watch(seconds=0)
    found = matched(p, method, read_b=read_b, start=start, watch=watch)
    sign = 1 if found.goal.larger_is_better else -1
    assert sign * found.goal.end >= sign * found.goal.start
    p.binding.group.check(watch.best)


@pytest.mark.parametrize("method", METHODS)
def test_progress_is_told_in_the_measure_of_the_goal(method) -> None:
    p, read_b = strangers("gpt2")
    told = []
    watch = Watch(report=lambda progress: told.append(progress.objective))
    found = matched(p, method, read_b=read_b, restarts=1, watch=watch)
    assert told
    assert told == pytest.approx(found.history[1 : 1 + len(told)], rel=1e-4)
    assert p.binding.group.equal(watch.best, found.element)


@pytest.mark.parametrize("method", METHODS)
def test_the_same_seed_gives_the_same(method) -> None:
    p, read_b = strangers("resnet")
    first, again = (matched(p, method, read_b=read_b, seed=4) for _ in range(2))
    assert p.binding.group.equal(first.element, again.element)
    assert first.goal == again.goal


def test_settings_and_missing_evidence_are_refused_in_a_sentence() -> None:
    p = nets.planted("mlp")
    with pytest.raises(InputError, match="'corelation'; did you mean 'correlation'"):
        matched(p, "activation:similarity=corelation")
    with pytest.raises(InputError, match=r"blend:share is 1\.0; expected"):
        matched(p, "blend:share=1")
    with pytest.raises(InputError, match="functional:ridge is -1"):
        matched(p, "functional:ridge=-1")
    for method in ("activation", "blend", "functional"):
        with pytest.raises(InputError, match="there is no data"):
            align(p.binding, p.read_a, p.read_b, method=method)


def test_a_search_that_is_called_itself_needs_evidence() -> None:
    from rebasin_hub.align.activation import Activation, match_activations

    p = nets.planted("mlp")

    def search(state, options):
        from dataclasses import replace

        return match_activations(state, replace(options, settings=Activation()))

    with pytest.raises(InputError, match="no evidence"):
        align(p.binding, p.read_a, p.read_b, method=search)
