"""Losses that a search optimizes: of batches of training samples, differentiable."""

import itertools

import evidence_nets as nets
import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from rebasin_hub.errors import InputError
from rebasin_hub.evidence import NetworkEvidence
from rebasin_hub.tasks.network import IGNORED, Batch


def key(row):
    return row.numpy().tobytes()


@pytest.mark.parametrize("size", [32, 299, 10**4])
def test_an_epoch_has_every_sample_once(size) -> None:
    evidence = nets.planted("mlp").evidence
    count, sizes, seen = 0, [], []
    for batch in evidence.minibatches(size, 1):
        sizes.append(len(batch))
        seen += [key(row) for row in batch.inputs[0]]
        count += len(batch)
        if count >= nets.SAMPLES:
            break
    assert sorted(seen) == sorted(key(row) for row in nets.numbers(7))
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1


def test_batches_are_drawn_by_seed() -> None:
    evidence = nets.planted("mlp").evidence

    def some(seed):
        return [key(b.targets) for b in itertools.islice(evidence.minibatches(50, seed), 9)]

    assert some(1) == some(1)
    assert some(1) != some(2)
    assert some(1)[:3] != some(1)[6:]  # another order in the next epoch
    with pytest.raises(InputError, match="a batch of 0 samples"):
        next(evidence.minibatches(0, 1))


def test_targets_stay_with_their_inputs() -> None:
    evidence = nets.planted("mlp").evidence
    whole = next(nets.planted("mlp", batch=10**4).network.data["train"].batches(10**4))
    label = dict(zip(map(key, whole.inputs[0]), whole.targets.tolist(), strict=True))
    for batch in (*evidence.fixed(40), next(evidence.minibatches(64, 0))):
        assert [label[key(row)] for row in batch.inputs[0]] == batch.targets.tolist()


def test_fixed_samples_are_the_same_in_every_call() -> None:
    p = nets.planted("mlp")
    first, again = p.evidence.fixed(100), p.evidence.fixed(100)
    assert sum(map(len, first)) == 100
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a.inputs[0], b.inputs[0])
    other = NetworkEvidence(p.network, p.binding, loss="cross-entropy", seed=1).fixed(100)
    assert not torch.equal(first[0].inputs[0], other[0].inputs[0])


def test_the_loss_is_the_mean_cross_entropy_and_can_be_differentiated() -> None:
    p = nets.planted("mlp")
    (batch,) = itertools.islice(p.evidence.minibatches(50, 0), 1)
    tensors = {n: x.requires_grad_() for n, x in p.evidence.tensors(p.read_a).items()}
    loss = p.evidence.loss(tensors, batch)
    logits = functional_call(p.network.module, tensors, batch.inputs)
    assert loss.item() == pytest.approx(cross_entropy(logits, batch.targets).item(), rel=1e-6)
    gradients = torch.autograd.grad(loss, list(tensors.values()))
    direction = [torch.randn_like(x) for x in tensors.values()]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    step = 1e-2 / abs(slope)

    def moved(sign):
        values = zip(tensors.items(), direction, strict=True)
        with torch.no_grad():
            at = {n: (x + sign * step * d).double() for (n, x), d in values}
            return float(p.evidence.loss(at, Batch((batch.inputs[0].double(),), batch.targets)))

    assert (moved(1) - moved(-1)) / (2 * step) == pytest.approx(slope, rel=1e-2)


def test_positions_that_are_not_predicted_do_not_count() -> None:
    p = nets.planted("gpt2")
    (batch,) = itertools.islice(p.evidence.minibatches(8, 0), 1)
    targets = batch.targets.clone()
    targets[:, 3:] = IGNORED
    tensors = p.evidence.tensors(p.read_a)
    loss = p.evidence.loss(tensors, Batch(batch.inputs, targets))
    logits = p.network.logits(p.network.forward(p.network.inner(tensors), batch))[:, :3]
    expected = cross_entropy(logits.flatten(0, 1), targets[:, :3].flatten())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_batch_norm_uses_the_batch_and_changes_nothing() -> None:
    p = nets.planted("resnet")
    (batch,) = itertools.islice(p.evidence.minibatches(64, 0), 1)
    tensors = p.evidence.tensors(p.read_a)
    stored = {name: x.clone() for name, x in tensors.items()}
    own = {name: x.clone() for name, x in p.network.module.state_dict().items()}
    loss = p.evidence.loss(tensors, batch)
    other = {n: x * 3 if "running" in n else x for n, x in tensors.items()}
    assert torch.equal(p.evidence.loss(other, batch), loss)
    for before, after in ((stored, tensors), (own, p.network.module.state_dict())):
        assert all(torch.equal(x, after[name]) for name, x in before.items())
    assert not any(module.training for module in p.network.module.modules())
    p.network.module.train()
    expected = functional_call(p.network.module, stored, batch.inputs)
    assert loss.item() == pytest.approx(cross_entropy(expected, batch.targets).item(), rel=1e-5)


class Dropping(nn.Sequential):
    def __init__(self) -> None:
        super().__init__(nn.Linear(7, 6), nn.ReLU(), nn.Dropout(0.5), nn.Linear(6, 4))


def test_nothing_is_dropped_out() -> None:
    module = Dropping()
    weights = nets.nets.state(module, 1)
    spec = (
        "spec: 1\nname: x\npermutations:\n  a:\ntensors:\n  0.weight: a input\n  0.bias: a\n"
        "  3.weight: classes a\n  3.bias: classes\n"
    )
    network = nets.wrapped(module, nets.numbers(7), 32)
    evidence = NetworkEvidence(network, nets.bound(spec, weights, {}), loss="cross-entropy")
    batch = evidence.fixed(32)[0]
    assert torch.equal(evidence.loss(weights, batch), evidence.loss(weights, batch))


def test_a_loss_of_the_tasks_own() -> None:
    p = nets.planted("mlp")
    p.network.loss = lambda output, targets: (output.square().sum(1), targets)
    batch = p.evidence.fixed(32)[0]
    tensors = p.evidence.tensors(p.read_a)
    output = p.network.forward(p.network.inner(tensors), batch)
    expected = output.square().sum(1).mean()
    assert p.evidence.loss(tensors, batch).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_tensors_are_float32(dtype) -> None:
    p = nets.planted("resnet")
    stored = lambda n: p.read_a(n).astype(dtype) if "num" not in n else p.read_a(n)  # noqa: E731
    tensors = p.evidence.tensors(stored)
    assert {x.dtype for x in tensors.values()} <= {torch.float32, torch.int64}
    assert set(tensors) == set(p.binding.header)


def test_texts_of_unequal_lengths_come_in_batches_of_equal_ones() -> None:
    p = nets.planted("gpt2")
    p.network.data = {"train": nets.Ragged(p.network.data["train"])}
    evidence = NetworkEvidence(p.network, p.binding, loss="cross-entropy")
    count = 0
    for batch in evidence.minibatches(32, 0):
        assert torch.isfinite(evidence.loss(evidence.tensors(p.read_a), batch))
        count += len(batch)
        if count >= nets.SAMPLES:
            break
    assert count == nets.SAMPLES
    assert evidence.features(p.read_a, p.read_b, samples=60, seed=0)
