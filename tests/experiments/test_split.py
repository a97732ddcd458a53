"""Two halves of the data: every baseline, and the correction of a class prior."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small import NETWORK, run_small

from rebasin_hub.experiments.lab import Lab
from rebasin_hub.experiments.measure import logits_of
from rebasin_hub.experiments.split import SPLIT, corrected, prior_of, subset_of
from rebasin_hub.tasks.images.digits import digits_parts
from rebasin_hub.training.images import read_samples

CLASSES = 10
MODELS = (
    "an end",
    "an end, corrected",
    "merge, naive",
    "merge, naive, REPAIR",
    "merge, matched",
    "merge, matched, REPAIR",
    "ensemble",
    "ensemble, corrected",
    "all data",
)


# The correction


def test_a_prior_is_corrected_as_by_hand() -> None:
    # Odds of 2 : 1 under a prior of 4 : 1 are odds of 1 : 2 where both classes are as likely.
    logits = np.log([[2.0, 1.0]])
    found = np.exp(corrected(logits, np.array([0.8, 0.2]), np.array([0.5, 0.5])))
    np.testing.assert_allclose(found / found.sum(), [[1 / 3, 2 / 3]])


@given(st.integers(2, 6), st.integers(0, 99))
def test_a_corrected_network_is_the_one_of_the_other_prior(classes, seed) -> None:
    """Bayes's rule: p(y|x) is p(x|y)·p(y), scaled to sum one, under every prior."""
    rng = np.random.default_rng(seed)
    likelihood = rng.random((7, classes)) + 0.01
    one, other = (rng.dirichlet(np.ones(classes)) + 0.01 for _ in range(2))
    shift = rng.normal(size=(7, 1))  # of a sample's logits, which no softmax sees
    found = np.exp(corrected(np.log(likelihood * one) + shift, one, other))
    expected = likelihood * other
    np.testing.assert_allclose(
        found / found.sum(1, keepdims=True), expected / expected.sum(1, keepdims=True)
    )


def test_priors_are_counted_and_none_is_zero() -> None:
    labels = np.array([0, 0, 0, 1])
    np.testing.assert_array_equal(prior_of(labels, 2), [0.75, 0.25])
    np.testing.assert_array_equal(prior_of(labels, 3), [0.75, 0.25, 0.125])


# The halves


@pytest.mark.parametrize("share", [0.5, 0.8, 1.0])
def test_halves_are_disjoint_and_favour_their_classes(share) -> None:
    labels = read_samples("digits", None)["train"].labels
    cell = {"share": share, "images": None, "seeds": [3, 4]}
    (first, in_first), (second, in_second) = (
        subset_of(cell, number, CLASSES).choose(labels) for number in (0, 1)
    )
    np.testing.assert_array_equal(np.sort(np.concatenate([first, second])), np.arange(len(labels)))
    for found, own in ((in_first, in_first < 5), (in_second, in_second >= 5)):
        assert own.mean() == pytest.approx(share, abs=0.02)
        assert len(found) == pytest.approx(len(labels) / 2, rel=0.03)


def test_halves_have_together_as_many_images_as_are_asked_for() -> None:
    labels = read_samples("digits", None)["train"].labels
    cell = {"share": 0.8, "images": 600, "seeds": [0, 1]}
    chosen = [subset_of(cell, number, CLASSES).choose(labels)[0] for number in (0, 1)]
    assert [len(indices) for indices in chosen] == [300, 300]
    assert not set(chosen[0]) & set(chosen[1])


def test_statistics_are_recomputed_where_there_are_some() -> None:
    for scale, there in (("quick", False), ("paper", True)):
        models = {cell["model"] for cell in SPLIT.cells(SPLIT.scales[scale])}
        assert ("merge, matched, recomputed" in models) == there


# The run


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        yield run_small("split", tmp_path_factory.mktemp("split"), patch, shares=[0.8], seeds=2)


def test_every_model_is_measured(result) -> None:
    assert [row["model"] for row in result.table] == list(MODELS)
    assert [row["rows"] for row in result.table] == [2, 2, 1, 1, 1, 1, 1, 1, 1]


def test_the_figures_are_those_of_the_line_between_the_ends(result) -> None:
    lab = Lab(result.files["json"].parent, "digits", None, (1, 8, 8), CLASSES, "cpu")
    cell = {**NETWORK, "share": 0.8, "seeds": [0, 1]}
    ends = [
        lab.network(cell, seed=seed, subset=subset_of(cell, seed, CLASSES)).path for seed in (0, 1)
    ]
    line = lab.line(*ends, points=3)
    rows = {(row["model"], row.get("half")): row for row in result.rows}
    for model, half, name in (
        ("an end", 0, "loss_a"),
        ("an end", 1, "loss_b"),
        ("ensemble", None, "ensemble"),
        ("merge, naive", None, "naive_midpoint"),
        ("merge, matched", None, "aligned_midpoint"),
    ):
        assert rows[model, half]["loss"] == pytest.approx(line[name], abs=1e-5)
    by_hand = [_corrected_by_hand(lab, cell, ends[number], number) for number in (0, 1)]
    for number, (logits, labels) in enumerate(by_hand):
        assert rows["an end, corrected", number]["loss"] == pytest.approx(_loss(logits, labels))
    mean = (by_hand[0][0] + by_hand[1][0]) / 2
    assert rows["ensemble, corrected", None]["loss"] == pytest.approx(_loss(mean, by_hand[0][1]))


def _corrected_by_hand(lab, cell, end, number):
    logits, labels = logits_of([end], lab.measurement())
    parts = digits_parts()
    train, test = (parts[name].labels for name in ("train", "test"))
    seen = train[subset_of(cell, number, CLASSES).choose(train)[0]]
    wide = logits.astype(np.float64)
    for label in range(CLASSES):
        wide[:, label] += np.log(np.mean(test == label)) - np.log(np.mean(seen == label))
    return wide, labels


def _loss(logits, labels):
    return float(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(labels)), labels]))


# What is said


def _row(model, loss, error):
    return {"share": 0.8, "model": model, "loss": loss, "error": error}


def _table(**losses):
    given = {"an end": 1.5, "merge, matched": 1.3, "merge, naive": 2.0, **losses}
    return [_row(model, given.get(model, 1.4), 0.1 * given.get(model, 1.4)) for model in MODELS]


def test_a_corrected_end_that_beats_the_merge_is_named() -> None:
    (said,) = SPLIT.findings([], _table(**{"an end, corrected": 1.254}))
    assert "With 80/20 halves" in said
    assert "The best merge, `merge, matched` with 1.300 (13.0 % error)" in said
    assert "better than the ends as they are" in said
    assert "not better than a mere correction" in said


def test_a_merge_that_beats_the_corrected_end_says_so() -> None:
    table = _table()
    assert "better than a mere correction" in SPLIT.findings([], table)[0]
    assert "not better than a mere" not in SPLIT.findings([], table)[0]
    table[1]["error"] = 0.01
    assert "better in the loss alone than a mere correction" in SPLIT.findings([], table)[0]


def test_what_matching_is_worth_is_said() -> None:
    given = {"merge, naive, REPAIR": 0.5, "merge, matched, REPAIR": 1.0}
    said = SPLIT.findings([], _table(**given))[0]
    assert "The best merge, `merge, naive, REPAIR`" in said
    assert (
        "The matched merge is better than the naive one, and with REPAIR not better than it."
        in said
    )
