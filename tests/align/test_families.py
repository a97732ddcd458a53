"""One family's update: the best there is, where it can be known; never worse, everywhere."""

from __future__ import annotations

import itertools
import math
import statistics
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from align_kinds import (
    KINDS,
    deep,
    dense,
    experts,
    grouped,
    literal_objective,
    llama,
    lstm,
    mixing,
    mlp,
    padded,
    planted,
    random_weights,
    recurrent,
    residual,
    square,
)

from rebasin_hub.align import align, crossed, similarity, swaps, weight
from rebasin_hub.align.backend import select
from rebasin_hub.align.family import Family, families, operand
from rebasin_hub.align.problem import read_problem, renumbered
from rebasin_hub.align.state import State
from rebasin_hub.bind import Binding
from rebasin_hub.errors import ProofError
from rebasin_hub.permute import Index, SymmetryGroup
from rebasin_hub.rearrange import rearranged

MOST = 1500
"""Elements of a family's group that are tried one by one."""


def elements(group: SymmetryGroup) -> Iterator[dict[str, Index]]:
    """Yield every element of a group."""
    rows = []
    for name in group.factors:
        *above, size = group.shape(name)
        count = int(np.prod(above, dtype=int))
        every = itertools.product(itertools.permutations(range(size)), repeat=count)
        rows.append([np.array(e).reshape(group.shape(name)) for e in every])
    for choice in itertools.product(*rows):
        yield dict(zip(group.factors, choice, strict=True))


def order(group: SymmetryGroup) -> float:
    return 10**group.log10_order


def make_state(
    binding: Binding, seed: int, device: str = "cpu"
) -> tuple[State, tuple[Family, ...]]:
    """Return a state at a random element, for two random models."""
    rng = np.random.default_rng(seed)
    a, b = (random_weights(binding, rng, "f8") for _ in range(2))
    state = State(*read_problem(binding, a.__getitem__, b.__getitem__, select(device)))
    state.jump(binding.group.random(rng))
    return state, families(state.problem)


def coupled(family: Family) -> bool:
    """Tell whether two permutations that depend on one parent stand on one block."""
    parents = [
        [family.group.factors[name].parent for name in view.factors[1:]] for view in family.views
    ]
    return any(len(set(p)) < len(p) for p in parents)


def best_objective(state: State, family: Family) -> float:
    """Return the highest objective over all elements of one family's group."""
    backend = state.problem.backend

    def objective(step: dict[str, Index]) -> float:
        products = (
            backend.inner(term.a, renumbered(backend, term.block, b, step))
            for term, b in zip(state.problem.terms, state.b, strict=True)
        )
        return state.problem.constant + math.fsum(products)

    return max(map(objective, elements(family.group)))


LINEAR = {
    "mlp": lambda: mlp(4),
    "residual": lambda: residual(3),
    "dense": lambda: dense(4),
    "llama": lambda: llama(5, group=2, head=2),
    "experts": lambda: experts(3, count=2, ff=3),
}
COUPLED = {
    "llama": lambda: llama(5, group=2, head=2),
    "grouped": lambda: grouped(2, groups=2),
    "deep": lambda: deep(2),
}


@pytest.mark.parametrize("kind", LINEAR)
@pytest.mark.parametrize("seed", range(3))
def test_an_update_is_optimal_where_the_objective_is_linear(kind, seed):
    state, members = make_state(LINEAR[kind](), seed)
    tried = 0
    for family in members:
        if family.linear and not coupled(family) and order(family.group) <= MOST:
            best = best_objective(state, family)
            weight.update(state, family)
            assert state.objective == pytest.approx(best)
            tried += 1
    assert tried


@pytest.mark.parametrize("kind", COUPLED)
def test_an_update_is_never_worse_and_mostly_optimal_where_dependents_meet(kind):
    optimal, tried = 0, 0
    for seed in range(6 if kind == "deep" else 20):
        state, members = make_state(COUPLED[kind](), seed)
        for family in filter(coupled, members):
            before, best = state.objective, best_objective(state, family)
            weight.update(state, family)
            assert before <= state.objective <= best + 1e-9
            optimal += state.objective == pytest.approx(best)
            tried += 1
    assert optimal >= 0.75 * tried > 0


def crosses_always(group: SymmetryGroup, kind: tuple[str, ...], _: object) -> bool:
    return len(similarity._branches(group, kind)) > 1


@pytest.mark.parametrize("kind", COUPLED)
@pytest.mark.parametrize("crossed_blocks", [False, True])
def test_chunks_of_pairs_make_no_difference(kind, crossed_blocks, monkeypatch):
    if crossed_blocks:
        monkeypatch.setattr(similarity, "_is_crossed", crosses_always)
    binding = COUPLED[kind]()
    whole, members = make_state(binding, 0)
    cut, _ = make_state(binding, 0)
    for family in members:
        weight.update(whole, family)
    monkeypatch.setattr(crossed, "GATHERED", 30)
    for budget, family in zip((1, 40, 200), members, strict=False):
        monkeypatch.setattr(similarity, "BUDGET", budget)
        weight.update(cut, family)
    monkeypatch.setattr(similarity, "BUDGET", 1)
    for family in members[3:]:
        weight.update(cut, family)

    assert binding.group.equal(whole.element, cut.element)


