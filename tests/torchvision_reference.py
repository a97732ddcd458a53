"""Compute what torchvision's own networks give: `python torchvision_reference.py OUTPUT`.

A program of its own, run by test_real_implementations.py: importing torchvision beside a CPU build
of torch takes a trick that no other test should live with. Exits with 3 if there is none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import torch
from torch import Generator, nn

from rebasin_hub import zoo

INPUT_SHAPE = (2, 3, 40, 40)


def import_torchvision() -> None:
    """Import torchvision even if its compiled operators (which classifiers do not use) are missing.

    Its wheel on PyPI is built for CUDA. Without the operators, it fails on giving `nms` and `qnms`
    a meaning for fake tensors; declaring them is enough.
    """
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        for operator in ("nms", "qnms"):
            signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            torch.library.define(f"torchvision::{operator}", signature)
        import torchvision  # noqa: F401


def small_vgg(*, batch_norm: bool) -> nn.Module:
    """Return torchvision's VGG with few channels: its classifier's widths cannot be chosen."""
    from torchvision.models import vgg

    features = vgg.make_layers([4, "M", 6, 8, "M"], batch_norm=batch_norm)
    with torch.device("meta"):
        network = vgg.VGG(features, num_classes=5, init_weights=False)
    network.classifier[0] = nn.Linear(8 * 7 * 7, 12)
    network.classifier[3] = nn.Linear(12, 10)
    network.classifier[6] = nn.Linear(10, 5)
    return network


def small_networks() -> dict[str, Callable[[], nn.Module]]:
    from torchvision.models import resnet

    depths = [1, 2, 1, 1]
    return {
        "vgg": lambda: small_vgg(batch_norm=False),
        "vgg_bn": lambda: small_vgg(batch_norm=True),
        "basic": lambda: resnet.ResNet(resnet.BasicBlock, depths, num_classes=5),
        "bottleneck": lambda: resnet.ResNet(resnet.Bottleneck, depths, num_classes=5),
        "grouped": lambda: resnet.ResNet(
            resnet.Bottleneck, depths, num_classes=5, groups=8, width_per_group=4
        ),
    }


def shapes(network: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()]


def outputs(network: nn.Module) -> torch.Tensor:
    """Return the logits in float64 for random weights and input that only the names decide."""
    generator = Generator().manual_seed(0)
    network = network.double().eval()
    zoo.randomize(network, generator)
    with torch.no_grad():
        return network(torch.randn(INPUT_SHAPE, dtype=torch.float64, generator=generator))


def main() -> None:
    try:
        import_torchvision()
    except ModuleNotFoundError as error:
        print(error)
        sys.exit(3)
    import torchvision

    full_size = ("vgg11", "vgg11_bn", "vgg16", "vgg16_bn", "resnet18", "resnet34", "resnet50")
    record: dict[str, object] = {}
    with torch.device("meta"):
        for name in (*full_size, "resnext50_32x4d", "wide_resnet50_2"):
            record[name] = shapes(torchvision.models.get_model(name))
    for name, make in small_networks().items():
        network = make()
        record[name] = (shapes(network), outputs(network))
    torch.save(record, sys.argv[1])


if __name__ == "__main__":
    main()
