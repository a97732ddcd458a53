"""Every experiment runs, on the smallest settings there are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rebasin_hub.experiments import EXPERIMENTS, catalogue, run_experiment

RECIPE = {"epochs": 2, "batch": 64}
SMALL = {
    "width": {"widths": [4, 8]},
    "depth": {"width": 6, "depths": [1, 2]},
    "difficulty": {"width": 6, "classes": [2, 3], "noise": [0.5]},
    "training-time": {"width": 6, "snapshots": [0, 0.5, 2]},
    "our-model": {"widths": [6]},
    "calibration": {"widths": [6]},
}


@pytest.mark.parametrize("name", SMALL)
def test_an_experiment_runs(name, tmp_path, monkeypatch) -> None:
    one = EXPERIMENTS[name]
    quick = {**one.scales["quick"], **SMALL[name], "seeds": 2, "images": 300, "recipe": RECIPE}
    small = replace(one, scales={**one.scales, "quick": quick})
    monkeypatch.setattr(catalogue, "EXPERIMENTS", {name: small})
    result = run_experiment(name, output=tmp_path, docs=tmp_path, device="cpu")
    assert len(result.rows) == len(one.cells(quick))
    assert result.findings
    shown = [column.name for column in one.columns] + [s.name for s in one.picture.series]
    assert all(name in row for row in result.rows for name in [*shown, one.picture.x])
    assert all(row[name] is not None for row in result.table for name in row)
    if name == "our-model":
        renumbered = result.rows[1]
        assert renumbered["naive"] > 0.001
        assert renumbered["aligned"] == pytest.approx(0, abs=1e-6)
        assert renumbered["error_a"] == renumbered["error_b"]
