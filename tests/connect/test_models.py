"""Connectivity of several models, from files to a record."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from connect_nets import (
    WIDTHS,
    Interruption,
    comparable,
    loss_of,
    mixed,
    moved,
    renumbered,
    save,
    trained,
)

from rebasin_hub.errors import IncompatibleError, InputError, OutputError
from rebasin_hub.permfile import PermutationFile
from rebasin_hub.pipeline.apply import apply_file
from rebasin_hub.pipeline.connect import ConnectPlan, ConnectRequest, connect_models
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.record.connectfiles import load_connect
from rebasin_hub.tasks import Options
from rebasin_hub.workers import Workers
from rebasin_hub.zoo import MLP

POINTS = 7
JOINT = ("reference", "universe")
TEST_ONLY = Options(settings={"split": "test"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def weights():
    return {name: trained(seed) for seed, name in enumerate("abc")}


@pytest.fixture(scope="module")
def request_abc(folder, weights) -> ConnectRequest:
    models = tuple(save(folder, name, values) for name, values in weights.items())
    return ConnectRequest(models, options=TEST_ONLY, points=POINTS, resolution=6)


@pytest.fixture(scope="module")
def out(folder) -> Path:
    return folder / "out"


@pytest.fixture(scope="module")
def record(request_abc, out):
    return connect_models(request_abc, out, command="typed")


@pytest.fixture(scope="module")
def quick(request_abc) -> ConnectRequest:
    return replace(
        request_abc,
        options=Options(limit=60, settings={"split": "test"}),
        treatments=("as is",),
        points=3,
        resolution=2,
    )


def line(record, pair, strategy, treatment="as is"):
    return next(
        p
        for p in record.pairs
        if (p.first + p.second, p.strategy, p.treatment) == (pair, strategy, treatment)
    )


def barrier(record, pair, strategy, treatment="as is"):
    return line(record, pair, strategy, treatment).entezari.loss.value


def verdict(record, treatment="as is"):
    return next(c for c in record.connectivity if c.treatment == treatment)


def summary(record, strategy, treatment="as is"):
    return next(s for s in record.summaries if (s.strategy, s.treatment) == (strategy, treatment))


# Renumbered copies of one model


@pytest.fixture(scope="module")
def copies(folder, weights, request_abc):
    a = weights["a"]
    models = (
        save(folder, "one", a),
        save(folder, "two", renumbered(a, 1)),
        save(folder, "three", renumbered(a, 2)),
    )
    return connect_models(replace(request_abc, models=models))


def test_renumbered_copies_are_strongly_connected_and_not_naively(copies):
    for pair in ("AB", "AC", "BC"):
        assert barrier(copies, pair, "naive") > 0.1
        for strategy in ("pairwise", *JOINT):
            assert barrier(copies, pair, strategy) == pytest.approx(0, abs=1e-6)
    found = verdict(copies)
    assert (found.weak, found.strong) == (True, True)
    assert not summary(copies, "naive").connected
    assert copies.verdict.startswith("Weakly connected")
    assert "Strongly connected" in copies.verdict


def test_there_is_no_hill_between_three_renumbered_copies(copies):
    hills = {s.strategy: s.barrier.loss.value for s in copies.simplices}
    assert hills.pop("naive") > 0.1
    assert hills == {strategy: pytest.approx(0, abs=1e-6) for strategy in JOINT}


def test_ways_round_renumbered_copies_lead_back(copies):
    assert copies.cycle_error == {"pairwise": 0, "reference": 0, "universe": 0}
    assert all(p.cosine == 1 for p in copies.permutations)


# Models that were trained apart


def test_the_reference_serves_its_own_pairs_as_well_as_theirs_do(record):
    for pair in ("AB", "AC"):
        assert line(record, pair, "reference").loss == line(record, pair, "pairwise").loss
    assert line(record, "BC", "reference").loss != line(record, "BC", "pairwise").loss


def test_aligning_lowers_every_barrier_and_a_way_through_the_reference_is_the_longer_one(record):
    for pair in ("AB", "AC", "BC"):
        assert barrier(record, pair, "pairwise") < 0.7 * barrier(record, pair, "naive")
    assert barrier(record, "BC", "reference") > barrier(record, "BC", "pairwise")
    assert record.cycle_error["pairwise"] > 0.2
    assert [record.cycle_error[strategy] for strategy in JOINT] == [0, 0]


@pytest.mark.parametrize("strategy", JOINT)
def test_a_pair_is_measured_in_the_numbering_that_all_models_share(record, out, weights, strategy):
    elements = {
        name: PermutationFile.load(out / f"{strategy}-{name}-to-a.safetensors").element
        for name in "bc"
    }
    b, c = (moved(weights[name], elements[name]) for name in "bc")
    expected = [loss_of(mixed([b, c], [1 - x, x])) for x in record.lambdas]
    assert line(record, "BC", strategy).loss == pytest.approx(expected, rel=1e-5)
    simplex = next(s for s in record.simplices if s.strategy == strategy)
    for shares, loss in list(zip(simplex.weights, simplex.loss, strict=True))[::5]:
        mean = mixed([weights["a"], b, c], list(shares))
        assert loss == pytest.approx(loss_of(mean), rel=1e-5)


def test_naive_lines_are_what_torch_says(record, weights):
    for pair in ("AB", "AC", "BC"):
        ends = [weights[letter.lower()] for letter in pair]
        expected = [loss_of(mixed(ends, [1 - x, x])) for x in record.lambdas]
        assert line(record, pair, "naive").loss == pytest.approx(expected, rel=1e-5)


def test_ends_are_the_models_in_every_strategy(record, weights):
    ends = {end.model: end.loss for end in record.ends if end.treatment == "as is"}
    assert ends == {x.upper(): pytest.approx(loss_of(w), rel=1e-5) for x, w in weights.items()}
    for pair in record.pairs:
        if pair.treatment == "as is":
            assert (pair.loss[0], pair.loss[-1]) == (ends[pair.first], ends[pair.second])


def test_summaries_are_of_all_pairs(record):
    for found in record.summaries:
        values = {
            (x, y): barrier(record, x + y, found.strategy, found.treatment)
            for x, y in combinations("ABC", 2)
        }
        assert found.mean.value == pytest.approx(np.mean(list(values.values())))
        assert found.mean.low <= found.mean.value <= found.mean.high
        assert (found.largest, found.pair) == max((v, pair) for pair, v in values.items())


def test_the_verdict_tells_weak_from_strong_and_how_far_apart_they_are(record):
    found = verdict(record)
    best = min(JOINT, key=lambda s: summary(record, s).mean.value)
    gap = summary(record, best).mean.value - summary(record, "pairwise").mean.value
    assert found.strategy == best
    assert found.gap.value == pytest.approx(gap)
    assert found.gap.low <= gap <= found.gap.high
    assert (found.weak, found.strong) == (False, False)
    assert record.verdict.startswith("Not weakly connected")
    assert "Not strongly connected" in record.verdict


def test_tolerance_decides_what_is_no_barrier(quick):
    found = verdict(connect_models(replace(quick, tolerance=0.99, strategies=("reference",))))
    strict = verdict(connect_models(replace(quick, tolerance=0.0, strategies=("reference",))))
    assert (found.weak, strict.weak) == (True, False)


# The simplex


def test_a_simplex_has_its_models_in_the_corners_and_their_lines_on_the_edges(record):
    ends = {end.model: end.loss for end in record.ends if end.treatment == "as is"}
    for one in record.simplices:
        losses = dict(zip(one.weights, one.loss, strict=True))
        assert len(losses) == 28
        corners = [losses[1.0, 0.0, 0.0], losses[0.0, 1.0, 0.0], losses[0.0, 0.0, 1.0]]
        assert corners == [ends[model] for model in "ABC"]
        for x, loss in zip(record.lambdas, line(record, "BC", one.strategy).loss, strict=True):
            assert losses[0.0, 1 - x, x] == loss
        rises = [
            loss - sum(w * corner for w, corner in zip(shares, corners, strict=True))
            for shares, loss in losses.items()
        ]
        assert one.barrier.loss.value == pytest.approx(max(rises))
        assert one.highest == list(losses)[int(np.argmax(rises))]
        for pair in ("AB", "AC", "BC"):
            assert one.barrier.loss.value >= barrier(record, pair, one.strategy) - 1e-9


def test_simplices_can_be_left_out_and_are_of_all_triples_of_four(quick, folder, weights):
    assert connect_models(replace(quick, simplex=False)).simplices == []
    models = (*quick.models, save(folder, "d", renumbered(weights["a"], 3)))
    four = connect_models(replace(quick, models=models, strategies=("reference",)))
    assert {"".join(s.models) for s in four.simplices} == {"ABC", "ABD", "ACD", "BCD"}
    assert barrier(four, "AD", "pairwise") == pytest.approx(0, abs=1e-6)


# Columns


def test_networks_without_statistics_have_no_repaired_columns_unless_asked_for(record, quick):
    assert record.treatments == ["as is", "calibrated"]
    assert any("--treatments repair" in note for note in record.notes)
    asked = connect_models(replace(quick, treatments=("repair",), simplex=False))
    assert asked.treatments == ["as is", "repair"]
    assert barrier(asked, "AB", "pairwise", "repair") != barrier(asked, "AB", "pairwise")


# Two models


def test_of_two_models_weak_and_strong_are_the_same(quick):
    found = connect_models(replace(quick, models=quick.models[:2]))
    assert (found.simplices, found.cycle_error["pairwise"]) == ([], None)
    assert barrier(found, "AB", "reference") == barrier(found, "AB", "pairwise")
    assert "strong connectivity is the same" in found.verdict


# Outputs, and going on after an interruption


def test_the_folder_holds_the_record_and_a_permutation_file_for_every_model(
    record, out, folder, request_abc
):
    assert load_connect(out / "connect.json") == record
    assert record.command == "typed"
    files = {p.file for p in record.permutations}
    assert files == {
        *(f"pairwise-{x}.safetensors" for x in ("b-to-a", "c-to-a", "c-to-b")),
        *(f"{s}-{x}-to-a.safetensors" for s in JOINT for x in "bc"),
    }
    assert {p.name for p in out.iterdir()} == {"connect.json", *files}
    for name in sorted(files):
        source = request_abc.models["abc".index(name.split("-")[1])]
        apply_file(out / name, source, folder / f"applied-{name}")
    with pytest.raises(OutputError, match=r"has connect\.json already"):
        connect_models(request_abc, out)


@pytest.mark.parametrize("after", [1, 240, 600])
def test_an_interrupted_measurement_goes_on_and_gives_the_same_bytes(quick, tmp_path, after):
    whole, rest = Interruption(), Interruption()
    connect_models(quick, tmp_path / "whole", progress=whole)
    with pytest.raises(KeyboardInterrupt):
        connect_models(quick, tmp_path / "again", progress=Interruption(after))
    assert [p.name for p in (tmp_path / "again").iterdir()] == [".points"]
    connect_models(quick, tmp_path / "again", progress=rest)
    if after > 60:
        assert rest.done <= whole.done - after + 60
    one, other = tmp_path / "whole", tmp_path / "again"
    assert {p.name for p in one.iterdir()} == {p.name for p in other.iterdir()}
    for path in one.glob("*.safetensors"):
        assert path.read_bytes() == (other / path.name).read_bytes()
    records = [load_connect(place / "connect.json") for place in (one, other)]
    assert comparable(records[0]) == comparable(records[1])


@pytest.mark.parametrize(
    ("method", "workers"),
    [("weight", Workers("local", 2)), ("activation", Workers("serial"))],
)
def test_workers_find_the_same_to_the_byte(quick, tmp_path, method, workers):
    asked = replace(quick, matching=Matching(method))
    one = connect_models(asked, tmp_path)
    other = connect_models(asked, tmp_path / "shared", workers=workers)
    assert comparable(one) == comparable(other)
    for path in tmp_path.glob("*.safetensors"):
        assert path.read_bytes() == (tmp_path / "shared" / path.name).read_bytes()


def test_without_a_folder_workers_find_the_same(quick):
    asked = replace(quick, simplex=False)
    assert connect_models(asked, workers=Workers("serial")).pairs == connect_models(asked).pairs


def test_what_workers_have_measured_is_not_measured_again(quick, tmp_path, monkeypatch):
    from rebasin_hub.pipeline.connect import run

    monkeypatch.setattr(run, "measure_matrix", interrupted)
    with pytest.raises(KeyboardInterrupt):
        connect_models(quick, tmp_path, workers=Workers("serial"))
    monkeypatch.undo()
    scored = Interruption()
    record = connect_models(replace(quick, simplex=False), tmp_path, progress=scored)
    assert scored.done == 0
    assert record.pairs == connect_models(replace(quick, simplex=False)).pairs


def interrupted(*_):
    raise KeyboardInterrupt


def test_points_of_other_models_are_not_taken(quick, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        connect_models(quick, tmp_path, progress=Interruption(240))
    other = replace(quick, models=quick.models[::-1])
    with pytest.raises(OutputError, match="another measurement"):
        connect_models(other, tmp_path)
    connect_models(other, tmp_path, force=True)


def test_what_lines_share_is_measured_once(quick, monkeypatch):
    from rebasin_hub.tasks.network import TorchNetwork

    scored = []
    score = TorchNetwork.score

    def counting(self, states, *arguments, **options):
        scored.extend(states)
        return score(self, states, *arguments, **options)

    monkeypatch.setattr(TorchNetwork, "score", counting)
    connect_models(replace(quick, strategies=("reference",)))
    # Models 3; midpoints of lines: naive 3, pairwise 3, reference only B–C. Their simplices have
    # nothing but corners and midpoints of edges.
    assert len(scored) == 3 + 3 + 3 + 1


def test_a_dry_run_reads_no_weights(quick, monkeypatch):
    from rebasin_hub.pipeline.models import Model

    def read(self, name):
        raise AssertionError(f"'{name}' was read")

    monkeypatch.setattr(Model, "read", read)
    plan = connect_models(quick, dry_run=True)
    assert isinstance(plan, ConnectPlan)
    assert (plan.pairs, plan.simplices) == (3, 1)
    assert plan.strategies == ("naive", "pairwise", "reference", "universe")
    assert plan.passes == (3 + 3 * 4 + 3 * 3) * 60


def test_the_record_is_json(record):
    assert json.loads(record.model_dump_json())["kind"] == "connect"


# What is refused, before anything is measured


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": 2}, "points is 2"),
        ({"tolerance": 1.0}, "tolerance is 1.0"),
        ({"resolution": 1}, "resolution is 1"),
        ({"treatments": ("repaired",)}, "did you mean 'repair'"),
        ({"strategies": ("univers",)}, "did you mean 'universe'"),
        ({"matching": Matching("weights")}, "method 'weights'"),
        ({"matching": Matching(start=Path("p.safetensors"))}, "belongs to one pair"),
        ({"task": "digit"}, "digits"),
    ],
)
def test_bad_requests_are_refused(quick, change, message):
    with pytest.raises(InputError, match=message):
        connect_models(replace(quick, **change))


def test_one_model_is_refused(quick):
    with pytest.raises(InputError, match="1 model was given"):
        connect_models(replace(quick, models=quick.models[:1]))
    with pytest.raises(InputError, match="a simplex takes three"):
        connect_models(replace(quick, models=quick.models[:2], simplex=True))


def test_models_of_other_architectures_are_refused(quick, folder):
    narrow = {n: x.numpy() for n, x in MLP((WIDTHS[0], 12, 12, 10)).state_dict().items()}
    with pytest.raises(IncompatibleError):
        connect_models(replace(quick, models=(*quick.models, save(folder, "narrow", narrow))))


def test_a_strategy_that_there_is_not_is_told_before_any_work(quick, monkeypatch):
    from rebasin_hub.pipeline.connect import request

    monkeypatch.setattr(request, "TOGETHER", {"reference": None})
    with pytest.raises(InputError, match="cannot align many models by 'universe'"):
        connect_models(quick)
