"""Repair: recomputed statistics and REPAIR, their laws, and which layers they reach."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from repair_nets import (
    SAMPLES,
    WITH_NORMS,
    WITH_SPEC,
    ZOO,
    Odd,
    batches_of,
    data,
    images,
    made,
    network,
    renumbering,
    state,
    tokens,
    transformer,
)
from torch import Generator, nn
from torch.nn import functional

from rebasin_hub import repair, zoo
from rebasin_hub.demo.digits import load_digits
from rebasin_hub.errors import InputError
from rebasin_hub.repair.moments import interpolated, moments_of, pooled
from rebasin_hub.tasks.network import IGNORED, Batch, TensorData, TorchNetwork
from rebasin_hub.tasks.task import Split

TRANSFORMERS = ["gpt2", "bert"]
ALL = [*ZOO, *TRANSFORMERS]
HALF = (0.5, 0.5)


def midpoint(name, batch=SAMPLES, weights=HALF):
    """Return a network, its interpolated state, the ends' targets, and the batches."""
    net, a, b = made(name, batch)
    batches = repair.statistics_batches(net)
    targets = [repair.measure(net, end, batches) for end in (a, b)]
    return net, net.mix([a, b], weights), targets, batches


def worst(net, after, targets, weights, batches):
    """Return the largest deviation of a channel from its target, in its layer's typical one."""
    found, distance = repair.measure(net, after, batches), 0.0
    sets = {layer.name: layer.repaired for layer in repair.layers(net)}
    for name, channels in found.output.items():
        wanted = interpolated([end.output[name] for end in targets], weights)
        unit = wanted.std.square().mean().sqrt()
        distance = max(distance, float((channels.std - wanted.std).abs().max() / unit))
        if sets[name] == "mean and deviation":
            distance = max(distance, float((channels.mean - wanted.mean).abs().max() / unit))
    return distance


# Moments


@given(
    st.lists(st.integers(1, 9), min_size=1, max_size=6),
    st.floats(-1e3, 1e3),
    st.integers(0, 2**32 - 1),
)
def test_pooled_moments_do_not_depend_on_the_split_or_its_order(sizes, shift, seed) -> None:
    values = torch.randn(
        sum(sizes), 3, 2, dtype=torch.float64, generator=Generator().manual_seed(seed)
    )
    values = values + shift
    parts = [moments_of(part, 1) for part in values.split(sizes)]
    for order in (parts, parts[::-1]):
        total = order[0]
        for part in order[1:]:
            total = pooled(total, part)
        variance, mean = torch.var_mean(values, (0, 2), correction=0)
        assert total.count == 2 * sum(sizes)
        torch.testing.assert_close(total.mean, mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(total.variance, variance, rtol=1e-9, atol=1e-9)


def test_moments_are_summed_in_float64() -> None:
    values = torch.full((100_000, 1), 4096.0)
    values[::2] += 2**-10  # in float32 the sum of squares would lose this
    moments = moments_of(values, -1)
    assert moments.variance.item() == pytest.approx(2**-22, rel=1e-6)
    assert moments.mean.dtype == torch.float64


def test_interpolation_is_of_deviations_not_variances() -> None:
    ends = [
        repair.Channels(torch.tensor([m]).double(), torch.tensor([s]).double())
        for m, s in ((0.0, 1.0), (4.0, 3.0))
    ]
    middle = interpolated(ends, (0.25, 0.75))
    assert (middle.mean.item(), middle.std.item()) == (3.0, 2.5)
    assert interpolated(ends, (2.0, -1.0)).std.item() == 0  # no negative deviation


# Recomputed statistics


@pytest.mark.parametrize("name", WITH_NORMS)
def test_recomputed_statistics_are_those_that_torch_measures_in_training(name) -> None:
    net, a, _ = made(name)
    after = repair.recomputed(net, a, repair.statistics_batches(net))
    module = ZOO[name][0]()
    module.load_state_dict(a)
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
            layer.train()
    module(net.data["train"].inputs[0])
    for key, tensor in module.state_dict().items():
        if "running" in key:
            torch.testing.assert_close(after[key], tensor, rtol=1e-4, atol=1e-5)
            assert not torch.allclose(after[key], a[key], rtol=1e-2)


@pytest.mark.parametrize("name", ALL)
def test_recomputing_changes_only_running_statistics(name) -> None:
    net, a, _ = made(name)
    before = {key: x.clone() for key, x in a.items()}
    after = repair.recomputed(net, a, repair.statistics_batches(net))
    changed = {key for key in a if not torch.equal(after[key], a[key])}
    assert changed == {key for key in a if key.endswith(("running_mean", "running_var"))}
    assert all(torch.equal(before[key], a[key]) for key in a)  # the input is not touched
    assert list(after) == list(a)


@settings(max_examples=10)
@given(st.permutations(range(4)), st.floats(0.01, 1.0))
def test_neither_order_nor_momentum_counts(order, momentum) -> None:
    net, a, _ = made("vgg-bn")
    batches = batches_of(images(ZOO["vgg-bn"][1]), [10, 20, 30, 36])
    expected = repair.recomputed(net, a, batches)
    for layer in net.module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = momentum
    found = repair.recomputed(net, a, [batches[number] for number in order])
    for key in a:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-6, atol=1e-6)


