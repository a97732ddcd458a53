"""Runs of experiments: kept cell by cell, and written as figures, pictures and pages."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tiny import tiny

from rebasin_hub.errors import InputError, NotFiniteError, OutputError, RebasinError
from rebasin_hub.experiments import ExperimentPlan, catalogue, run_experiment
from rebasin_hub.report import to_json

EACH = [1, 1, 2, 2, 3, 3]


def run(folder, **options):
    return run_experiment("tiny", output=folder, device="cpu", **options)


def put(monkeypatch, experiment):
    monkeypatch.setattr(catalogue, "EXPERIMENTS", {experiment.name: experiment})


def test_rows_are_cells_with_their_figures_and_the_table_their_means(tmp_path, measured) -> None:
    result = run(tmp_path / "out", command="rebasin-hub experiment run tiny")
    assert measured == EACH
    assert result.rows[3] == {"x": 2, "seed": 1, "y": 5, "z": None, "shape": [0, 0, 0]}
    assert result.table[1] == {
        "x": 2,
        "rows": 2,
        "y": 4.5,
        "y_low": 4.0,
        "y_high": 5.0,
        "z": None,
        "z_low": None,
        "z_high": None,
    }
    assert result.findings == ["6 rows, 9.5 at last."]
    stored = json.loads(result.files["json"].read_text())
    assert stored == json.loads(json.dumps(result.as_json()))
    assert stored["settings"]["xs"] == [1, 2, 3]
    assert stored["versions"]["rebasin-hub"]
    assert to_json(result)["rows"][0]["y"] == 1
    assert result.files["png"].read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in result.files["svg"].read_bytes()
    assert "| 2 | 4.500 (4.000 – 5.000) | not finite |" in result.files["md"].read_text()


def test_nothing_is_measured_twice(tmp_path, measured) -> None:
    first = run(tmp_path)
    pictures = {kind: first.files[kind].read_bytes() for kind in ("png", "svg", "md")}
    again = run(tmp_path)
    assert measured == EACH
    assert (again.rows, again.seconds) == (first.rows, first.seconds)
    assert {kind: again.files[kind].read_bytes() for kind in pictures} == pictures
    run(tmp_path, force=True)
    assert measured == 2 * EACH


def test_a_run_goes_on_where_it_was_stopped(tmp_path, measured, monkeypatch) -> None:
    put(monkeypatch, tiny(measured, stop_at=2))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path)
    assert measured == [1, 1]
    put(monkeypatch, tiny(measured))
    plan = run(tmp_path, dry_run=True)
    assert isinstance(plan, ExperimentPlan)
    assert (plan.cells, plan.measured) == (6, 2)
    told = []
    run(tmp_path, progress=lambda stage, done, total: told.append((stage, done, total)))
    assert measured == EACH
    assert told[0] == ("x 2, seed 0: measuring", 2, 6)
    assert told[-1] == ("x 3, seed 1: measuring", 5, 6)


def test_cells_count_for_every_scale_and_seed(tmp_path, measured) -> None:
    run(tmp_path)
    del measured[:]
    run(tmp_path, seeds=3)  # one more seed
    assert measured == [1, 2, 3]
    run(tmp_path, scale="paper")
    assert measured == [1, 2, 3, 100, 100]
    assert len(list(tmp_path.glob("tiny-*.json"))) == 3


def test_another_version_measures_again(tmp_path, measured, monkeypatch) -> None:
    run(tmp_path)
    put(monkeypatch, tiny(measured, version=2))
    run(tmp_path)
    assert measured == 2 * EACH


def test_a_damaged_cell_is_measured_again(tmp_path, measured) -> None:
    run(tmp_path)
    cells = sorted((tmp_path / "cells").iterdir())
    cells[0].write_text("{")
    cells[1].write_text("{}")
    run(tmp_path)
    assert len(measured) == len(EACH) + 2


def test_a_dry_run_writes_nothing(tmp_path, measured) -> None:
    plan = run(tmp_path / "out", dry_run=True)
    assert (plan.cells, plan.measured, plan.device) == (6, 0, "cpu")
    assert measured == []
    assert list(tmp_path.iterdir()) == []


def test_a_cell_that_fails_is_named_and_those_before_it_are_kept(
    tmp_path, measured, monkeypatch
) -> None:
    good = tiny(measured)

    def measure(lab, cell):
        if cell["x"] == 3:
            raise NotFiniteError("training diverged")
        return good.measure(lab, cell)

    put(monkeypatch, replace(good, measure=measure))
    with pytest.raises(RebasinError, match="tiny, x 3, seed 0: training diverged"):
        run(tmp_path)
    assert measured == [1, 1, 2, 2]
    put(monkeypatch, good)
    run(tmp_path)
    assert measured == EACH


def test_data_are_part_of_what_decides_a_cell(tmp_path, measured, monkeypatch) -> None:
    run(tmp_path)
    put(monkeypatch, tiny(measured, task="digits"))
    result = run(tmp_path)
    assert len(measured) == 2 * len(EACH)
    assert result.rows[0]["shape"] == [1, 8, 8]
    assert result.data["counts"] == {"test": 360, "train": 1437}
    assert "-quick-digits-" in result.files["json"].name


# Pages


def test_a_page_says_it_all(tmp_path, measured) -> None:
    result = run(tmp_path, docs=tmp_path / "docs", command="rebasin-hub experiment run tiny")
    page = result.files["docs"].read_text()
    assert result.files["docs"] == tmp_path / "docs" / "tiny.md"
    for part in ("# Squares", "How do squares grow?", "They are computed.", "6 rows, 9.5 at last."):
        assert part in page
    assert "$ rebasin-hub experiment run tiny" in page
    assert result.date[:10] in page
    assert '"xs": [1, 2, 3]' in page
    assert "![" not in page
    run(tmp_path, docs=tmp_path / "docs")  # its own page it replaces


def test_a_page_of_somebody_else_is_left_alone(tmp_path, measured) -> None:
    (tmp_path / "tiny.md").write_text("# Mine\n")
    with pytest.raises(OutputError, match="was not written by an experiment"):
        run(tmp_path / "out", docs=tmp_path)
    assert (tmp_path / "tiny.md").read_text() == "# Mine\n"


# Wrong usage


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "huge"}, "no scale 'huge'; there are quick and paper"),
        ({"task": "digits"}, "needs no data; leave out --task"),
        ({"seeds": 1}, "seeds is 1; 'tiny' takes 2 or more"),
        ({"device": "tpu"}, "device 'tpu' is none of"),
    ],
)
def test_what_cannot_be_run_is_refused(tmp_path, measured, options, message) -> None:
    with pytest.raises(InputError, match=message):
        run_experiment("tiny", output=tmp_path / "out", **{"device": "cpu", **options})
    assert not (tmp_path / "out").exists()


def test_an_unknown_experiment_is_answered_with_the_nearest(tmp_path, measured) -> None:
    with pytest.raises(InputError, match="no experiment 'tyny'; did you mean 'tiny'"):
        run_experiment("tyny", output=tmp_path)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path, measured) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be made"):
        run(tmp_path / "file" / "out")
