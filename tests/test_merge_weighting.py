"""The weight of each model in each tensor."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rebasin_hub.bind import bind
from rebasin_hub.errors import InputError
from rebasin_hub.merge import METHODS, Rule, Weighting, combine, depths
from rebasin_hub.specfile import find_spec
from rebasin_hub.tensors import TensorInfo

positive = st.floats(0.01, 10)
NAMES = ("embed.weight", "layers.0.attn.q", "layers.0.mlp.up", "layers.1.mlp.up", "head")


def weighting(*models, normalize=True):
    return Weighting(tuple((tuple(rules),) for rules in models), normalize)


def chain(layers):
    """Bind an MLP of some layers, numbered with gaps."""
    header = {}
    for number in range(layers):
        header[f"net.{3 * number}.weight"] = TensorInfo("F32", (4, 4))
        header[f"net.{3 * number}.bias"] = TensorInfo("F32", (4,))
    return bind(find_spec("mlp"), header)


@given(st.lists(positive, min_size=2, max_size=4), st.sampled_from(NAMES), st.floats(0, 1))
def test_constant_weights_are_the_same_everywhere_and_sum_to_one(values, name, depth):
    found = Weighting.constant(values).at(name, depth)
    assert found == pytest.approx([v / sum(values) for v in values])
    assert sum(found) == pytest.approx(1, abs=1e-12)


@given(positive, positive, positive)
def test_the_first_filter_that_fits_counts(mlp, up, rest):
    rules = [Rule((mlp,), "mlp"), Rule((up,), "up"), Rule((rest,))]
    other = [Rule((1.0,))]
    for name in NAMES:
        expected = mlp if "mlp" in name else up if "up" in name else rest
        assert weighting(rules, other).at(name, 0)[0] == pytest.approx(expected / (expected + 1))
    turned = [rules[1], rules[0], rules[2]]
    assert weighting(turned, other).at("layers.0.mlp.up", 0)[0] == pytest.approx(up / (up + 1))


@given(positive, positive)
def test_filters_that_no_name_shares_may_stand_in_any_order(attn, mlp):
    rules = [Rule((attn,), "attn"), Rule((mlp,), "mlp")]
    last = [Rule((1.0,))]
    for name in NAMES:
        forth, back = (weighting([*r, *last], last).at(name, 0) for r in (rules, rules[::-1]))
        assert forth == back


@given(positive)
def test_a_models_own_weight_goes_before_the_shared_one(own):
    shared = (Rule((1.0,)),)
    only_mlp = (Rule((own,), "mlp"),)
    both = Weighting(((only_mlp, shared), (shared,)))
    assert both.at("layers.0.mlp.up", 0)[0] == pytest.approx(own / (own + 1))
    assert both.at("head", 0) == (0.5, 0.5)


@settings(max_examples=30)
@given(st.lists(st.floats(0, 5), min_size=1, max_size=5), st.integers(1, 6))
def test_a_gradient_is_interpolated_over_the_layers(values, layers):
    binding = chain(layers)
    places = depths(binding)
    rule = Rule(tuple(values))
    for layer in range(layers):
        # numpy's interpolation is the reference; a stack of one layer is at the end.
        share = layer / (layers - 1) if layers > 1 else 1.0
        expected = np.interp(share * (len(values) - 1), range(len(values)), values)
        for part in ("weight", "bias"):
            name = f"net.{3 * layer}.{part}"
            assert places[name] == pytest.approx(share)
            assert rule.at(places[name]) == pytest.approx(expected, abs=1e-12)


def test_both_ends_of_a_gradient_are_its_first_and_last_number():
    rule = Rule((0.1, 0.7, 0.3))
    assert (rule.at(0.0), rule.at(0.5), rule.at(1.0)) == (0.1, 0.7, 0.3)
    assert rule.at(0.25) == pytest.approx(0.4)


def test_what_lies_outside_of_layers_is_at_the_first_ones_depth():
    header = {
        f"model.layers.{n}.mlp.{p}_proj.weight": TensorInfo("F32", shape)
        for n in range(3)
        for p, shape in (("gate", (6, 4)), ("up", (6, 4)), ("down", (4, 6)))
    }
    for n in range(3):
        for p in "qkvo":
            header[f"model.layers.{n}.self_attn.{p}_proj.weight"] = TensorInfo("F32", (4, 4))
        for p in ("input", "post_attention"):
            header[f"model.layers.{n}.{p}_layernorm.weight"] = TensorInfo("F32", (4,))
    for name, shape in (("embed_tokens", (9, 4)), ("norm", (4,))):
        header[f"model.{name}.weight"] = TensorInfo("F32", shape)
    header["lm_head.weight"] = TensorInfo("F32", (9, 4))
    config = {"num_attention_heads": 2, "num_key_value_heads": 1, "hidden_size": 4}
    places = depths(bind(find_spec("llama"), header, config=config))
    assert [places[f"model.layers.{n}.mlp.up_proj.weight"] for n in range(3)] == [0, 0.5, 1]
    outside = ("model.embed_tokens.weight", "model.norm.weight", "lm_head.weight")
    assert all(places[name] == 0 for name in outside)


raw = st.binary(min_size=48, max_size=48)


@given(raw, st.lists(st.floats(-3, 3), min_size=2, max_size=4), st.sampled_from(sorted(METHODS)))
def test_equal_models_come_back_with_any_weights_of_sum_one(data, values, method):
    array = np.frombuffer(data, np.float32)
    values = values[:2] if method == "slerp" else values
    shares = (*values[1:], 1 - sum(values[1:]))
    merged = combine([array] * len(shares), shares, method=method)
    assert merged.tobytes() == array.tobytes()


@given(raw, raw, st.floats(-2, 2), st.floats(-2, 2))
def test_weights_that_are_not_normalized_give_the_plain_sum(a, b, first, second):
    arrays = [np.frombuffer(x, np.uint8).astype(np.float64) for x in (a, b)]
    merged = combine(arrays, (first, second), method="linear")
    assert np.allclose(merged, first * arrays[0] + second * arrays[1], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: weighting([Rule((1.0,), "mlp")], [Rule((1.0,))]).at("head", 0),
            "model 1 has no weight for head; end its list with a value without filter",
        ),
        (
            lambda: weighting([Rule((-1.0,))], [Rule((2.0,))]).at("head", 0),
            "the weights -1, 2 of head must not be negative",
        ),
        (
            lambda: weighting([Rule((1.0,), "mpl")], [Rule((1.0,))]).resolved(chain(2)),
            "the filter 'mpl' is part of no tensor's name",
        ),
    ],
)
def test_weights_that_cannot_be_meant_are_refused(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_negative_weights_are_taken_where_nothing_is_normalized():
    found = weighting([Rule((-1.0,))], [Rule((2.5,))], normalize=False).at("head", 0)
    assert found == (-1.0, 2.5)
