"""Torch networks of a task: scoring, matching names, mixing weights."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import ml_dtypes
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_data import reader, subject
from torch import Generator, nn
from torch.nn import functional

from rebasin_hub import zoo
from rebasin_hub.barrier import TEMPERATURES
from rebasin_hub.errors import IncompatibleError, InputError, NotFiniteError
from rebasin_hub.tasks import Split
from rebasin_hub.tasks.network import (
    IGNORED,
    TensorData,
    TorchNetwork,
    logits_of,
    names_of,
    score_logits,
)

SAMPLES = 23


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=Generator().manual_seed(seed))


def data(samples=SAMPLES, classes=4):
    labels = torch.arange(samples) % classes
    split = Split("test", samples, samples, "", "")
    return {"test": TensorData(split, (randn(samples, 6),), labels)}


def module(seed=0, **options):
    network = zoo.MLP([6, 8, 4], **options)
    zoo.randomize(network, Generator().manual_seed(seed))
    return network.eval()


def network(**options):
    mlp = module()
    return TorchNetwork(mlp, data(), names_of(mlp, subject(mlp, "mlp")), **options)


def states(net, count=3):
    return [net.state(reader(module(seed))) for seed in range(count)]


# Scores


def test_scores_are_cross_entropy_and_wrong_classes() -> None:
    logits, labels = randn(9, 5), torch.arange(9) % 5
    scores = score_logits(logits, labels)
    expected = functional.cross_entropy(logits.double(), labels, reduction="none")
    np.testing.assert_allclose(scores.losses, expected, rtol=1e-6)
    assert scores.errors.tolist() == (logits.argmax(1) != labels).double().tolist()
    assert scores.counts.tolist() == [1.0] * 9
    for row, temperature in zip(scores.tempered, TEMPERATURES, strict=True):
        tempered = functional.cross_entropy(logits / temperature, labels, reduction="none")
        np.testing.assert_allclose(row, tempered, rtol=1e-5, atol=1e-6)
    assert np.array_equal(scores.tempered[TEMPERATURES.index(1.0)], scores.losses)


def test_positions_that_are_ignored_do_not_count() -> None:
    logits, labels = randn(3, 4, 5), torch.arange(12).reshape(3, 4) % 5
    labels[0, 1:] = IGNORED
    labels[2] = IGNORED
    scores = score_logits(logits, labels)
    assert scores.counts.tolist() == [1, 4, 0]
    expected = functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED
    )
    assert scores.loss == pytest.approx(expected.item(), rel=1e-6)
    assert scores.losses[2] == scores.errors[2] == 0
    counted = labels != IGNORED
    wrong = (logits.argmax(-1) != labels)[counted].double().mean()
    assert scores.error == pytest.approx(wrong.item())


def test_overflow_is_a_score_and_no_error() -> None:
    assert np.isnan(score_logits(torch.full((2, 3), torch.inf), torch.zeros(2).long()).loss)


def test_logits_are_taken_out_of_outputs() -> None:
    logits = randn(2, 3)
    assert logits_of(logits) is logits
    assert logits_of(SimpleNamespace(logits=logits)) is logits


# Names


def test_names_are_matched_as_they_are_or_renamed() -> None:
    mlp = module()
    assert names_of(mlp, subject(mlp, "mlp")) == {name: name for name in mlp.state_dict()}
    renamed = {name: name.replace("layers.", "fc") for name in mlp.state_dict()}
    assert names_of(mlp, subject(mlp, "mlp", renamed), renamed) == renamed


def test_every_difference_is_listed() -> None:
    other = subject(zoo.MLP([6, 8, 7, 4]), "mlp")
    with pytest.raises(IncompatibleError) as caught:
        names_of(module(), other)
    text = str(caught.value)
    assert "model.pt: does not fit MLP (4 tensors differ)" in text
    assert "layers.1.weight: has the shape [7, 8], the network [4, 8]" in text
    assert "layers.2.weight: is not used by the network" in text
    without = subject(module(bias=False), "mlp")
    with pytest.raises(IncompatibleError, match=r"layers\.0\.bias: is missing in the checkpoint"):
        names_of(module(), without)


def test_long_lists_are_cut() -> None:
    with pytest.raises(IncompatibleError, match="and 6 more"):
        names_of(zoo.MLP([6] * 9), subject(zoo.MLP([5] * 9), "mlp"))


def test_counters_and_tied_tensors_may_be_missing() -> None:
    net = zoo.VGG((4, "M"), pool=1, hidden=(), num_classes=5, batch_norm=True)
    whole = subject(net, "vgg")
    header = {n: i for n, i in whole.binding.header.items() if not n.endswith("batches_tracked")}
    lacking = replace(whole, binding=replace(whole.binding, header=header))
    assert set(names_of(net, lacking)) == set(header)
    assert set(names_of(net, whole)) == set(net.state_dict())

    square = zoo.MLP([5, 5, 5], bias=False)
    full = subject(square, "mlp")
    square.get_submodule("layers.1").weight = square.get_submodule("layers.0").weight
    header = {"layers.0.weight": full.binding.header["layers.0.weight"]}
    tied = replace(full, binding=replace(full.binding, header=header))
    assert names_of(square, tied) == {"layers.0.weight": "layers.0.weight"}


# States


def test_states_are_read_in_float32_but_for_float64() -> None:
    net = network()
    arrays = {name: t.numpy() for name, t in module().state_dict().items()}
    arrays["layers.0.weight"] = arrays["layers.0.weight"].astype(ml_dtypes.bfloat16)
    arrays["layers.0.bias"] = arrays["layers.0.bias"].astype(np.float64)
    state = net.state(arrays.__getitem__)
    assert state["layers.0.weight"].dtype == torch.float32
    assert state["layers.0.bias"].dtype == torch.float64
    for name in ("layers.0.bias", "layers.1.bias"):
        state[name].zero_()
        assert arrays[name].any(), "a state must not share the checkpoint's memory"


weights = st.lists(st.floats(-2, 2), min_size=3, max_size=3)


@settings(max_examples=25)
@given(weights)
def test_a_mix_is_the_weighted_sum(given_weights) -> None:
    net = network()
    total = sum(given_weights)
    shares = [w + (1 - total) / 3 for w in given_weights]
    three = states(net)
    mixed = net.mix(three, shares)
    for name, tensor in mixed.items():
        expected = sum(w * s[name].double() for w, s in zip(shares, three, strict=True))
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chosen", range(3))
def test_an_end_of_a_mix_is_exact(chosen) -> None:
    net = network()
    three = states(net)
    for number in {0, 1, 2} - {chosen}:
        three[number]["layers.0.bias"][0] = torch.inf
    mixed = net.mix(three, [float(number == chosen) for number in range(3)])
    assert all(torch.equal(mixed[name], three[chosen][name]) for name in mixed)


@settings(max_examples=25)
@given(st.floats(0, 1))
def test_equal_states_mix_to_themselves(share) -> None:
    net = network()
    (state,) = states(net, 1)
    mixed = net.mix([state, state], [1 - share, share])
    assert all(torch.equal(mixed[name], state[name]) for name in mixed)


def test_infinite_values_that_all_states_have_stay() -> None:
    net = network()
    one, two, three = (
        {"limits": torch.tensor([-torch.inf, torch.inf, n]), "w": torch.tensor([torch.nan, n])}
        for n in (1.0, 2.0, 3.0)
    )
    mixed = net.mix([one, two, three], [0.25, 0.5, 0.25])
    assert mixed["limits"].tolist() == [-torch.inf, torch.inf, 2]
    assert mixed["w"][1] == 2
    for number in range(2):
        other = {**two, "limits": two["limits"].clone()}
        other["limits"][number] = 7
        with pytest.raises(NotFiniteError, match="limits: holds infinite values"):
            net.mix([one, other, three], [0.25, 0.5, 0.25])


def test_integers_are_the_first_state_s() -> None:
    net = network()
    first, second = ({"steps": torch.tensor(n), "w": torch.tensor(float(n))} for n in (3, 5))
    assert net.mix([first, second], [0.0, 1.0]) == {
        "steps": torch.tensor(3),
        "w": torch.tensor(5.0),
    }
    assert net.mix([first, second], [0.5, 0.5])["steps"] == 3


# Runs


@pytest.mark.parametrize("batch", [1, 7, 23, 100])
@pytest.mark.parametrize("together", [1, 2, 5])
def test_batches_and_states_at_once_do_not_matter(batch, together) -> None:
    net = network(batch=batch, together=together)
    five = states(net, 5)
    (inputs,), labels = net.data["test"].inputs, net.data["test"].targets
    for seed, scores in enumerate(net.score(five, "test")):
        with torch.no_grad():
            expected = score_logits(module(seed)(inputs), labels)
        np.testing.assert_allclose(scores.losses, expected.losses, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(scores.tempered, expected.tempered, rtol=1e-5, atol=1e-5)
        assert np.array_equal(scores.errors, expected.errors)


def test_an_ensemble_is_the_mean_of_the_logits() -> None:
    net = network(batch=7)
    three = states(net)
    (inputs,), labels = net.data["test"].inputs, net.data["test"].targets
    with torch.no_grad():
        logits = torch.stack([module(seed)(inputs) for seed in range(3)]).mean(0)
    expected = score_logits(logits, labels)
    np.testing.assert_allclose(net.ensemble(three, "test").losses, expected.losses, rtol=1e-5)


@pytest.mark.parametrize("together", [1, 2])
def test_progress_counts_every_sample_of_every_state(together) -> None:
    net, steps = network(batch=7, together=together), []
    net.score(states(net), "test", steps.append)
    assert sum(steps) == 3 * SAMPLES
    net.ensemble(states(net), "test", steps.append)
    assert sum(steps) == 6 * SAMPLES


def test_a_loss_of_one_s_own_has_no_temperatures() -> None:
    def squares(output, targets):
        each = (output[:, 0] - targets).square()
        return each, (each > 1).double()

    net = network(loss=squares, together=2, batch=5)
    for seed, scores in enumerate(net.score(states(net), "test")):
        output = module(seed)(net.data["test"].inputs[0]).detach()
        losses, errors = squares(output, net.data["test"].targets)
        np.testing.assert_allclose(scores.losses, losses, rtol=1e-5, atol=1e-5)
        assert np.array_equal(scores.errors, errors)
        assert scores.tempered is None


def test_scoring_changes_neither_the_module_nor_the_states() -> None:
    net = network()
    before = {n: t.clone() for n, t in net.module.state_dict().items()}
    (state,) = states(net, 1)
    kept = {n: t.clone() for n, t in state.items()}
    first = net.score([state], "test")[0]
    assert all(torch.equal(net.module.state_dict()[n], t) for n, t in before.items())
    assert all(torch.equal(state[n], t) for n, t in kept.items())
    assert np.array_equal(net.score([state], "test")[0].losses, first.losses)


def test_a_device_that_is_not_there() -> None:
    mlp = module()
    with pytest.raises(InputError, match="device 'tpu'"):
        TorchNetwork(mlp, data(), {}, device="tpu")


def test_training_mode_is_left() -> None:
    mlp = module().train()
    TorchNetwork(mlp, data(), {})
    assert not mlp.training
    assert not any(p.requires_grad for p in mlp.parameters())
    assert isinstance(mlp, nn.Module)
