"""The reference networks have the names, shapes and functions of torchvision's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchvision_reference import outputs, shapes

import rebasin_hub
from rebasin_hub import zoo

pytestmark = pytest.mark.checkpoints

PLAN = (4, "M", 6, 8, "M")
SMALL = {
    "vgg": lambda: zoo.VGG(PLAN, hidden=(12, 10), num_classes=5),
    "vgg_bn": lambda: zoo.VGG(PLAN, hidden=(12, 10), num_classes=5, batch_norm=True),
    "basic": lambda: zoo.ResNet(zoo.BasicBlock, (1, 2, 1, 1), num_classes=5),
    "bottleneck": lambda: zoo.ResNet(zoo.Bottleneck, (1, 2, 1, 1), num_classes=5),
    "grouped": lambda: zoo.ResNet(
        zoo.Bottleneck, (1, 2, 1, 1), num_classes=5, groups=8, width_per_group=4
    ),
}
FULL_SIZE = {
    "vgg11": zoo.VGG,
    "vgg11_bn": lambda: zoo.VGG(batch_norm=True),
    "vgg16": lambda: zoo.VGG(zoo.VGG16),
    "vgg16_bn": lambda: zoo.VGG(zoo.VGG16, batch_norm=True),
    "resnet18": lambda: zoo.ResNet(zoo.BasicBlock, (2, 2, 2, 2)),
    "resnet34": lambda: zoo.ResNet(zoo.BasicBlock, (3, 4, 6, 3)),
    "resnet50": lambda: zoo.ResNet(zoo.Bottleneck, (3, 4, 6, 3)),
    "resnext50_32x4d": lambda: zoo.ResNet(
        zoo.Bottleneck, (3, 4, 6, 3), groups=32, width_per_group=4
    ),
    "wide_resnet50_2": lambda: zoo.ResNet(zoo.Bottleneck, (3, 4, 6, 3), width_per_group=128),
}


@pytest.fixture(scope="module")
def torchvision(tmp_path_factory):
    """What torchvision's networks are and compute, recorded by another process."""
    output = tmp_path_factory.mktemp("torchvision") / "record.pt"
    script = Path(__file__).with_name("torchvision_reference.py")
    # `make` installs torchvision into a folder that no other program sees.
    path = [Path(sys.prefix) / "torchvision", Path(rebasin_hub.__file__).parents[1]]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, str(script), str(output)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 3:
        pytest.skip(f"{done.stdout.strip()}; `make test` installs it")
    assert done.returncode == 0, done.stderr
    return torch.load(output, weights_only=True)


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_networks_have_torchvisions_names_and_shapes(torchvision, name) -> None:
    with torch.device("meta"):
        network = FULL_SIZE[name]()
    assert shapes(network) == torchvision[name]


@pytest.mark.parametrize("name", SMALL)
def test_small_networks_compute_what_torchvisions_do(torchvision, name) -> None:
    network = SMALL[name]()
    expected_shapes, expected = torchvision[name]
    assert shapes(network) == expected_shapes
    torch.testing.assert_close(outputs(network), expected, rtol=1e-10, atol=1e-10)
