"""Barriers between trained checkpoints, from files to a record."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional
from trained import direct, save, trained_mlp

from rebasin_hub.errors import IncompatibleError, InputError, OutputError
from rebasin_hub.pipeline.apply import apply_file
from rebasin_hub.pipeline.barrier import BarrierPlan, Request, measure_barrier
from rebasin_hub.pipeline.matching import Matching, align_models
from rebasin_hub.record import load
from rebasin_hub.tasks import Options

POINTS = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def weights():
    return {name: trained_mlp(seed) for seed, name in enumerate("abc")}


@pytest.fixture(scope="module")
def paths(folder, weights):
    return {name: save(folder, name, values) for name, values in weights.items()}


@pytest.fixture(scope="module")
def request_ab(paths) -> Request:
    return Request((paths["a"], paths["b"]), "digits", points=POINTS)


@pytest.fixture(scope="module")
def record(request_ab):
    return measure_barrier(request_ab)


@pytest.fixture(scope="module")
def quick(request_ab) -> Request:
    """The same on fewer samples, and without REPAIR."""
    return replace(request_ab, treatments=("calibrated",), options=Options(limit=200))


@pytest.fixture(scope="module")
def quick_record(quick):
    return measure_barrier(quick)


def curve_of(record, numbering, treatment="as is", split="test"):
    return next(
        c
        for c in record.curves
        if (c.numbering, c.treatment, c.split) == (numbering, treatment, split)
    )


def test_every_column_of_every_split_is_there(record):
    found = {(c.split, c.numbering, c.treatment) for c in record.curves}
    assert found == {
        (split, numbering, treatment)
        for split in ("test", "train")
        for numbering in ("naive", "aligned")
        for treatment in ("as is", "calibrated", "repair")  # there are no statistics to recompute
    }
    assert any("'recomputed'" in note for note in record.notes)
    assert record.task.splits["test"].count == 360
    assert record.task.splits["train"].count == 1437


def test_a_naive_curve_is_what_torch_says(record, weights):
    curve = curve_of(record, "naive")
    for x, loss, error in zip(record.lambdas, curve.loss, curve.error, strict=True):
        mixed = {n: (1 - x) * weights["a"][n] + x * weights["b"][n] for n in weights["a"]}
        logits, labels = direct({n: w.astype("f4") for n, w in mixed.items()})
        assert loss == pytest.approx(float(functional.cross_entropy(logits, labels)), rel=1e-5)
        assert error == pytest.approx(float((logits.argmax(1) != labels).double().mean()), abs=1e-9)


def test_ends_are_the_models_and_do_not_depend_on_the_numbering(record):
    naive, aligned = (curve_of(record, numbering) for numbering in ("naive", "aligned"))
    assert naive.loss[0] == aligned.loss[0]
    assert naive.loss[-1] == pytest.approx(aligned.loss[-1], rel=1e-5)
    ends = {b.name: b.loss for b in record.baselines if b.split == "test"}
    assert (ends["A"], ends["B"]) == (naive.loss[0], naive.loss[-1])


def test_the_ensemble_is_the_mean_of_the_logits(record, weights):
    logits = torch.stack([direct(weights[name])[0] for name in "ab"]).mean(0)
    labels = direct(weights["a"])[1]
    found = next(b for b in record.baselines if (b.name, b.split) == ("ensemble", "test"))
    assert found.loss == pytest.approx(float(functional.cross_entropy(logits, labels)), rel=1e-5)


def test_aligning_removes_barrier_and_the_verdict_says_how_much(record):
    naive, aligned = (curve_of(record, n).entezari.loss for n in ("naive", "aligned"))
    assert aligned.value < 0.5 * naive.value
    assert naive.low <= naive.value <= naive.high
    share = next(r.share for r in record.removed if (r.split, r.treatment) == ("test", "as is"))
    assert share.value == pytest.approx(1 - aligned.value / naive.value)
    assert f"Alignment removed {100 * share.value:.0f} % of the loss barrier" in record.verdict


def test_a_calibrated_curve_is_below_that_of_the_points_as_they_are(record):
    for numbering in ("naive", "aligned"):
        as_is, calibrated = (curve_of(record, numbering, t) for t in ("as is", "calibrated"))
        assert calibrated.error == as_is.error
        assert np.mean(calibrated.loss) <= np.mean(as_is.loss)
        assert len(calibrated.temperature) == POINTS


def test_matches_rise_with_alignment(record):
    assert {m.permutation for m in record.matches} == {"hidden[0]", "hidden[1]"}
    for match in record.matches:
        assert len(match.naive) == 48
        assert np.mean(match.aligned) > np.mean(match.naive) + 0.1


def test_a_renumbered_copy_has_no_barrier_left(paths, folder, request_ab):
    file = folder / "shuffle.safetensors"
    align_models(paths["a"], paths["b"], file, matching=Matching("random", seed=5))
    apply_file(file, paths["a"], folder / "copy.safetensors")
    request = replace(
        request_ab,
        models=(paths["a"], folder / "copy.safetensors"),
        treatments=("as is",),
        options=Options(limit=200),
    )
    record = measure_barrier(request)
    assert curve_of(record, "naive").entezari.loss.value > 0.1
    assert curve_of(record, "aligned").entezari.loss.value == pytest.approx(0, abs=1e-6)
    assert all(x == pytest.approx(1, abs=1e-6) for m in record.matches for x in m.aligned)
    assert "removed 100 %" in record.verdict


def test_a_model_with_itself_has_no_barrier_to_remove(paths, request_ab):
    request = replace(request_ab, models=(paths["a"], paths["a"]), treatments=("as is",))
    record = measure_barrier(request)
    assert curve_of(record, "naive").entezari.loss.value == 0
    assert "hardly a barrier" in record.verdict


def test_without_aligning_there_is_one_line(request_ab):
    record = measure_barrier(replace(request_ab, align=False, treatments=("as is",)))
    assert {c.numbering for c in record.curves} == {"naive"}
    assert (record.alignments, record.matches, record.removed) == ({}, [], [])
    assert "nothing was aligned" in record.verdict


def test_permutations_from_a_file_are_as_good(paths, folder, quick, quick_record):
    file = folder / "p.safetensors"
    align_models(paths["b"], paths["a"], file)
    again = measure_barrier(replace(quick, permutations=file))
    assert again.curves == quick_record.curves
    assert again.alignments["B"] == quick_record.alignments["B"]
    with pytest.raises(InputError, match="made for model"):
        measure_barrier(replace(quick, models=(paths["a"], paths["c"]), permutations=file))


# Outputs, and going on after an interruption


def same(one, other):
    ignored = {"created", "seconds", "command"}
    return one.model_dump(exclude=ignored) == other.model_dump(exclude=ignored)


def test_the_folder_holds_the_record_and_the_permutations(quick, quick_record, tmp_path, paths):
    out = tmp_path / "report"
    written = measure_barrier(quick, out, command="typed")
    assert sorted(p.name for p in out.iterdir()) == ["b-to-a.safetensors", "rebasin.json"]
    assert load(out / "rebasin.json") == written
    assert written.command == "typed"
    assert written.curves == quick_record.curves
    apply_file(out / "b-to-a.safetensors", paths["b"], tmp_path / "moved.safetensors")
    with pytest.raises(OutputError, match=r"has rebasin\.json already"):
        measure_barrier(quick, out)
    assert same(measure_barrier(quick, out, force=True), written)


class Interruption:
    """Stops the measurement like Ctrl-C, after some forward passes."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.told: list[tuple[str, int, int]] = []

    def __call__(self, stage: str, done: int, total: int) -> None:
        if stage.startswith("measuring"):
            self.told.append((stage, done, total))
            if done >= self.after:
                raise KeyboardInterrupt


