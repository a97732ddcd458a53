"""Many models on every kind of permutation: universes, pairs, and the way round three models."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from align_kinds import KINDS, planted, random_weights
from hypothesis import given, settings
from hypothesis import strategies as st

from rebasin_hub.align import align
from rebasin_hub.align.backend import select
from rebasin_hub.align.family import families
from rebasin_hub.align.frank_wolfe.relaxed import Relaxed
from rebasin_hub.align.many import (
    align_many,
    cosines_to_others,
    cycle_error,
    maps_between,
    pairwise,
    spread,
)
from rebasin_hub.align.many.universe import Universe, _Models
from rebasin_hub.align.problem import read_problem
from rebasin_hub.align.result import Goal
from rebasin_hub.align.watch import Watch
from rebasin_hub.errors import InputError
from rebasin_hub.rearrange import rearranged


def aligner(binding, seed=0):
    def run(read_reference, read_model, *, first, what):
        start = {} if first else {"start": binding.group.identity(), "restarts": 1}
        return align(binding, read_reference, read_model, seed=seed, **start)

    return run


def drawn(kind, seed, count, dtype="f4"):
    rng = np.random.default_rng(seed)
    binding = KINDS[kind]()
    return binding, [random_weights(binding, rng, dtype).__getitem__ for _ in range(count)], rng


def numbered(binding, reads, joint):
    return [
        rearranged(binding, element, read)
        for element, read in zip(joint.elements, reads, strict=True)
    ]


def relaxed(binding, reads, elements):
    backend, models = select("cpu"), []
    for number, (read, element) in enumerate(zip(reads, elements, strict=True)):
        problem, blocks = read_problem(binding, reads[0], read, backend)
        blocks = [term.a for term in problem.terms] if number == 0 else blocks
        models.append(Relaxed(problem, families(problem), blocks, element))
    return Universe(models), models


def flat(read, binding):
    return np.concatenate([read(name).astype("f8").ravel() for name in binding.header])


@pytest.mark.parametrize("kind", KINDS)
def test_a_universe_recovers_renumbered_copies_exactly(kind):
    rng = np.random.default_rng(1)
    binding = KINDS[kind]()
    first, *_ = planted(binding, rng)
    copies = [first.__getitem__]
    for _ in range(3):
        read = rearranged(binding, binding.group.random(rng), first.__getitem__)
        copies.append({name: read(name) for name in first}.__getitem__)
    joint = align_many(binding, copies, aligner(binding), strategy="universe")
    assert joint.converged
    assert joint.cycle_error == 0
    assert joint.distances[-1] == 0
    for read in numbered(binding, copies, joint):
        assert all(read(name).tobytes() == first[name].tobytes() for name in first)


@pytest.mark.parametrize("kind", KINDS)
def test_a_universe_is_consistent_and_no_wider_than_its_start(kind):
    gains = []
    for seed in range(2):
        binding, reads, _ = drawn(kind, seed, 4)
        joint = align_many(binding, reads, aligner(binding), strategy="universe", seed=seed)
        plain = align_many(binding, reads, aligner(binding), strategy="reference")
        assert binding.group.is_identity(joint.elements[0])
        assert joint.cycle_error == 0
        begin = spread(binding, numbered(binding, reads, plain))
        assert joint.distances[0] == pytest.approx(begin)
        assert all(b <= a * (1 + 1e-9) for a, b in itertools.pairwise(joint.distances))
        end = spread(binding, numbered(binding, reads, joint))
        assert joint.distances[-1] == pytest.approx(end)
        gains.append(joint.distances[0] - joint.distances[1])  # by Frank-Wolfe alone
    assert max(gains) > 0
    assert any("cross on a tensor" in n for n in joint.notes) == (
        kind in {"grouped", "llama", "deep"}
    )


def test_an_ascent_that_ends_farther_apart_is_not_taken(monkeypatch):
    binding, reads, rng = drawn("mlp", 14, 3)

    def worse(*_, **__):
        return [binding.group.identity(), *(binding.group.random(rng) for _ in range(2))]

    monkeypatch.setattr(_Models, "ascended", worse)
    joint = align_many(binding, reads, aligner(binding), strategy="universe")
    assert joint.distances[1] == joint.distances[0]
    assert joint.distances[-1] <= joint.distances[0]
    assert spread(binding, numbered(binding, reads, joint)) == pytest.approx(joint.distances[-1])


@pytest.mark.parametrize("kind", KINDS)
def test_the_line_of_a_universe_is_its_objective_along_the_segment(kind):
    binding, reads, rng = drawn(kind, 4, 4, "f8")
    together, models = relaxed(binding, reads, [binding.group.identity()] * 4)
    begin = [model.space.random(rng) for model in models]
    goals = [model.space.rows(binding.group.random(rng)) for model in models]
    begin[0] = models[0].soft  # which stays
    for model, soft in zip(models, begin, strict=True):
        model.soft = soft
    line = together.line(goals[1:])
    for share in np.linspace(0, 1, 5):
        for model, soft, goal in list(zip(models, begin, goals, strict=True))[1:]:
            model.soft = model.space.between(soft, goal, share)
        assert line(share) == pytest.approx(together.value(), rel=1e-9, abs=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_the_relaxed_objective_of_a_universe_never_falls(kind):
    binding, reads, _ = drawn(kind, 5, 4, "f8")
    group = binding.group
    together, models = relaxed(binding, reads, [group.identity()] * 4)
    start = values = [together.value()]
    arrays = [flat(read, binding) for read in reads]
    literal = sum(a @ b for a, b in itertools.combinations(arrays, 2))
    spare = sum(
        float(np.vdot(a(t), b(t)))
        for t in binding.header
        if not binding.of_name[t].permutations
        for a, b in itertools.combinations(reads, 2)
    )
    assert start[0] + spare == pytest.approx(literal, rel=1e-9)
    for model in models[1:]:
        model.soft = model.space.center()
    values = [together.value()]
    for _ in range(15):
        values.append(together.advance())
        assert values[-1] == pytest.approx(together.value(), rel=1e-9, abs=1e-8)
    assert all(after >= before - 1e-8 for before, after in itertools.pairwise(values))
    assert values[-1] > values[0]


@settings(max_examples=10)
@given(seed=st.integers(0, 1000), strategy=st.sampled_from(["universe", "to-reference"]))
def test_two_models_are_one_alignment(seed, strategy):
    binding, reads, _ = drawn("mlp", seed, 2)
    joint = align_many(binding, reads, aligner(binding), strategy=strategy)
    pairs = pairwise(binding, reads, aligner(binding))
    assert binding.group.equal(joint.elements[1], pairs.alignments[1, 0].element)
    assert joint.cycle_error is pairs.cycle_error is None


def test_what_a_method_finds_by_a_goal_of_its_own_is_taken_though_weights_move_apart():
    binding, reads, rng = drawn("mlp", 13, 3)
    worse = {}

    def by_goal(read_reference, read_model, *, first, what):
        near = align(binding, read_reference, read_model)
        found = replace(
            near,
            element=worse.setdefault(what, binding.group.random(rng)),
            objective=near.start_objective - 1.0,
            goal=Goal("loss", 2.0, 2.0, 1.0),
        )
        return found if first else align(binding, read_reference, read_model, method="identity")

    joint = align_many(binding, reads, by_goal, strategy="reference")
    for number in (1, 2):
        expected = worse[f"model {number + 1} to model 1"]
        assert binding.group.equal(joint.elements[number], expected)


def test_to_reference_is_another_name_of_reference():
    binding, reads, _ = drawn("residual", 6, 3)
    one, two = (
        align_many(binding, reads, aligner(binding), strategy=name)
        for name in ("reference", "to-reference")
    )
    assert two.strategy == "reference"
    assert all(map(binding.group.equal, one.elements, two.elements))


def test_pairs_on_their_own_do_not_agree():
    binding, reads, _ = drawn("residual", 7, 4)
    pairs = pairwise(binding, reads, aligner(binding))
    assert sorted(pairs.alignments) == [(p, q) for p in range(4) for q in range(p)]
    for (p, q), found in pairs.alignments.items():
        alone = align(binding, reads[q], reads[p])
        assert binding.group.equal(found.element, alone.element)
    assert 0 < pairs.cycle_error <= 1


@pytest.mark.parametrize("kind", ["mlp", "llama", "deep"])
def test_maps_through_one_numbering_agree_and_a_broken_one_is_seen(kind):
    binding = KINDS[kind]()
    group, rng = binding.group, np.random.default_rng(8)
    elements = [group.random(rng) for _ in range(4)]
    maps = maps_between(group, elements)
    assert cycle_error(group, maps) == 0
    half = {pair: element for pair, element in maps.items() if pair[0] < pair[1]}
    assert cycle_error(group, half) == 0
    for (p, q), element in maps.items():
        assert group.equal(group.compose(elements[q], element), elements[p])
    swap = group.identity()
    root = group.roots[0]
    swap[root][[0, 1]] = swap[root][[1, 0]]
    half[0, 1] = group.compose(swap, half[0, 1])
    moved = sum(
        int(np.count_nonzero(np.ravel_multi_index(group.sources(swap, name), shape) != places))
        for name, shape in ((name, group.shape(name)) for name in group.factors)
        for places in [np.arange(np.prod(shape)).reshape(shape)]
    )
    # Two of the four triples go from model 0 to model 1.
    assert cycle_error(group, half) == pytest.approx(2 * moved / (4 * sum(group.units.values())))


def test_without_three_models_there_is_no_way_round():
    group = KINDS["mlp"]().group
    assert cycle_error(group, {}) is None
    assert cycle_error(group, {(0, 1): group.identity()}) is None


def test_cosines_are_to_the_mean_of_the_others():
    binding, reads, _ = drawn("mlp", 9, 4)
    arrays = np.stack([flat(read, binding) for read in reads])
    for number, found in enumerate(cosines_to_others(binding, reads)):
        rest = np.delete(arrays, number, 0).mean(0)
        one = arrays[number]
        expected = one @ rest / np.linalg.norm(one) / np.linalg.norm(rest)
        assert found == pytest.approx(expected, rel=1e-6)


def test_a_universe_is_the_same_for_the_same_seed():
    binding, reads, _ = drawn("residual", 10, 4)
    first, again = (
        align_many(binding, reads, aligner(binding), strategy="universe", seed=3) for _ in range(2)
    )
    assert all(map(binding.group.equal, first.elements, again.elements))
    assert first.distances == again.distances


def test_a_time_limit_leaves_what_was_found():
    binding, reads, _ = drawn("residual", 11, 4)
    joint = align_many(
        binding, reads, aligner(binding), strategy="universe", watch=Watch(seconds=0.0)
    )
    assert joint.distances[0] == joint.distances[1]
    assert len(joint.distances) == 3
    assert joint.cycle_error == 0


def test_one_model_is_refused():
    binding, reads, _ = drawn("mlp", 12, 1)
    with pytest.raises(InputError, match="two models or more"):
        pairwise(binding, reads, aligner(binding))
