"""Features: the moments of what two models compute, numbered as their places say."""

import evidence_nets as nets
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import linear

from rebasin_hub.align.metric import order_of
from rebasin_hub.errors import InputError, NotFiniteError
from rebasin_hub.evidence import NetworkEvidence, evidence_of
from rebasin_hub.rearrange import rearranged

MANY = 10**6


def listed(p, *, samples=MANY, seed=0, within=True):
    return p.evidence.features(p.read_a, p.read_b, samples=samples, seed=seed, within=within)


def features(p, **options):
    return {f"{f.label} {f.axis.permutations}": f for f in listed(p, **options)}


@pytest.mark.parametrize("kind", nets.KINDS)
def test_the_axis_of_a_place_tells_how_its_features_are_numbered(kind) -> None:
    p = nets.planted(kind)
    found = listed(p)
    assert {name for f in found for name in f.axis.permutations} >= {*p.binding.group.factors} - (
        {"head", "vo"} if kind == "attention" else set()
    )
    for f in found:
        order = order_of(p.binding.group, f, p.element)
        scale = np.sqrt(f.variance_a.max() + np.square(f.mean_a).max())
        np.testing.assert_allclose(f.mean_b[order], f.mean_a, atol=1e-5 * scale)
        np.testing.assert_allclose(f.variance_b[order], f.variance_a, atol=1e-5 * scale**2)
        np.testing.assert_allclose(f.cross[:, order], f.within_a, atol=1e-5 * scale**2)
        np.testing.assert_allclose(
            f.within_b[np.ix_(order, order)], f.within_a, atol=1e-5 * scale**2
        )


@pytest.mark.parametrize("kind", ["mlp", "resnet", "gpt2", "lstm"])
def test_batches_of_seven_give_what_one_batch_gives(kind) -> None:
    whole, parts = features(nets.planted(kind, batch=MANY)), features(nets.planted(kind, batch=7))
    for label, f in whole.items():
        g = parts[label]
        assert f.count == g.count
        for name in ("mean_a", "mean_b", "cross", "variance_a", "variance_b", "within_a"):
            x, y = getattr(f, name), getattr(g, name)
            # The forward pass itself rounds differently in float32.
            np.testing.assert_allclose(y, x, rtol=1e-4, atol=1e-5 * np.abs(x).max())


def test_moments_are_those_of_numpy() -> None:
    p = nets.planted("mlp")
    inputs = nets.numbers(7)
    found = features(p)["input of layers.1 ('hidden[0]',)"]
    a, b = (
        linear(
            inputs, *(torch.from_numpy(read(f"layers.0.{k}").copy()) for k in ("weight", "bias"))
        )
        .relu()
        .double()
        .numpy()
        for read in (p.read_a, p.read_b)
    )
    n = a.shape[1]
    both = np.cov(a, b, rowvar=False, bias=True)
    assert found.count == len(inputs)
    np.testing.assert_allclose(found.mean_b, b.mean(0), atol=1e-6)
    np.testing.assert_allclose(found.cross, both[:n, n:], atol=1e-6)
    np.testing.assert_allclose(found.within_a, both[:n, :n], atol=1e-6)
    np.testing.assert_allclose(found.within_b, both[n:, n:], atol=1e-6)
    np.testing.assert_allclose(found.variance_b, both.diagonal()[n:], atol=1e-6)


def test_positions_are_observations() -> None:
    found = features(nets.planted("vgg"))
    by_channel = found["input of classifier.0 ('channel[3]',)"]
    assert by_channel.axis.length == 8
    assert by_channel.count == nets.SAMPLES * 4  # flattened from 2 × 2 positions
    assert found["input of features.3 ('channel[0]',)"].count == nets.SAMPLES * 36


def test_a_value_that_several_modules_read_is_one_place() -> None:
    p = nets.planted("llama")
    place, *others = [
        f for label, f in features(p).items() if "layers.0.self_attn" in label and "embed" in label
    ]
    assert not others
    assert place.readers == tuple(
        (f"model.layers.0.self_attn.{x}_proj.weight", 1) for x in ("q", "k", "v")
    )