def test_first_norm_has_pooled_unbiased_statistics_of_unequal_batches() -> None:
    net, a, _ = made("vgg-bn")
    inputs = images(ZOO["vgg-bn"][1])
    found = repair.recomputed(net, a, batches_of(inputs, [1, 5, 90]))
    first = functional.conv2d(inputs, a["features.0.weight"], a["features.0.bias"], padding=1)
    variance, mean = torch.var_mean(first.double(), (0, 2, 3), correction=1)
    first_mean, first_var = (found[f"features.1.running_{key}"] for key in ("mean", "var"))
    torch.testing.assert_close(first_mean.double(), mean, rtol=0, atol=1e-6)
    torch.testing.assert_close(first_var.double(), variance, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("norm", "shape"),
    [
        (nn.BatchNorm1d(3), (20, 3)),
        (nn.BatchNorm1d(3), (20, 3, 4)),
        (nn.BatchNorm3d(3), (20, 3, 2, 2, 2)),
        (nn.SyncBatchNorm(3), (20, 3, 4)),
        (nn.BatchNorm2d(3, affine=False), (20, 3, 2, 2)),
    ],
)
def test_every_batchnorm_is_recomputed(norm, shape) -> None:
    inputs = torch.randn(shape) * 3 + 1
    module = nn.Sequential(norm)
    net = network(module, inputs)
    found = repair.recomputed(net, module.state_dict(), repair.statistics_batches(net))
    others = [axis for axis in range(len(shape)) if axis != 1]
    variance, mean = torch.var_mean(inputs, others)
    torch.testing.assert_close(found["0.running_mean"], mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["0.running_var"], variance, rtol=1e-5, atol=1e-5)


# REPAIR


@pytest.mark.parametrize("name", ALL)
def test_fused_statistics_meet_the_targets(name) -> None:
    net, mixed, targets, batches = midpoint(name)
    assert worst(net, mixed, targets, HALF, batches) > 0.1
    after = repair.repaired(net, mixed, targets, HALF, batches)
    assert worst(net, after, targets, HALF, batches) < 1e-3
    assert {k: (x.shape, x.dtype) for k, x in after.items()} == {
        k: (x.shape, x.dtype) for k, x in mixed.items()
    }


@pytest.mark.parametrize("name", ["mlp", "vgg", "vgg-bn", "cifar-b", "gpt2"])
def test_batches_of_their_own_statistics_come_close(name) -> None:
    net, mixed, targets, batches = midpoint(name, batch=24, weights=(0.7, 0.3))
    before = worst(net, mixed, targets, (0.7, 0.3), batches)
    after = repair.repaired(net, mixed, targets, (0.7, 0.3), batches)
    assert len(batches) == 4
    assert worst(net, after, targets, (0.7, 0.3), batches) < min(0.15, before / 4)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0)])
def test_an_end_comes_back_as_it_is(name, weights) -> None:
    net, end, targets, batches = midpoint(name, batch=40, weights=weights)
    after = repair.repaired(net, end, targets, weights, batches)
    assert all(torch.equal(after[key], end[key]) for key in end)