def test_an_interrupted_measurement_goes_on_where_it_was(quick, quick_record, tmp_path):
    out = tmp_path / "report"
    with pytest.raises(KeyboardInterrupt):
        measure_barrier(quick, out, progress=Interruption(2_500))
    assert [p.name for p in out.iterdir()] == [".points"]
    rest = Interruption(10**9)
    again = measure_barrier(quick, out, progress=rest)
    whole = Interruption(10**9)
    measure_barrier(quick, progress=whole)
    assert rest.told[-1][2] <= whole.told[-1][2] - 5 * 400  # the points that were done
    assert again.curves == quick_record.curves
    assert not (out / ".points").exists()


def test_points_of_other_settings_are_not_taken(quick, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        measure_barrier(quick, tmp_path, progress=Interruption(1_000))
    other = replace(quick, options=Options(limit=100), treatments=("as is",))
    with pytest.raises(OutputError, match="another measurement"):
        measure_barrier(other, tmp_path)
    record = measure_barrier(other, tmp_path, force=True)
    assert record.task.splits["test"].count == 100


def test_a_damaged_point_is_measured_again(quick, quick_record, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        measure_barrier(quick, tmp_path, progress=Interruption(2_500))
    for file in (tmp_path / ".points").glob("*.npz"):
        file.write_bytes(file.read_bytes()[:100])
    assert measure_barrier(quick, tmp_path).curves == quick_record.curves


def test_a_dry_run_says_what_would_be_done(quick, monkeypatch):
    from rebasin_hub.pipeline.models import Model

    def read(self, name):
        raise AssertionError(f"'{name}' was read")

    monkeypatch.setattr(Model, "read", read)
    plan = measure_barrier(quick, dry_run=True)
    assert isinstance(plan, BarrierPlan)
    assert plan.treatments == ("as is", "calibrated")
    assert plan.passes == 2 * POINTS * 400


# What is refused, before anything is measured


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": 2}, "points is 2"),
        ({"treatments": ("repaired",)}, "did you mean 'repair'"),
        ({"treatments": ("recomputed",)}, "'recomputed' cannot be measured"),
        ({"task": "digit"}, "digits"),
        ({"matching": Matching("weights")}, "method 'weights'"),
    ],
)
def test_bad_requests_are_refused(request_ab, change, message):
    with pytest.raises(InputError, match=message):
        measure_barrier(replace(request_ab, **change))