class InPlace(nn.Module):
    """Adds to a value in place after a layer has read it."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(5, 6)
        self.middle = nn.Linear(6, 6)
        self.leave = nn.Linear(6, 4)

    def forward(self, x):
        x = self.enter(x).relu_()
        x += self.middle(x)
        return self.leave(x)


MIDDLE = """
spec: 1
name: middle
permutations:
  a:
tensors:
  enter.weight: a input
  enter.bias: a
  middle.weight: a a
  middle.bias: a
  leave.weight: classes a
  leave.bias: classes
"""


def test_inputs_are_as_the_module_read_them() -> None:
    module = InPlace()
    weights = nets.nets.state(module, 1)
    inputs = nets.numbers(5)
    network = nets.wrapped(module, inputs, 64)
    evidence = NetworkEvidence(network, nets.bound(MIDDLE, weights, {}), loss="cross-entropy")
    read = lambda name: weights[name].numpy()  # noqa: E731
    middle, leave = evidence.features(read, read, samples=MANY, seed=0)
    x = linear(inputs, weights["enter.weight"], weights["enter.bias"]).relu()
    np.testing.assert_allclose(middle.mean_a, x.mean(0), rtol=1e-5)
    x = x + linear(x, weights["middle.weight"], weights["middle.bias"])
    np.testing.assert_allclose(leave.mean_a, x.mean(0), rtol=1e-4, atol=1e-5)
    assert (middle.readers, leave.readers) == (
        (("middle.weight", 1),),
        (("leave.weight", 1),),
    )


def test_a_depthwise_convolution_multiplies_no_features() -> None:
    place = features(nets.planted("convolved"))["input of depthwise ('a',)"]
    assert (place.mean_a > 0).all()  # after `relu_`
    assert place.readers == ()


def test_samples_are_drawn_by_seed() -> None:
    p = nets.planted("mlp")
    first, second, other = (features(p, samples=20, seed=seed) for seed in (1, 1, 2))
    for label, f in first.items():
        assert f.count == 20
        np.testing.assert_array_equal(f.cross, second[label].cross)
        assert not np.allclose(f.cross, other[label].cross)


def test_without_within_there_are_neither_covariances_nor_fixed_inputs() -> None:
    p = nets.planted("mlp")
    assert "input of layers.0 ()" in features(p)
    small = features(p, within=False)
    assert "input of layers.0 ()" not in small
    assert all(f.within_a is None and f.within_b is None for f in small.values())


def test_padding_does_not_count() -> None:
    torch.manual_seed(0)
    module = nets.nets.transformer("bert")
    weights = nets.nets.state(module, 1)
    binding = nets.bound("bert", weights, {"head": 2})
    mask = torch.ones(32, 8, dtype=torch.int64)
    mask[:, 5:] = 0
    found = []
    for filler in (0, 3):
        ids = torch.randint(4, 23, (32, 8), generator=torch.Generator().manual_seed(1))
        ids[:, 5:] = filler
        network = nets.wrapped(module, ids, 16)
        data = network.data["train"]
        network.data = {"train": nets.Masked(data, mask)}
        evidence = NetworkEvidence(network, binding, loss="cross-entropy")
        read = lambda name: weights[name].numpy()  # noqa: E731
        found.append(evidence.features(read, read, samples=32, seed=0))
    counts = {f.count for f in found[0]}
    assert 32 * 5 in counts
    assert 32 * 8 not in counts
    for f, g in zip(*found, strict=True):
        np.testing.assert_allclose(f.cross, g.cross, rtol=1e-4, atol=1e-5)


class Routed(nn.Module):
    """Sends samples to its second layer as the first one decides."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Linear(5, 6)
        self.middle = nn.Linear(6, 6)
        self.leave = nn.Linear(6, 4)

    def forward(self, x):
        x = self.enter(x).relu()
        chosen = x.sum(1) > x.sum(1).median() * self.enter.bias.abs().sum()
        x = x.clone()
        x[chosen] = self.middle(x[chosen]).relu()
        return self.leave(x)


