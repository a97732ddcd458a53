"""The table of experiments."""

from __future__ import annotations

import json

import pytest

from rebasin_hub.experiments import EXPERIMENTS
from rebasin_hub.experiments.cells import Cells
from rebasin_hub.experiments.experiment import SCALES
from rebasin_hub.experiments.networks import KINDS
from rebasin_hub.training import Recipe

BOTH = [(name, scale) for name in EXPERIMENTS for scale in SCALES]


def test_the_first_experiments_are_there() -> None:
    assert {
        "calibration",
        "counterexample",
        "depth",
        "difficulty",
        "our-model",
        "training-time",
        "width",
    } <= set(EXPERIMENTS)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_says_what_it_is(name) -> None:
    one = EXPERIMENTS[name]
    assert one.name == name
    assert one.question.endswith("?")
    assert one.protocol.endswith(".")
    assert one.title
    assert one.source
    assert set(one.scales) == set(SCALES)
    assert any(column.key for column in one.columns)
    assert len({column.name for column in one.columns}) == len(one.columns)


@pytest.mark.parametrize(("name", "scale"), BOTH)
def test_cells_are_plain_values_that_differ(name, scale, tmp_path) -> None:
    one = EXPERIMENTS[name]
    settings = one.scales[scale]
    assert json.loads(json.dumps(settings)) == settings
    cells = one.cells(settings)
    paths = [Cells(one, cells, tmp_path, {}).path(cell) for cell in cells]
    assert len(set(paths)) == len(paths) > 0
    for cell in cells:
        if "recipe" in cell:
            Recipe(**cell["recipe"])
        if "network" in cell:
            assert cell["network"] in KINDS
