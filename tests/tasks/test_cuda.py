"""What is measured on a GPU is what is measured on a CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rebasin_hub.repair import measure, recomputed, repaired
from rebasin_hub.tasks.network import TensorData, TorchNetwork
from rebasin_hub.tasks.task import Split
from rebasin_hub.zoo import VGG, randomize

pytestmark = pytest.mark.gpu

SAMPLES = 96


def networks() -> list[TorchNetwork]:
    inputs = torch.randn(SAMPLES, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(SAMPLES) % 10
    data = {
        "test": TensorData(Split("test", SAMPLES, SAMPLES, "0" * 64, "noise"), (inputs,), targets)
    }
    made = []
    for device in ("cpu", "cuda"):
        module = VGG([8, "M", 16, "M"], num_classes=10, batch_norm=True, pool=4, hidden=[])
        names = {name: name for name in module.state_dict()}
        made.append(TorchNetwork(module, data, names, device=device, batch=32))
    return made


def states(network: TorchNetwork) -> list[dict[str, torch.Tensor]]:
    found = []
    for seed in range(2):
        module = VGG([8, "M", 16, "M"], num_classes=10, batch_norm=True, pool=4, hidden=[])
        randomize(module, torch.Generator().manual_seed(seed))
        arrays = {name: x.numpy() for name, x in module.state_dict().items()}
        found.append(network.state(arrays.__getitem__))
    return found


def test_a_whole_line_scores_alike_on_both() -> None:
    lines = []
    for network in networks():
        a, b = states(network)
        mixed = [network.mix([a, b], [1 - x, x]) for x in np.linspace(0, 1, 7)]
        lines.append([scores.losses for scores in network.score(mixed, "test")])
    assert networks()[1].together > 1
    np.testing.assert_allclose(lines[1], lines[0], rtol=1e-4, atol=1e-4)


def test_repairs_are_alike_on_both() -> None:
    results = []
    for network in networks():
        a, b = states(network)
        batches = list(network.data["test"].batches(32))
        middle = network.mix([a, b], [0.5, 0.5])
        targets = [measure(network, end, batches) for end in (a, b)]
        treated = [
            recomputed(network, middle, batches),
            repaired(network, middle, targets, [0.5, 0.5], batches),
        ]
        results.append([scores.losses for scores in network.score(treated, "test")])
    np.testing.assert_allclose(results[1], results[0], rtol=1e-3, atol=1e-3)
