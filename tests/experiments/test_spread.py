"""Cells that are measured by workers: as by one process, and kept as soon as they are there."""

from __future__ import annotations

import os
import pickle

import pytest
from squares import DIVERGING, SQUARES

from rebasin_hub.errors import RebasinError
from rebasin_hub.experiments import EXPERIMENTS, catalogue, run_experiment
from rebasin_hub.workers import Workers

TWO = Workers("local", 2)


def run(monkeypatch, folder, experiment=SQUARES, **options):
    monkeypatch.setattr(catalogue, "EXPERIMENTS", {"tiny": experiment})
    return run_experiment("tiny", output=folder, device="cpu", **options)


def test_rows_are_the_same_whoever_measures_them(monkeypatch, tmp_path) -> None:
    alone = run(monkeypatch, tmp_path / "alone")
    told = []
    shared = run(
        monkeypatch,
        tmp_path / "shared",
        workers=TWO,
        progress=lambda stage, done, total: told.append((stage.partition(": ")[2], done, total)),
    )
    assert shared.rows == alone.rows
    assert (shared.table, shared.findings) == (alone.table, alone.findings)
    assert told == [("measured", done, 6) for done in range(1, 7)]
    trained, measured = (
        [path.name.split("-") for path in (tmp_path / "shared").glob(f"{done}-*")]
        for done in ("trained", "measured")
    )
    assert sorted(note[1] for note in trained) == ["1", "2", "3"]
    assert len(measured) == 6
    assert {int(note[-1]) for note in [*trained, *measured]}.isdisjoint({os.getpid()})


def test_what_workers_have_measured_is_not_measured_again(monkeypatch, tmp_path) -> None:
    run(monkeypatch, tmp_path, workers=TWO)
    before = sorted(tmp_path.glob("measured-*"))
    run(monkeypatch, tmp_path)
    run(monkeypatch, tmp_path, workers=TWO)
    assert sorted(tmp_path.glob("measured-*")) == before
    run(monkeypatch, tmp_path, workers=TWO, force=True)
    assert len(list(tmp_path.glob("measured-*"))) > len(before)


def test_a_cell_that_fails_is_named_and_others_are_kept(monkeypatch, tmp_path) -> None:
    with pytest.raises(RebasinError, match="tiny, x 3, seed 0: training diverged"):
        run(monkeypatch, tmp_path, DIVERGING, workers=Workers("local", 1))
    assert len(list((tmp_path / "cells").iterdir())) == 4


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_can_be_sent_to_workers(name) -> None:
    assert pickle.loads(pickle.dumps(EXPERIMENTS[name])).name == name