def test_samples_that_only_one_model_sends_somewhere_are_not_compared() -> None:
    module = Routed()
    a, b = (nets.nets.state(module, seed) for seed in (1, 2))
    network = nets.wrapped(module, nets.numbers(5), 32)
    evidence = NetworkEvidence(network, nets.bound(MIDDLE, a, {}), loss="cross-entropy")
    found = evidence.features(lambda n: a[n].numpy(), lambda n: b[n].numpy(), samples=MANY, seed=0)
    assert [f.label for f in found] == ["input of leave"]
    (note,) = evidence.notes
    assert "input of middle" in note


class Odd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own = Own()
        self.leave = nn.Linear(6, 4)

    def forward(self, x):
        return self.leave(self.own(x))


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.randn(5, 6))

    def forward(self, x):
        return (x @ self.matrix).relu()


def test_modules_of_unknown_kinds_are_named() -> None:
    module = Odd()
    weights = nets.nets.state(module, 1)
    spec = (
        "spec: 1\nname: odd\npermutations:\n  a:\ntensors:\n  own.matrix: input a\n"
        "  leave.weight: classes a\n  leave.bias: classes\n"
    )
    network = nets.wrapped(module, nets.numbers(5), 32)
    evidence = NetworkEvidence(network, nets.bound(spec, weights, {}), loss="cross-entropy")
    read = lambda name: weights[name].numpy()  # noqa: E731
    assert [f.label for f in evidence.features(read, read, samples=9, seed=0)] == ["input of leave"]
    assert evidence.notes == ("No features are read in 'own (Own)', of unknown kind.",)


@pytest.mark.parametrize("which", ["reference", "model"])
def test_nan_is_refused_with_the_model_and_the_place(which) -> None:
    p = nets.planted("mlp")

    def broken(read):
        return lambda name: read(name) * (np.nan if name == "layers.1.bias" else 1)

    reads = {"reference": p.read_a, "model": p.read_b}
    reads[which] = broken(reads[which])
    with pytest.raises(NotFiniteError, match=f"the {which} computes .* input of layers.2"):
        p.evidence.features(*reads.values(), samples=10, seed=0)


def test_a_network_of_another_kind_is_refused() -> None:
    task = type("Task", (), {"name": "onnx", "loss_name": "cross-entropy"})()
    with pytest.raises(InputError, match=r"'onnx' cannot be looked into.*--method weight"):
        evidence_of(object(), task, nets.planted("mlp").binding)


def test_samples_of_the_test_split_are_admitted() -> None:
    p = nets.planted("mlp")
    network = nets.wrapped(p.network.module, nets.numbers(7), 32, split="test")
    task = type("Task", (), {"name": "own", "loss_name": "cross-entropy"})()
    evidence = evidence_of(network, task, p.binding)
    assert evidence.loss_name == "cross-entropy (test)"
    assert "split 'test', there being no 'train'" in evidence.notes[0]
    assert p.evidence.notes == ()
    assert p.evidence.loss_name == "cross-entropy (train)"


def test_hooks_are_gone_afterwards() -> None:
    p = nets.planted("resnet")
    features(p)
    for module in p.network.module.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_renumbering_b_renumbers_its_features() -> None:
    p = nets.planted("gpt2")
    element = p.binding.group.random(np.random.default_rng(5))
    moved = rearranged(p.binding, element, p.read_b)
    before = listed(p)
    after = p.evidence.features(p.read_a, moved, samples=MANY, seed=0, within=True)
    for f, g in zip(before, after, strict=True):
        order = order_of(p.binding.group, g, element)
        np.testing.assert_allclose(g.cross, f.cross[:, order], atol=1e-5 * np.abs(f.cross).max())
