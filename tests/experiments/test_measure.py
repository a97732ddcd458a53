"""Figures of lines, calibration and the counterexample."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_hub.experiments.calibration import BINS, calibration_error
from rebasin_hub.experiments.counterexample import COUNTEREXAMPLE, grid, solutions
from rebasin_hub.experiments.data import facts_of, with_classes
from rebasin_hub.experiments.experiment import Column, pairs
from rebasin_hub.experiments.lab import Lab
from rebasin_hub.experiments.measure import Measurement, line, logits_of
from rebasin_hub.experiments.networks import KINDS, network_of
from rebasin_hub.experiments.summary import summarize
from rebasin_hub.experiments.words import first_below
from rebasin_hub.pipeline.barrier import Request, measure_barrier
from rebasin_hub.tasks import Options
from rebasin_hub.training.images import read_samples

CELL = {"network": "mlp", "width": 12, "depth": 2, "recipe": {"epochs": 2, "batch": 64}}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("lab"), "digits", None, (1, 8, 8), 10, "cpu")


@pytest.fixture(scope="module")
def ends(lab):
    return tuple(lab.network(CELL, seed=seed).path for seed in (0, 1))


# Lines


def test_figures_are_those_of_the_barrier_command(lab, ends) -> None:
    found = lab.line(*ends)
    request = Request(ends, "digits", Options(settings={"split": "test"}))
    record = measure_barrier(request)
    columns = {(c.numbering, c.treatment): c for c in record.curves}
    for numbering in ("naive", "aligned"):
        curve = columns[numbering, "as is"]
        assert found[numbering] == curve.entezari.loss.value
        assert found[f"{numbering}_error"] == curve.entezari.error.value
        assert found[f"{numbering}_midpoint"] == curve.loss[12]
        assert found[f"{numbering}_midpoint_error"] == curve.error[12]
        softened = columns[numbering, "calibrated"]
        assert found[f"{numbering}_calibrated"] == softened.entezari.loss.value
        assert found[f"{numbering}_calibrated_temperature"] == softened.temperature[12]
    assert found["cosine"] == record.alignments["B"].cosine
    assert (found["loss_a"], found["error_b"]) == (
        record.baselines[0].loss,
        record.baselines[1].error,
    )
    assert found["ensemble"] == record.baselines[2].loss


def test_a_line_can_be_measured_as_numbered(lab, ends) -> None:
    found = line(*ends, lab.measurement(), align=False)
    assert "aligned" not in found
    assert found["naive"] > 0
    assert line(*ends, lab.measurement(method="identity"))["aligned"] == found["naive"]


def test_logits_give_the_loss_that_was_measured(lab, ends) -> None:
    found = lab.line(*ends, align=False)
    for models, loss in ((ends[:1], "loss_a"), (ends, "ensemble")):
        logits, labels = logits_of(models, lab.measurement())
        assert logits.shape == (360, 10)
        wide = logits.astype(np.float64)
        each = np.log(np.exp(wide).sum(1)) - wide[np.arange(360), labels]
        assert each.mean() == pytest.approx(found[loss], abs=1e-5)


# Calibration


@given(st.integers(1, 60), st.integers(2, 5), st.integers(0, 99), st.floats(0.1, 30))
def test_the_calibration_error_is_that_of_its_definition(samples, classes, seed, scale) -> None:
    rng = np.random.default_rng(seed)
    logits = scale * rng.standard_normal((samples, classes))
    labels = rng.integers(0, classes, samples)
    odds = np.exp(logits - logits.max(1, keepdims=True))
    confidence = (odds / odds.sum(1, keepdims=True)).max(1)
    expected = 0.0
    for number in range(BINS):
        inside = (confidence > number / BINS) & (confidence <= (number + 1) / BINS)
        if inside.any():
            accuracy = (logits.argmax(1) == labels)[inside].mean()
            expected += inside.mean() * abs(accuracy - confidence[inside].mean())
    assert calibration_error(logits, labels) == pytest.approx(expected, abs=1e-9)


def test_sure_and_right_is_calibrated_and_sure_and_wrong_is_not() -> None:
    logits = np.array([[1000.0, 0], [0, 1000.0]])
    assert calibration_error(logits, np.array([0, 1])) == 0
    assert calibration_error(logits, np.array([1, 0])) == 1
    assert calibration_error(np.zeros((4, 2)), np.array([0, 1, 0, 1])) == 0


# The counterexample


def test_no_permutation_connects_the_two_solutions(tmp_path) -> None:
    cells = COUNTEREXAMPLE.cells({"grid": 40})
    assert len(cells) == math.factorial(2) ** 2
    rows = [COUNTEREXAMPLE.measure(Lab(tmp_path), cell) for cell in cells]
    for row in rows:
        assert row["error_a"] <= 0.002
        assert row["error_b"] <= 0.002
        assert row["midpoint_error"] >= 0.25
        assert row["error_barrier"] >= 0.25


def test_the_solutions_compute_what_they_are_said_to() -> None:
    inputs, labels = grid(50)
    assert labels.mean() == 0.25
    x, y = inputs.astype(np.float64).T
    relu = lambda v: np.maximum(v, 0)  # noqa: E731
    expected = (
        1 - 1000 * (relu(-x) + relu(-y)),
        1000 * np.minimum(relu(x), relu(y)) - 1,
    )
    for weights, f in zip(solutions(), expected, strict=True):
        values = inputs.astype(np.float64)
        for number in range(3):
            values = values @ weights[f"layers.{number}.weight"].T
            values = values + weights[f"layers.{number}.bias"]
            values = relu(values) if number < 2 else values
        assert values.shape == (len(inputs), 1)
        np.testing.assert_allclose(values[:, 0], f, atol=1e-3)
        np.testing.assert_array_equal(values[:, 0] > 0, labels)


# Data, networks, tables


@pytest.mark.parametrize("classes", [2, 10])
def test_a_part_of_the_classes_is_seen_as_the_whole_was(tmp_path, classes) -> None:
    path = with_classes("digits", None, classes, tmp_path)
    whole, part = read_samples("digits", None), read_samples("images", path)
    for split in ("train", "test"):
        kept = whole[split].labels < classes
        np.testing.assert_array_equal(part[split].labels, whole[split].labels[kept])
        scaled = whole[split].pixels[kept].astype(np.float32) / whole[split].white
        np.testing.assert_array_equal(part[split].pixels / np.float32(part[split].white), scaled)
    assert facts_of("images", path).classes == classes
    assert Lab(tmp_path).on("images", path).classes == classes
    assert with_classes("digits", None, classes, tmp_path) == path


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network_takes_its_images(kind) -> None:
    torch = pytest.importorskip("torch")
    from rebasin_hub import zoo

    name, arguments = network_of(kind, shape=(3, 32, 32), classes=7, depth=1)
    network = getattr(zoo, name)(**arguments).eval()
    images = torch.zeros(2, 3, 32, 32)
    assert network(images.flatten(1) if name == "MLP" else images).shape == (2, 7)


def test_pairs_take_every_network_as_often() -> None:
    assert pairs(2) == [(0, 1)]
    assert pairs(3) == [(0, 1), (1, 2), (2, 0)]
    assert len(pairs(5)) == len(set(pairs(5))) == 5


@given(
    st.lists(st.tuples(st.integers(0, 2), st.floats(-9, 9) | st.none()), min_size=1, max_size=20)
)
def test_a_table_has_means_and_ranges(values) -> None:
    rows = [{"x": x, "y": y} for x, y in values]
    table = summarize(rows, (Column("x", "x", key=True), Column("y", "y")))
    assert [row["x"] for row in table] == list(dict.fromkeys(x for x, _ in values))
    assert sum(row["rows"] for row in table) == len(rows)
    for row in table:
        here = [y for x, y in values if x == row["x"]]
        if None in here:
            assert row["y"] is row["y_low"] is row["y_high"] is None
        else:
            assert row["y"] == pytest.approx(sum(here) / len(here))
            assert (row["y_low"], row["y_high"]) == (min(here), max(here))


@pytest.mark.parametrize(
    ("figures", "expected"),
    [([3, 1, 1], 1), ([0, 3, 1], 2), ([3, 3, 3], None), ([1, 1, 1], 0), ([1, None, 1], 2)],
)
def test_from_where_a_figure_stays_below(figures, expected) -> None:
    table = [{"x": x, "y": y} for x, y in enumerate(figures)]
    assert first_below(table, "x", "y", 1) == expected


def test_a_measurement_may_read_both_splits() -> None:
    assert Measurement("digits").options().settings == {"split": "test"}
    assert Measurement("digits", both_splits=True).options().settings == {}
