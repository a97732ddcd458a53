"""Bringing many models into one numbering."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rebasin_hub.align import align
from rebasin_hub.align.many import STRATEGIES, align_many, spread
from rebasin_hub.bind import bind
from rebasin_hub.errors import InputError
from rebasin_hub.rearrange import rearranged
from rebasin_hub.specfile import find_spec
from rebasin_hub.tensors import TensorInfo, dtype_of

WIDTHS = (5, 7, 6, 3)


def chain(rng, widths=WIDTHS):
    tensors = {}
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        tensors[f"fc{number}.weight"] = rng.normal(size=(outputs, inputs)).astype(np.float32)
        tensors[f"fc{number}.bias"] = rng.normal(size=outputs).astype(np.float32)
    return tensors


def bound(tensors):
    header = {n: TensorInfo(dtype_of(t), t.shape) for n, t in tensors.items()}
    return bind(find_spec("mlp"), header)


def held(read, tensors):
    return {name: read(name) for name in tensors}


def aligner(binding, seed=0):
    def run(read_reference, read_model, *, first, what):
        start = {} if first else {"start": binding.group.identity(), "restarts": 1}
        return align(binding, read_reference, read_model, seed=seed, **start)

    return run


def renumbered(models, binding, joint):
    return [
        rearranged(binding, element, model.__getitem__)
        for model, element in zip(models, joint.elements, strict=True)
    ]


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=10)
@given(seed=st.integers(0, 1000), count=st.integers(2, 5))
def test_renumbered_copies_are_recovered_exactly(strategy, seed, count):
    rng = np.random.default_rng(seed)
    model = chain(rng)
    binding = bound(model)
    copies = [model] + [
        held(rearranged(binding, binding.group.random(rng), model.__getitem__), model)
        for _ in range(count - 1)
    ]
    joint = align_many(
        binding, [c.__getitem__ for c in copies], aligner(binding), strategy=strategy, seed=seed
    )
    assert binding.group.is_identity(joint.elements[0])
    for read in renumbered(copies, binding, joint):
        assert all(read(name).tobytes() == model[name].tobytes() for name in model)
    assert joint.converged


@settings(max_examples=15)
@given(seed=st.integers(0, 1000), count=st.integers(3, 5))
def test_distances_of_merge_many_never_rise(seed, count):
    rng = np.random.default_rng(seed)
    models = [chain(rng) for _ in range(count)]
    binding = bound(models[0])
    reads = [m.__getitem__ for m in models]
    joint = align_many(binding, reads, aligner(binding), strategy="merge-many", seed=seed)
    assert joint.converged
    for before, after in zip(joint.distances, joint.distances[1:], strict=False):
        assert after <= before * (1 + 1e-9)
    assert joint.distances[-1] == pytest.approx(spread(binding, renumbered(models, binding, joint)))
    plain = align_many(binding, reads, aligner(binding), strategy="reference")
    assert joint.distances[0] == pytest.approx(spread(binding, renumbered(models, binding, plain)))


def test_merge_many_comes_nearer_than_aligning_to_the_first():
    gains = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        models = [chain(rng) for _ in range(4)]
        binding = bound(models[0])
        reads = [m.__getitem__ for m in models]
        joint = align_many(binding, reads, aligner(binding), strategy="merge-many")
        gains.append(joint.distances[0] - joint.distances[-1])
    assert min(gains) >= 0
    assert max(gains) > 0


def test_spread_is_the_root_mean_square_distance_to_the_mean():
    rng = np.random.default_rng(0)
    models = [chain(rng) for _ in range(3)]
    flat = np.stack([np.concatenate([m[n].ravel() for n in m]).astype(float) for m in models])
    expected = np.sqrt(((flat - flat.mean(0)) ** 2).sum(1).mean())
    found = spread(bound(models[0]), [m.__getitem__ for m in models])
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_for_two_models_every_strategy_is_one_alignment(strategy):
    rng = np.random.default_rng(1)
    models = [chain(rng) for _ in range(2)]
    binding = bound(models[0])
    joint = align_many(
        binding, [m.__getitem__ for m in models], aligner(binding), strategy=strategy
    )
    plain = align(binding, models[0].__getitem__, models[1].__getitem__)
    assert binding.group.equal(joint.elements[1], plain.element)
    assert [(s.models, s.references) for s in joint.steps] == [((1,), (0,))]


def test_a_tree_takes_one_alignment_less_than_there_are_models():
    rng = np.random.default_rng(2)
    models = [chain(rng) for _ in range(5)]
    binding = bound(models[0])
    reads = [m.__getitem__ for m in models]
    joint = align_many(binding, reads, aligner(binding), strategy="hierarchical")
    assert [(s.models, s.references) for s in joint.steps] == [
        ((1,), (0,)),
        ((3,), (2,)),
        ((2, 3), (0, 1)),
        ((4,), (0, 1, 2, 3)),
    ]


def test_the_same_seed_gives_the_same_elements():
    rng = np.random.default_rng(3)
    models = [chain(rng) for _ in range(4)]
    binding = bound(models[0])
    reads = [m.__getitem__ for m in models]
    first, again = (
        align_many(binding, reads, aligner(binding), strategy="merge-many", seed=7)
        for _ in range(2)
    )
    for one, other in zip(first.elements, again.elements, strict=True):
        assert binding.group.equal(one, other)
    assert first.distances == again.distances


def test_unknown_strategies_and_single_models_are_refused():
    model = chain(np.random.default_rng(0))
    binding = bound(model)
    with pytest.raises(InputError, match="strategy 'tree' is none of reference, hierarchical"):
        align_many(binding, [model.__getitem__] * 2, aligner(binding), strategy="tree")
    with pytest.raises(InputError, match="two models or more"):
        align_many(binding, [model.__getitem__], aligner(binding))
