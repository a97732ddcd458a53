"""One permutation for a whole training."""

from __future__ import annotations

import pytest
from small import NETWORK, moved, run_small

from rebasin_hub.experiments.lab import Lab
from rebasin_hub.experiments.trajectory import TRAJECTORY
from rebasin_hub.pipeline.matching import Matching, align_models

EPOCHS = (0, 1, 4)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("lab"), "digits", None, (1, 8, 8), 10, "cpu")


@pytest.fixture(scope="module")
def snapshots(lab):
    return [lab.network(NETWORK, seed=seed, snapshots=EPOCHS).snapshots for seed in (0, 1)]


def test_the_last_permutation_is_that_of_the_last_weights(
    lab, snapshots, tmp_path, monkeypatch
) -> None:
    result = run_small("trajectory", lab.folder, monkeypatch, snapshots=list(EPOCHS), seeds=2)
    a, b = snapshots
    last = tmp_path / "last.safetensors"
    align_models(b[4], a[4], last, matching=Matching(device="cpu"))
    for row, epoch in zip(result.rows, EPOCHS, strict=True):
        assert row["epoch"] == epoch
        line = lab.line(a[epoch], b[epoch])
        assert row["naive"] == pytest.approx(line["naive"], abs=1e-5)
        assert row["own"] == pytest.approx(line["aligned"], abs=1e-5)
        assert (row["loss_a"], row["error_b"]) == pytest.approx((line["loss_a"], line["error_b"]))
        copy = moved(b[epoch], last, tmp_path / f"{epoch}.safetensors")
        line = lab.line(a[epoch], copy, align=False)
        assert row["last"] == pytest.approx(line["naive"], abs=1e-5)
        assert row["last_midpoint_error"] == pytest.approx(line["naive_midpoint_error"])
    assert result.rows[-1]["last"] == result.rows[-1]["own"]
    assert result.rows[-1]["agreement"] == 1
    assert result.rows[0]["agreement"] < 1
    assert result.rows[1]["last"] != result.rows[1]["own"]


def _rows(*lasts):
    return [
        {"epoch": epoch, "naive": 1.0, "last": last, "own": 0.01, "agreement": 0.1 * (epoch + 1)}
        for epoch, last in enumerate(lasts)
    ]


def test_findings_say_from_when_on_networks_are_connected() -> None:
    said = TRAJECTORY.findings([], _rows(0.2, 0.3, 0.04, 0.02))
    assert "The permutation of epoch 3 takes the mean barrier there from 1.000 to 0.020." in said
    assert "leaves the most at epoch 1: 0.300" in said[1]
    assert "From epoch 2 on it leaves no mean barrier above 0.05." in said
    assert "leaves less than the step's own at none, and more at 3 (by 0.290 at most)" in said[3]
    both = TRAJECTORY.findings([], _rows(0.0, 0.03, 0.02))
    assert "at 1 (by 0.010 at most), and more at 1 (by 0.020 at most)" in both[3]
    assert "10.0 % of the units" in said[4]
    assert "30.0 % by that of epoch 2" in said[4]
    assert "Even at the last step it leaves" in TRAJECTORY.findings([], _rows(0.2, 0.3))[2]
    assert "At no step does it leave" in TRAJECTORY.findings([], _rows(0.02, 0.03))[2]