def test_models_of_another_shape_are_refused(paths, folder, request_ab):
    other = {n: w[..., :1] if w.ndim > 1 else w for n, w in trained_mlp(0, epochs=0).items()}
    odd = save(folder, "odd", other)
    with pytest.raises(IncompatibleError):
        measure_barrier(replace(request_ab, models=(paths["a"], odd)))


# Planes


@pytest.fixture(scope="module")
def plane(paths):
    models = tuple(paths[name] for name in "abc")
    request = Request(models, "digits", points=9, options=Options(limit=200))
    return measure_barrier(request)


def test_a_plane_holds_both_numberings_and_its_corners(plane):
    assert plane.kind == "plane"
    assert {(p.numbering, p.split) for p in plane.planes} == {
        (numbering, split) for numbering in ("naive", "aligned") for split in ("test", "train")
    }
    for one in plane.planes:
        assert len(one.loss) == len(one.y) == 9
        for x, y in one.corners.values():
            assert min(one.x) < x < max(one.x)
            assert min(one.y) < y < max(one.y)
    assert set(plane.alignments) == {"B", "C"}


def test_alignment_lowers_the_hill_between_three_models(plane):
    naive, aligned = (
        next(p for p in plane.planes if (p.numbering, p.split) == (numbering, "test"))
        for numbering in ("naive", "aligned")
    )
    assert np.mean(aligned.loss) < np.mean(naive.loss)


def test_equal_models_span_no_plane(paths):
    request = Request((paths["a"], paths["b"], paths["b"]), "digits", points=5)
    with pytest.raises(InputError, match="do not span a plane"):
        measure_barrier(request)


def test_the_record_is_json(record):
    assert json.loads(record.model_dump_json())["rebasin"] == 1
