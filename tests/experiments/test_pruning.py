"""Pruning: masks are nested, kept in training, and follow the permutations."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from small import NETWORK, moved, run_small, shuffle

from rebasin_hub.experiments.lab import Lab
from rebasin_hub.experiments.pruning import PRUNING, levels_of
from rebasin_hub.experiments.steps import Step, measure_step
from rebasin_hub.formats import open_checkpoint
from rebasin_hub.pipeline.matching import Matching, align_models

CELL = {**NETWORK, "share": 0.5, "level": 2, "rewind": 0}


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("lab"), "digits", None, (1, 8, 8), 10, "cpu")


@pytest.fixture(scope="module")
def levels(lab):
    return [levels_of(lab, CELL, seed) for seed in (0, 1)]


def _read(path):
    with open_checkpoint(path) as file:
        return {name: np.array(file.read(name)) for name in file.header}


def test_masks_are_nested_and_kept_in_training(levels) -> None:
    before = None
    for number, level in enumerate(levels[0]):
        mask, weights = _read(level.mask), _read(level.path)
        assert mask.keys() == weights.keys()
        sizes = [mask[name].size for name in mask if mask[name].ndim == 2]
        left = sum(int(mask[name].sum()) for name in mask if mask[name].ndim == 2)
        assert left / sum(sizes) == pytest.approx(0.5**number, abs=0.001)
        for name, kept in mask.items():
            assert not weights[name][~kept].any()
            assert weights[name][kept].any()
            assert before is None or not (kept & ~before[name]).any()
        before = mask


def test_every_round_goes_back_to_the_same_epoch(lab) -> None:
    cell = {**CELL, "rewind": 0.5, "recipe": {"epochs": 1, "batch": 32}}
    kept = lab.network(cell, seed=5, snapshots=(0.5,)).snapshots[0.5]
    dense, *sparse = (
        json.loads((one.path.parent / "log.json").read_bytes())["settings"]
        for one in levels_of(lab, cell, 5)
    )
    assert dense["start"] is None
    assert len(sparse) == 2
    for settings in sparse:
        assert settings["start"] == hashlib.sha256(kept.read_bytes()).hexdigest()


def test_masks_follow_the_permutations(lab, levels, tmp_path) -> None:
    """A sequence and its renumbered copy: what connects the dense ones connects all of it."""
    own = levels[0]
    file = shuffle(own[0].path, tmp_path / "random.safetensors", seed=3)
    copies = [
        Step(
            moved(level.path, file, tmp_path / f"weights-{number}.safetensors"),
            moved(level.mask, file, tmp_path / f"mask-{number}.safetensors"),
        )
        for number, level in enumerate(own)
    ]
    for number, pair in enumerate(zip(own, copies, strict=True)):
        step = measure_step(lab, pair, (own[0], copies[0]))
        assert step["sparsity"] == pytest.approx(1 - 0.5**number, abs=0.001)
        assert step["overlap_last"] == 1
        assert step["merged_last"] == step["sparsity"]
        assert step["last"] == pytest.approx(0, abs=1e-6)
        assert step["naive"] > 0.01
        if number:
            assert step["overlap_naive"] < 0.9
            assert step["merged_naive"] < step["sparsity"]


def test_the_permutation_is_that_of_the_dense_networks(lab, levels, tmp_path, monkeypatch) -> None:
    result = run_small("pruning", lab.folder, monkeypatch, seeds=2, share=0.5, levels=2)
    a, b = levels
    dense = tmp_path / "dense.safetensors"
    align_models(b[0].path, a[0].path, dense, matching=Matching(device="cpu"))
    for row, first, second in zip(result.rows, a, b, strict=True):
        line = lab.line(first.path, second.path)
        assert row["naive"] == pytest.approx(line["naive"], abs=1e-5)
        assert row["own"] == pytest.approx(line["aligned"], abs=1e-5)
        copy = moved(second.path, dense, tmp_path / f"{row['level']}.safetensors")
        line = lab.line(first.path, copy, align=False)
        assert row["last"] == pytest.approx(line["naive"], abs=1e-5)
        assert row["overlap_naive"] == pytest.approx(_overlap(first.mask, second.mask))
        mask = moved(second.mask, dense, tmp_path / f"{row['level']}-mask.safetensors")
        assert row["overlap_last"] == pytest.approx(_overlap(first.mask, mask))
    assert [row["left"] for row in result.table] == [1, 0.5, 0.25]
    assert result.rows[1]["last"] != result.rows[1]["own"]


def _overlap(one, other):
    masks = [_read(path) for path in (one, other)]
    a, b = (
        np.concatenate([mask[name].ravel() for name in sorted(mask) if mask[name].ndim == 2])
        for mask in masks
    )
    return (a & b).sum() / (a | b).sum()


def _rows(*lasts):
    return [
        {"left": 0.5**level, "sparsity": 1 - 0.5**level, "naive": 0.1, "last": last, "own": 0.0}
        | {f"overlap_{name}": 0.2 for name in ("naive", "last", "own")}
        | {"merged_last": 0.3, "error_a": 0.05}
        for level, last in enumerate(lasts)
    ]


def test_findings_say_how_far_the_permutation_connects() -> None:
    said = PRUNING.findings([], _rows(0.01, 0.04, 0.2, 0.03))
    assert "with 87.5 % of the weights pruned" in said[0]
    assert "leaves no mean barrier above 0.05 up to 50.0 % of the weights pruned." in said[2]
    assert "at 2 of 3 sparse levels" in said[3]
    assert "even between the dense ones" in PRUNING.findings([], _rows(0.06, 0.01))[2]
    assert "up to 75.0 %" in PRUNING.findings([], _rows(0.0, 0.0, 0.0))[2]
