"""Networks with running statistics get the columns that repair them."""

from __future__ import annotations

import pytest
import torch
from connect_nets import save

from rebasin_hub.pipeline.connect import ConnectRequest, connect_models
from rebasin_hub.tasks import Options
from rebasin_hub.zoo import CifarResNet, randomize


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder, paths = tmp_path_factory.mktemp("models"), []
    for seed in range(2):
        network = CifarResNet(1, channels=1, widths=(4, 8, 16))
        randomize(network, torch.Generator().manual_seed(seed))
        weights = {n: x.numpy() for n, x in network.state_dict().items()}
        paths.append(save(folder, f"net{seed}", weights))
    options = Options(limit=60, settings={"split": "test"})
    return connect_models(ConnectRequest(tuple(paths), options=options, points=3, samples=60))


def test_recomputed_and_repaired_columns_are_there_by_default(record):
    assert record.treatments == ["as is", "calibrated", "recomputed", "repair"]
    found = {(p.strategy, p.treatment) for p in record.pairs}
    assert found == {
        (strategy, treatment) for strategy in record.strategies for treatment in record.treatments
    }
    assert {c.treatment for c in record.connectivity} == set(record.treatments)


def test_repairs_change_what_lies_between_the_ends(record):
    lines = {p.treatment: p.loss for p in record.pairs if p.strategy == "pairwise"}
    assert len({tuple(loss[1:-1]) for loss in lines.values()}) == 4
    assert lines["repair"][0] == pytest.approx(lines["as is"][0], rel=0.2)
