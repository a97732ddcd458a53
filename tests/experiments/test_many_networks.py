"""Merging many networks."""

from __future__ import annotations

import numpy as np
import pytest
from small import NETWORK, moved, run_small, shuffle

from rebasin_hub.experiments.lab import Lab
from rebasin_hub.experiments.many import MANY, MODELS, STRATEGIES, groups
from rebasin_hub.experiments.measure import logits_of
from rebasin_hub.experiments.merges import merged, renumbered, score_of


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return Lab(tmp_path_factory.mktemp("lab"), "digits", None, (1, 8, 8), 10, "cpu")


@pytest.fixture(scope="module")
def networks(lab):
    return [lab.network(NETWORK, seed=seed).path for seed in range(3)]


@pytest.fixture(scope="module")
def result(lab):
    with pytest.MonkeyPatch.context() as patch:
        yield run_small("many", lab.folder, patch, counts=[2, 3], seeds=3)


def test_groups_begin_at_every_second_network() -> None:
    assert groups(6, 2) == [[0, 1], [2, 3], [4, 5]]
    assert groups(5, 4) == [[0, 1, 2, 3], [2, 3, 4, 0], [4, 0, 1, 2]]
    assert all(len(set(group)) == 6 for group in groups(6, 6))


def test_there_are_no_larger_groups_than_networks() -> None:
    cells = MANY.cells({**MANY.scales["quick"], "seeds": 4})
    assert {cell["count"] for cell in cells} == {2, 3, 4}


def test_every_model_is_measured(result) -> None:
    assert [(row["count"], row["model"]) for row in result.table] == [
        (count, model) for count in (2, 3) for model in MODELS
    ]


def test_figures_of_two_are_those_of_the_line(result, lab, networks) -> None:
    line = lab.line(*networks[:2], treatments=("as is", "calibrated", "repair"), both_splits=True)
    rows = {row["model"]: row for row in result.rows if row["seeds"] == [0, 1]}
    for strategy in STRATEGIES:  # two models have but one alignment
        assert rows[strategy]["loss"] == pytest.approx(line["aligned_midpoint"], abs=1e-5)
        assert rows[strategy]["loss_repair"] == pytest.approx(
            line["aligned_repair_midpoint"], abs=1e-3
        )
        assert rows[strategy]["temperature"] == pytest.approx(
            line["aligned_calibrated_temperature"]
        )
    assert rows["naive"]["loss"] == pytest.approx(line["naive_midpoint"], abs=1e-5)
    assert rows["ensemble"]["loss"] == pytest.approx(line["ensemble"], abs=1e-5)
    best = min(line["loss_a"], line["loss_b"])
    assert rows["best single"]["loss"] == pytest.approx(best, abs=1e-5)


def test_the_ensemble_of_three_is_the_mean_of_their_logits(result, lab, networks) -> None:
    logits, labels = zip(*(logits_of([one], lab.measurement()) for one in networks), strict=True)
    mean = np.mean(logits, axis=0).astype(np.float64)
    each = np.log(np.exp(mean).sum(1)) - mean[np.arange(len(mean)), labels[0]]
    row = next(r for r in result.rows if (r["count"], r["model"]) == (3, "ensemble"))
    assert row["loss"] == pytest.approx(each.mean(), abs=1e-5)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_renumbered_networks_compute_what_they_did(strategy, lab, networks, tmp_path) -> None:
    copies = renumbered(lab, networks, tmp_path, strategy)
    assert copies[0].read_bytes() != copies[1].read_bytes()
    for one, copy in zip(networks, copies, strict=True):
        before, after = (logits_of([path], lab.measurement())[0] for path in (one, copy))
        np.testing.assert_allclose(after, before, atol=1e-4)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_mean_of_one_network_in_three_numberings_is_that_network(
    strategy, lab, networks, tmp_path
) -> None:
    one = networks[0]
    models = [one]
    for seed in (1, 2):
        file = shuffle(one, tmp_path / f"random-{seed}.safetensors", seed=seed)
        models.append(moved(one, file, tmp_path / f"model-{seed}.safetensors"))
    naive = merged(lab, models, tmp_path / "naive.safetensors", align=False)
    folder = tmp_path / "common"
    folder.mkdir()
    copies = renumbered(lab, models, folder, strategy)
    mean = merged(lab, copies, tmp_path / "mean.safetensors", align=False)
    alone = score_of(lab, [one])["loss"]
    assert score_of(lab, [mean])["loss"] == pytest.approx(alone, abs=1e-5)
    assert score_of(lab, [naive])["loss"] > alone + 0.01


def _table(losses, single=0.1):
    rows = []
    for count, by_strategy in losses.items():
        given = {"best single": single, "ensemble": 0.05, "naive": 2.0, **by_strategy}
        rows += [
            {"count": count, "model": model, "error": 0.1, "loss": given[model]}
            | {"loss_repair": 0.3, "error_repair": 0.2, "loss_tempered": 0.25}
            for model in MODELS
        ]
    return rows


def test_the_best_strategy_and_the_best_single_network_are_named() -> None:
    two = dict.fromkeys(STRATEGIES, 0.2)
    four = {"reference": 0.9, "hierarchical": 0.6, "merge-many": 0.4, "universe": 0.5}
    said = MANY.findings([], _table({2: two, 4: four}))
    assert "any strategy (for two they are the same), 0.200" in said[0]
    assert "that of `merge-many`, 0.400 (10.0 % error) (`reference` 0.900" in said[1]
    assert "`universe` from 0.200 to 0.500" in said[2]
    assert "makes the best merge worse" in said[2]
    assert "No merge has a lower loss than the best single network." in said[2]
    better = MANY.findings([], _table({2: two, 4: dict.fromkeys(STRATEGIES, 0.1)}, single=0.15))
    assert "no worse" in better[2]
    assert "lower loss than the best single network with 4 networks" in better[2]