@pytest.mark.parametrize("kind", COUPLED)
@pytest.mark.parametrize("device", ["cpu", "cpu:torch"])
def test_joint_gram_arrays_make_no_difference(kind, device, monkeypatch):
    if device != "cpu":
        pytest.importorskip("torch")
    binding = COUPLED[kind]()
    found = []
    for crosses in (crosses_always, lambda *_: False):
        monkeypatch.setattr(similarity, "_is_crossed", crosses)
        for seed in range(5):
            state, members = make_state(binding, seed, device)
            for family in members:
                weight.update(state, family)
            found.append((state.element, state.objective))

    for (one, value), (other, same) in zip(found[:5], found[5:], strict=True):
        assert binding.group.equal(one, other)
        assert value == pytest.approx(same)


@pytest.mark.parametrize(("groups", "width"), [(1, 96), (2, 64)])
def test_wide_grouped_convolutions_are_matched_in_little_memory(groups, width):
    """The Gram array over both `in` and `out` has 9,216 x 9,216 numbers at width 96."""
    binding = grouped(width, groups=groups)
    a, b, element = planted(binding, np.random.default_rng(0))

    tracemalloc.start()
    try:
        found = align(binding, a.__getitem__, b.__getitem__, restarts=1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 30e6
    assert binding.group.equal(found.element, element)


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_renumbered_as_checkpoints_are(kind):
    """The state's own gathers agree with those that rewrite checkpoints."""
    binding = KINDS[kind]()
    rng = np.random.default_rng(0)
    a, b = random_weights(binding, rng), random_weights(binding, rng)
    state = State(*read_problem(binding, a.__getitem__, b.__getitem__, select("cpu")))
    for _ in range(3):  # each jump starts from where the last one ended
        element = binding.group.random(rng)
        state.jump(element)
        read = rearranged(binding, element, b.__getitem__)
        _, expected = read_problem(binding, a.__getitem__, read, select("cpu"))
        assert binding.group.equal(state.element, element)
        for block, other in zip(state.b, expected, strict=True):
            np.testing.assert_array_equal(block, other)
        true = literal_objective(binding, element, a, b.__getitem__)
        assert state.objective == pytest.approx(true)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_compose(kind):
    binding = KINDS[kind]()
    state, members = make_state(binding, 1)
    rng = np.random.default_rng(2)
    expected = state.element
    for family in members:
        step = family.group.random(rng)
        state.step(family, step)
        expected = binding.group.compose(binding.group.identity() | step, expected)

    assert binding.group.equal(state.element, expected)
    fresh, _ = make_state(binding, 1)
    fresh.jump(expected)
    for block, other in zip(state.b, fresh.b, strict=True):
        np.testing.assert_array_equal(block, other)


@pytest.mark.parametrize("make", [recurrent, square, lstm], ids=lambda make: make.__name__)
@pytest.mark.parametrize("seed", range(3))
def test_single_swaps_gain_what_is_foretold(make, seed):
    state, (family,) = make_state(make(5), seed)
    foretold = swaps.swap_gains(state, family)
    before = state.objective
    for i, k in itertools.combinations(range(5), 2):
        step = family.group.identity()
        step[family.root][[i, k]] = [k, i]
        state.step(family, step)
        assert state.objective - before == pytest.approx(foretold[i, k])
        state.step(family, step)


@pytest.mark.parametrize("make", [recurrent, square, padded], ids=lambda make: make.__name__)
def test_a_quadratic_family_ends_where_no_swap_gains(make):
    for seed in range(5):
        state, members = make_state(make(6), seed)
        for family in members:
            improved = sum(weight.update(state, family) for _ in range(30))
            assert improved < 30
            if not family.linear:
                assert swaps.swap_gains(state, family).max() < 1e-9


def test_one_place_at_a_time_helps_where_the_linearization_misleads(monkeypatch):
    def mean_end() -> float:
        ends = []
        for seed in range(10):
            state, (family,) = make_state(mixing(), seed)
            for _ in range(30):
                weight.update(state, family)
            ends.append(state.objective)
        return statistics.fmean(ends)

    with_it = mean_end()
    monkeypatch.setattr(weight, "_single_places", lambda _: [])
    assert with_it > 1.2 * mean_end()


def test_a_fall_of_a_linear_objective_is_a_bug_and_is_reported():
    binding = mlp()
    rng = np.random.default_rng(0)
    a = random_weights(binding, rng)
    state = State(*read_problem(binding, a.__getitem__, a.__getitem__, select("cpu")))
    family = families(state.problem)[0]
    before = state.objective

    with pytest.raises(ProofError, match=r"renumbering 'hidden\[0\]' lowers the objective"):
        state.improve(family, family.group.random(rng))
    assert state.objective == before


def test_sorted_features_do_not_depend_on_the_numbering():
    state, members = make_state(residual(5), 0)
    stream = next(family for family in members if family.root == "stream")
    backend = state.problem.backend

    def features() -> list[np.ndarray]:
        return [
            operand(backend, state.b[view.term], view, [n for n in (0, 1) if n not in view.active])
            for view in stream.views
        ]

    before = features()
    for family in members:
        if family is not stream:
            state.step(family, family.group.random(np.random.default_rng(1)))

    for one, other in zip(before, features(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_families_that_touch_fixed_axes_are_known():
    _, members = make_state(mlp(), 0)
    assert [family.touches_fixed for family in members] == [True, False, True]

    _, members = make_state(residual(), 0)
    assert not any(family.touches_fixed for family in members)
