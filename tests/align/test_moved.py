"""Tensors renumbered on their device: the same as renumbering by reading; and soft renumberings."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from align_kinds import KINDS, random_weights
from hypothesis import given, settings
from hypothesis import strategies as st

from rebasin_hub.align.moved import Mover, cut
from rebasin_hub.align.soft import SoftMover, sinkhorn
from rebasin_hub.rearrange import rearranged

kinds = pytest.mark.parametrize("kind", KINDS)


def on_torch(weights, dtype=torch.float32):
    return {name: torch.tensor(array, dtype=dtype) for name, array in weights.items()}


@given(kind=st.sampled_from(sorted(KINDS)), size=st.integers(2, 6), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=60)
def test_a_mover_reads_what_rearranged_reads_whatever_came_before(kind, size, seed):
    binding = KINDS[kind](size)
    rng = np.random.default_rng(seed)
    weights = random_weights(binding, rng)
    mover = Mover(binding, on_torch(weights))
    first, second = binding.group.random(rng), binding.group.random(rng)
    # Only some permutations change from the second to the third.
    third = {name: first[name] if rng.random() < 0.5 else second[name] for name in first}

    for element in (first, second, third, binding.group.identity(), first):
        moved = mover(element)
        read = rearranged(binding, element, weights.__getitem__)
        assert set(moved) == set(weights)
        for name in weights:
            np.testing.assert_array_equal(moved[name].numpy(), read(name))


def test_only_tensors_whose_numbering_changes_are_gathered_again():
    binding = KINDS["mlp"](6)
    weights = random_weights(binding, np.random.default_rng(0))
    mover = Mover(binding, on_torch(weights))
    element = binding.group.random(np.random.default_rng(1))
    before = mover(element)
    last = list(binding.group.factors)[-1]
    element[last] = element[last][::-1]  # in place, as a walk does

    after = mover(element)

    changed = {name for name in weights if after[name] is not before[name]}
    assert changed == {"5.weight", "7.weight"}


def test_tensors_that_are_not_there_are_left_out():
    binding = KINDS["experts"]()
    weights = random_weights(binding, np.random.default_rng(0))
    element = binding.group.random(np.random.default_rng(1))
    mover = Mover(binding, on_torch({"tokens": weights["tokens"]}))

    assert mover.factors == {"embed"}
    read = rearranged(binding, element, weights.__getitem__)
    np.testing.assert_array_equal(mover(element)["tokens"].numpy(), read("tokens"))


@kinds
def test_blocks_are_cut_as_from_arrays(kind):
    binding = KINDS[kind](4)
    weights = random_weights(binding, np.random.default_rng(0))
    for tensor in binding.tensors:
        stacked = tensor.stack(weights.__getitem__)
        for block in tensor.blocks:
            expected = block.of(stacked)
            np.testing.assert_array_equal(cut(block, torch.tensor(stacked)).numpy(), expected)


def single(group):
    return [name for name in group.roots if not group.children[name]]


@kinds
def test_hard_matrices_renumber(kind):
    binding = KINDS[kind](4)
    group = binding.group
    weights = random_weights(binding, np.random.default_rng(0))
    names = single(group)
    element = group.identity() | {
        name: index
        for name, index in group.random(np.random.default_rng(1)).items()
        if name in names
    }
    matrices = {name: torch.eye(group.factors[name].size)[element[name]] for name in names}

    moved = SoftMover(binding, on_torch(weights), names)(matrices)

    read = rearranged(binding, element, weights.__getitem__)
    for name in weights:
        np.testing.assert_array_equal(moved[name].numpy(), read(name))


def test_a_soft_renumbering_is_linear_in_each_matrix():
    binding = KINDS["padded"](4)
    weights = random_weights(binding, np.random.default_rng(0))
    tensors = on_torch(weights, torch.float64)
    mover = SoftMover(binding, tensors, ["stage"])
    eye = torch.eye(binding.group.factors["stage"].size, dtype=torch.float64)
    one, other = ({"stage": eye[torch.randperm(len(eye))]} for _ in range(2))
    half = {"stage": (one["stage"] + other["stage"]) / 2}

    moved, first, second = mover(half), mover(one), mover(other)

    for name in ("a", "b"):  # on the third it stands twice
        torch.testing.assert_close(moved[name], (first[name] + second[name]) / 2)


@given(size=st.integers(1, 7), seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.1, 1.0]))
@settings(max_examples=20)
def test_sinkhorn_makes_doubly_stochastic_matrices_with_the_gradient_of_the_limit(
    size, seed, spread
):
    generator = torch.Generator().manual_seed(seed)
    scores = spread * torch.randn(2, size, size, generator=generator, dtype=torch.float64)
    scores.requires_grad_()
    target = torch.randn(2, size, size, generator=generator, dtype=torch.float64)

    matrices = sinkhorn(scores, 400)
    (gradient,) = torch.autograd.grad((matrices * target).sum(), scores)

    ones = torch.ones(2, size, dtype=torch.float64)
    torch.testing.assert_close(matrices.sum(-1), ones, atol=1e-6, rtol=0)
    torch.testing.assert_close(matrices.sum(-2), ones, atol=1e-6, rtol=0)
    logs = scores
    for _ in range(400):
        logs = logs - logs.logsumexp(-1, keepdim=True)
        logs = logs - logs.logsumexp(-2, keepdim=True)
    (unrolled,) = torch.autograd.grad((logs.exp() * target).sum(), scores)
    torch.testing.assert_close(gradient, unrolled, atol=1e-6, rtol=1e-4)


def test_the_gradient_of_sinkhorn_is_that_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(1, 4, 4, generator=generator, dtype=torch.float64, requires_grad=True)

    assert torch.autograd.gradcheck(
        lambda x: sinkhorn(x, 300), (scores,), check_undefined_grad=False
    )


def test_near_a_permutation_the_gradient_is_finite_and_vanishes():
    scores = (200 * torch.eye(5)[[2, 0, 1, 4, 3]]).requires_grad_()

    matrices = sinkhorn(scores, 20)
    (gradient,) = torch.autograd.grad((matrices * torch.randn(5, 5)).sum(), scores)

    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e-6