@pytest.mark.parametrize("name", ["mlp", "vgg-bn", "cifar-b"])
def test_correction_itself_keeps_an_end(name, monkeypatch) -> None:
    """Without the look that finds nothing to do: the arithmetic alone has this law too."""
    monkeypatch.setattr("rebasin_hub.repair.correct.TOLERANCE", -1.0)
    net, end, targets, batches = midpoint(name, weights=(1.0, 0.0))
    after = repair.repaired(net, end, targets, (1.0, 0.0), batches)
    assert any(after[key] is not end[key] for key in end)
    for key in end:
        torch.testing.assert_close(after[key], end[key], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp", "vgg-bn", "cifar-b"])
def test_each_layer_may_have_weights_of_its_own(name) -> None:
    net, mixed, targets, batches = midpoint(name)
    same = repair.repaired(net, mixed, targets, dict.fromkeys(mixed, HALF), batches)
    expected = repair.repaired(net, mixed, targets, HALF, batches)
    assert all(torch.equal(same[key], expected[key]) for key in mixed)
    first = next(layer.name for layer in repair.layers(net) if layer.repaired)
    weights = {key: (0.0, 1.0) if key.rpartition(".")[0] == first else (1.0, 0.0) for key in mixed}
    after = repair.measure(net, repair.repaired(net, mixed, targets, weights, batches), batches)
    for layer in after.output:
        wanted = targets[layer == first].output[layer]
        torch.testing.assert_close(after.output[layer].std, wanted.std, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", WITH_SPEC)
def test_repairing_commutes_with_renumbering(name) -> None:
    net, a, b = made(name)
    batches = repair.statistics_batches(net)

    def treated(a, b):
        targets = [repair.measure(net, end, batches) for end in (a, b)]
        mixed = net.mix([a, b], HALF)
        return [
            repair.repaired(net, mixed, targets, HALF, batches),
            repair.recomputed(net, mixed, batches),
        ]

    renumbered = renumbering(name, a, seed=3)
    before, after = treated(renumbered(a), renumbered(b)), map(renumbered, treated(a, b))
    for found, expected in zip(before, after, strict=True):
        assert any(not torch.equal(expected[key], a[key]) for key in a)
        for key in found:
            torch.testing.assert_close(found[key], expected[key], rtol=2e-4, atol=2e-4)


def test_norms_keep_normalizing_so_that_training_can_go_on() -> None:
    net, a, b = made("vgg-bn")
    batches = repair.statistics_batches(net)
    calibrated = [repair.recomputed(net, end, batches) for end in (a, b)]
    targets = [repair.measure(net, end, batches) for end in calibrated]
    after = repair.repaired(net, net.mix(calibrated, HALF), targets, HALF, batches)
    reset = repair.recomputed(net, after, batches)
    for key in (k for k in after if "running" in k):
        torch.testing.assert_close(after[key], reset[key], rtol=1e-3, atol=1e-3)


def test_gains_keep_their_sign() -> None:
    net, a, b = made("vgg-bn")
    for end in (a, b):
        end["features.1.weight"][::2] *= -1
    batches = repair.statistics_batches(net)
    targets = [repair.measure(net, end, batches) for end in (a, b)]
    mixed = net.mix([a, b], HALF)
    after = repair.repaired(net, mixed, targets, HALF, batches)
    assert torch.equal(after["features.1.weight"].sign(), mixed["features.1.weight"].sign())
    assert worst(net, after, targets, HALF, batches) < 1e-3


def test_dead_channels_are_not_blown_up() -> None:
    net, a, b = made("mlp")
    for end in (a, b):
        end["layers.0.weight"][3] = 0
        end["layers.1.weight"][:] = 0
    batches = repair.statistics_batches(net)
    targets = [repair.measure(net, end, batches) for end in (a, b)]
    b["layers.0.weight"][4] = -a["layers.0.weight"][4]  # dies in the middle alone
    after = repair.repaired(net, net.mix([a, b], HALF), targets, HALF, batches)
    assert all(x.isfinite().all() for x in after.values())
    assert not after["layers.0.weight"][3].any()
    assert not after["layers.0.weight"][4].any()
    assert not after["layers.1.weight"].any()
    assert worst(net, after, targets, HALF, batches) > 0.5  # what is dead cannot be revived
    moments = repair.measure(net, after, batches).output["layers.0"]
    wanted = interpolated([end.output["layers.0"] for end in targets], HALF)
    torch.testing.assert_close(moments.mean, wanted.mean, rtol=1e-4, atol=1e-4)


def test_dead_channels_of_norms_stay_finite() -> None:
    net, a, b = made("vgg-bn")
    for end in (a, b):
        end["features.0.weight"][2] = 0
        end["features.1.weight"][3] = 0
    batches = repair.statistics_batches(net)
    targets = [repair.measure(net, end, batches) for end in (a, b)]
    after = repair.repaired(net, net.mix([a, b], HALF), targets, HALF, batches)
    assert all(x.isfinite().all() for x in after.values())
    assert worst(net, after, targets, HALF, batches) < 1e-3


def test_weights_that_overflow_do_not_raise() -> None:
    net, mixed, targets, batches = midpoint("mlp")
    mixed["layers.0.weight"][0] = math.inf
    after = repair.repaired(net, mixed, targets, HALF, batches)
    assert list(after) == list(mixed)


def test_padding_does_not_count() -> None:
    module = transformer("bert")
    a, b = state(module, 1), state(module, 2)
    ids, mask = tokens(), torch.ones(SAMPLES, 8, dtype=torch.int64)
    mask[::2, 5:] = 0
    name = "bert.encoder.layer.0.intermediate.dense"
    other = torch.where(mask.bool(), ids, (ids + 1) % 23)  # other words where there is padding

    def measured(ids, mask):
        batch = Batch({"input_ids": ids, "attention_mask": mask}, torch.zeros(SAMPLES))
        return repair.measure(network(module, tokens()), a, [batch]).output[name]

    torch.testing.assert_close(measured(ids, mask).std, measured(other, mask).std)
    assert not torch.allclose(measured(ids, mask * 0 + 1).std, measured(other, mask * 0 + 1).std)
    assert b


# Layers


def by_name(net):
    return {layer.name: layer for layer in repair.layers(net)}


def test_layers_of_every_kind_are_told_with_reasons() -> None:
    found = by_name(network(Odd(), images((4, 6))))
    both = "mean and deviation"
    assert {name: (x.recomputed, x.repaired) for name, x in found.items() if x.repaired} == {
        "conv1": (False, both),
        "conv2": (False, both),
        "up2": (False, both),
        "conv3": (False, "deviation"),
        "up1": (False, both),
        "bare": (False, "deviation"),
        "plain": (True, both),
    }
    reasons = {name: x.reason for name, x in found.items() if not x.repaired}
    assert reasons == {
        "twice": "it is applied 2 times in one pass",
        "unused": "the network does not run it as a layer",
        "tied": "it shares its weight with tied_too.weight",
        "tied_too": "it shares its weight with tied.weight",
        "scaled": "its weight is not stored as such",
        "scaled.parametrizations.weight": "it is neither a convolution nor a linear layer",
        "own": "its class computes in a way of its own",
        "group": "it normalizes each sample by itself and keeps no running statistics",
        "untracked": "it keeps no running statistics",
        "last": "it gives the network's output",
    }
    assert "no bias" in found["bare"].reason


@pytest.mark.parametrize("seed", range(3))
def test_layers_of_every_kind_meet_their_targets(seed) -> None:
    module = Odd()
    a, b = state(module, 10 + seed), state(module, 20 + seed)
    net = network(module, images((4, 6)))
    batches = repair.statistics_batches(net)
    targets = [repair.measure(net, end, batches) for end in (a, b)]
    mixed = net.mix([a, b], (0.4, 0.6))
    after = repair.repaired(net, mixed, targets, (0.4, 0.6), batches)
    assert worst(net, after, targets, (0.4, 0.6), batches) < 1e-3
    for name in ("twice", "tied", "own", "last"):
        assert torch.equal(after[f"{name}.weight"], mixed[f"{name}.weight"])


def test_layers_before_a_norm_are_left_to_it() -> None:
    found = by_name(made("vgg-bn")[0])
    assert found["features.0"].repaired is None
    assert "straight into features.1," in found["features.0"].reason
    assert found["features.1"] == repair.Layer(
        "features.1", "BatchNorm2d", True, "mean and deviation", ""
    )
    assert found["classifier.0"].repaired == "mean and deviation"
    assert found["classifier.3"].reason == "it gives the network's output"


def test_an_activation_in_place_stands_between_a_layer_and_a_norm() -> None:
    module = nn.Sequential(
        nn.Linear(4, 4), nn.ReLU(inplace=True), nn.BatchNorm1d(4), nn.Linear(4, 2)
    )
    found = by_name(network(module, images((4,))))
    assert found["0"].repaired == found["2"].repaired == "mean and deviation"


def test_pooling_may_follow_the_last_layer() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    found = by_name(network(module, images((3, 6, 6))))
    assert found["0"].repaired == "mean and deviation"
    assert found["2"].reason == "it gives the network's output"


def test_norms_that_are_run_twice_have_the_statistics_of_both() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm1d(3)
            self.last = nn.Linear(3, 2)

        def forward(self, x):
            return self.last(self.norm(x) + self.norm(2 * x + 1))

    module, inputs = Twice(), torch.randn(SAMPLES, 3)
    net = network(module, inputs)
    found = repair.recomputed(net, module.state_dict(), repair.statistics_batches(net))
    expected = torch.cat([inputs, 2 * inputs + 1]).var(0)
    torch.testing.assert_close(found["norm.running_var"], expected)


def test_norms_that_share_parameters_keep_them() -> None:
    module = nn.Sequential(
        nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.BatchNorm1d(4), nn.Linear(4, 2)
    )
    module[3].weight = module[1].weight
    a, b = state(module, 1), state(module, 2)
    net = network(module, images((4,)))
    assert by_name(net)["1"].repaired == "running statistics"
    batches = repair.statistics_batches(net)
    targets = [repair.measure(net, end, batches) for end in (a, b)]
    mixed = net.mix([a, b], HALF)
    after = repair.repaired(net, mixed, targets, HALF, batches)
    assert torch.equal(after["1.weight"], mixed["1.weight"])
    assert torch.equal(after["1.bias"], mixed["1.bias"])
    assert worst(net, after, targets, HALF, batches) < 1e-3


def test_transformers_layers() -> None:
    gpt2, bert = by_name(made("gpt2")[0]), by_name(made("bert")[0])
    both = "mean and deviation"
    for part in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"):
        assert gpt2[f"transformer.h.1.{part}"].repaired == both
        assert gpt2[f"transformer.h.1.{part}"].type == "Conv1D"
    assert gpt2["lm_head"].reason == "it gives the network's output"
    assert "rows" in gpt2["transformer.wte"].reason
    assert "keeps no running statistics" in gpt2["transformer.ln_f"].reason
    assert bert["bert.encoder.layer.0.attention.self.query"].repaired == both
    assert bert["bert.pooler.dense"].repaired == both
    assert bert["classifier"].reason == "it gives the network's output"


# The samples


def test_statistics_are_measured_on_the_training_split_without_labels() -> None:
    net = network(zoo.MLP([7, 4, 3]), images((7,)), batch=40)
    net.data = {"test": data(-images((7,)), "test"), "train": net.data["train"]}
    batches = repair.statistics_batches(net)
    assert (batches.split, batches.count, batches.note) == ("train", SAMPLES, None)
    assert [len(batch) for batch in batches] == [32, 32, 32]  # no small one is left over
    assert all((batch.targets == IGNORED).all() for batch in batches)
    assert torch.equal(torch.cat([batch.inputs[0] for batch in batches]), images((7,)))


def test_without_a_training_split_there_is_a_note() -> None:
    net = network(zoo.MLP([7, 4, 3]), images((7,)))
    net.data = {"test": data(images((7,)), "test")}
    batches = repair.statistics_batches(net)
    assert batches.split == "test"
    assert "without their labels" in batches.note


def test_the_subset_is_fixed_by_its_seed() -> None:
    net = network(zoo.MLP([7, 4, 3]), images((7,)), batch=25)

    def drawn(seed):
        batches = repair.statistics_batches(net, samples=30, seed=seed)
        assert batches.count == 30
        return torch.cat([batch.inputs[0] for batch in batches])

    assert torch.equal(drawn(0), drawn(0))
    assert not torch.equal(drawn(0), drawn(1))
    rows = {tuple(row) for row in images((7,)).tolist()}
    assert {tuple(row) for row in drawn(0).tolist()} < rows


def test_samples_of_unequal_shapes_come_in_batches_of_equal_ones() -> None:
    class Texts:
        split = Split("train", 10, 10, "0" * 64, "made up")

        def batches(self, size):  # noqa: ARG002 - as of any data
            for length in (4, 6, 4):
                ids = torch.full((4 if length == 6 else 3, length), length)
                yield Batch({"input_ids": ids}, torch.zeros(len(ids)))

    net = network(zoo.MLP([7, 4, 3]), images((7,)), batch=4)
    net.data = {"train": Texts()}
    shapes = [tuple(b.inputs["input_ids"].shape) for b in repair.statistics_batches(net)]
    assert sorted(shapes) == [(3, 4), (3, 4), (4, 6)]


def test_what_cannot_be_measured_is_refused() -> None:
    net, a, _ = made("mlp")
    batches = repair.statistics_batches(net)
    targets = repair.measure(net, a, batches)
    with pytest.raises(InputError, match="give one for each"):
        repair.repaired(net, a, [targets], HALF, batches)
    with pytest.raises(InputError, match="at least one batch"):
        repair.measure(net, a, [])
    with pytest.raises(InputError, match="1 or more"):
        repair.statistics_batches(net, samples=0)
    other = repair.measure(*made("vgg")[:2], repair.statistics_batches(made("vgg")[0]))
    with pytest.raises(InputError, match="no corrected layer of this network"):
        repair.repaired(net, a, [targets, other], HALF, batches)


def test_no_hook_is_left_behind() -> None:
    net, mixed, targets, batches = midpoint("vgg-bn")
    repair.repaired(net, mixed, targets, HALF, batches)
    repair.recomputed(net, mixed, batches)
    for module in net.module.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


# What it is for


class Normed(nn.Module):
    """An MLP with BatchNorm, or without."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        widths = [64, 64, 64, 64]
        layers = []
        for inputs, outputs in pairwise(widths):
            layers += [nn.Linear(inputs, outputs)] + [nn.BatchNorm1d(outputs)] * norm + [nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], 10))

    def forward(self, x):
        return self.layers(x)


def trained(norm: bool, seed: int, inputs, labels) -> dict:
    torch.manual_seed(seed)
    module = Normed(norm)
    optimizer = torch.optim.Adam(module.parameters(), lr=3e-3)
    for _ in range(15):
        for rows in torch.randperm(len(labels)).split(128):
            optimizer.zero_grad()
            functional.cross_entropy(module(inputs[rows]), labels[rows]).backward()
            optimizer.step()
    return {name: x.detach().clone() for name, x in module.state_dict().items()}


@pytest.mark.parametrize("norm", [True, False])
def test_a_collapsed_midpoint_is_repaired(norm) -> None:
    digits = load_digits()
    splits = {
        name: TensorData(Split(name, len(y), len(y), "0" * 64, "digits"), (x,), y)
        for name, (x, y) in (("train", digits.train), ("test", digits.test))
    }
    module = Normed(norm)
    net = TorchNetwork(module, splits, {n: n for n in module.state_dict()})
    a, b = (trained(norm, seed, *digits.train) for seed in (0, 1))
    batches = repair.statistics_batches(net)
    targets = [repair.measure(net, end, batches) for end in (a, b)]
    mixed = net.mix([a, b], HALF)
    after = repair.repaired(net, mixed, targets, HALF, batches)
    reset = repair.recomputed(net, mixed, batches)
    ends, middle, recomputed, repaired = (
        max(score.loss for score in net.score(states, "test"))
        for states in ([a, b], [mixed], [reset], [after])
    )
    last = list(targets[0].output)[-1]
    collapsed = repair.measure(net, mixed, batches).output[last].std.mean()
    assert collapsed < 0.5 * targets[0].output[last].std.mean()  # the variance collapse
    assert ends < 0.3 < middle
    assert repaired < middle - 0.3
    if norm:
        assert recomputed < middle - 0.3
