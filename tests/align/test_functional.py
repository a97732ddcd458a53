"""Functional matching: against the formula, unit by unit."""

import evidence_nets as nets
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from test_activation import matched, strangers

from rebasin_hub.align.metric import parallel_sum
from rebasin_hub.errors import InputError


def moments(rows):
    """Return the second moments of inputs and of the bias's 1."""
    inputs = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    return inputs.T @ inputs / len(rows)


def ridged(form, ridge):
    n = len(form) - 1
    return form + np.diag([ridge * form.diagonal()[:n].mean()] * n + [0.0])


def costs(rows_a, rows_b, weights_a, weights_b, ridge):
    """Return the cost of each pair of units, written down as in the paper."""
    inverse = sum(np.linalg.inv(ridged(moments(rows), ridge)) for rows in (rows_a, rows_b))
    metric = np.linalg.inv(inverse)
    apart = weights_a[:, None] - weights_b[None, :]
    return np.einsum("ijk,kl,ijl->ij", apart, metric, apart) / 2


def layer(read, number):
    return np.concatenate(
        [read(f"layers.{number}.weight"), read(f"layers.{number}.bias")[:, None]], axis=1
    ).astype("f8")


def forward(rows, weights):
    inputs = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    return np.maximum(inputs @ weights.T, 0)


@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_layer_by_layer_the_pairs_are_those_of_least_cost(ridge) -> None:
    p, read_b = strangers("mlp")
    found = matched(p, f"functional:ridge={ridge}", read_b=read_b, max_sweeps=50)
    rows_a = rows_b = nets.numbers(7).numpy().astype("f8")
    assert found.converged
    for number, name in enumerate(p.binding.group.factors):
        weights_a, weights_b = layer(p.read_a, number), layer(read_b, number)
        if number:
            before = found.element[list(p.binding.group.factors)[number - 1]]
            weights_b = weights_b[:, [*before, -1]]
        _, columns = linear_sum_assignment(costs(rows_a, rows_b, weights_a, weights_b, ridge))
        np.testing.assert_array_equal(found.element[name], columns)
        rows_a, rows_b = forward(rows_a, weights_a), forward(rows_b, weights_b)[:, columns]


def test_the_goal_is_how_far_matched_units_are_apart() -> None:
    p, read_b = strangers("mlp")
    found = matched(p, "functional", read_b=read_b)
    rows_a = rows_b = nets.numbers(7).numpy().astype("f8")
    shares, before = [], np.arange(7)
    names = [*p.binding.group.factors, None]
    for number, name in enumerate(names):
        index = np.arange(5) if name is None else found.element[name]
        weights_a = layer(p.read_a, number)
        weights_b = layer(read_b, number)[index][:, [*before, -1]]
        if name is None:  # the output's bias is numbered by nothing
            weights_a[:, -1] = weights_b[:, -1] = 0
        a, b = (
            [np.c_[rows, np.ones(len(rows))] @ w.T for w in (weights_a - weights_b, own)]
            for rows, own in ((rows_a, weights_a), (rows_b, weights_b))
        )
        apart = (np.square(a[0]).mean(0).sum() + np.square(b[0]).mean(0).sum()) / 2
        shares.append(apart / (np.square(a[1]).mean(0).sum() + np.square(b[1]).mean(0).sum()))
        rows_a, rows_b, before = forward(rows_a, weights_a), forward(rows_b, weights_b), index
    assert found.goal.end == pytest.approx(np.mean(shares), rel=1e-5)
    assert 0.3 < found.goal.end < found.goal.identity


@settings(max_examples=50)
@given(st.integers(1, 6), st.integers(0, 10**6))
def test_the_parallel_sum_of_matrices(size, seed) -> None:
    rng = np.random.default_rng(seed)
    a, b = (x @ x.T + 0.1 * np.eye(size) for x in rng.normal(size=(2, size, size)))
    literal = np.linalg.inv(np.linalg.inv(a) + np.linalg.inv(b))
    np.testing.assert_allclose(parallel_sum(a, b), literal, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(parallel_sum(a, a), a / 2, rtol=1e-6, atol=1e-9)


def test_the_parallel_sum_of_matrices_without_an_inverse() -> None:
    a, b = np.diag([2.0, 1.0, 0.0]), np.diag([2.0, 0.0, 0.0])
    np.testing.assert_allclose(parallel_sum(a, b), np.diag([1.0, 0.0, 0.0]), atol=1e-12)


@pytest.mark.parametrize("kind", ["vgg-bn", "resnet", "lstm", "gpt2", "grouped", "convolved"])
def test_it_is_better_than_the_identity_between_strangers(kind) -> None:
    p, read_b = strangers(kind)
    goal = matched(p, "functional", read_b=read_b).goal
    assert goal.end < 0.99 * goal.identity


def test_permutations_that_no_layer_computes_follow_the_weights() -> None:
    p = nets.planted("gpt2")
    places = tuple(place for place in p.evidence.plan.places if not place.label.endswith("c_attn"))
    p.evidence.__dict__["plan"] = type("Plan", (), {"places": places, "fixed": (), "notes": ()})()
    found = matched(p, "functional")
    assert "head[0], head[1]" in found.notes[0]
    assert p.binding.group.equal(found.element, p.element)


def test_a_wrong_ridge_is_refused() -> None:
    with pytest.raises(InputError, match="expected 0 or more"):
        matched(nets.planted("mlp"), "functional:ridge=nan")
