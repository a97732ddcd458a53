"""Experiments at a size that takes seconds."""

from __future__ import annotations

from dataclasses import replace

from rebasin_hub.experiments import EXPERIMENTS, catalogue, run_experiment
from rebasin_hub.pipeline.apply import apply_file
from rebasin_hub.pipeline.matching import Matching, align_models

RECIPE = {"epochs": 4, "batch": 32, "rate": 3e-3}
NETWORK = {"network": "mlp", "depth": 2, "width": 16, "images": 600, "recipe": RECIPE}


def run_small(name, folder, monkeypatch, **settings):
    """Run an experiment with a small network and other settings; return its result."""
    one = EXPERIMENTS[name]
    quick = {**one.scales["quick"], **NETWORK, **settings}
    small = replace(one, scales={**one.scales, "quick": quick})
    monkeypatch.setattr(catalogue, "EXPERIMENTS", {name: small})
    result = run_experiment(name, output=folder, docs=folder, device="cpu")
    check_complete(result, small)
    return result


def check_complete(result, experiment):
    """Check that all that is shown was measured."""
    assert result.findings
    shown = {column.name for column in experiment.columns}
    shown |= {series.name for series in experiment.picture.series} | {experiment.picture.x}
    assert all(name in row for row in result.rows for name in shown)
    assert all(row[name] is not None for row in result.table for name in row)
    for series in experiment.picture.series:
        assert any(series.holds(row) for row in result.rows)


def shuffle(path, file, *, seed):
    """Write permutations of a checkpoint that are drawn at random to a file."""
    align_models(path, path, file, matching=Matching("random", "cpu", seed))
    return file


def moved(path, file, output):
    """Write a copy of a checkpoint, or of its mask, that is renumbered by a permutation file."""
    apply_file(file, path, output, other_model=True)
    return output
