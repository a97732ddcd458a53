"""A BatchNorm ResNet's midpoint on CIFAR-10: naive < aligned < statistics recomputed or REPAIRed.

Two networks from two seeds, measured on test images. `quick` trains the ResNet-8 of width 1 in
about ten minutes of one core each and measures 5,000 images of each split; `paper` trains ResNet-20
at the widths of Git Re-Basin and REPAIR, for a GPU, and measures all. `published` are midpoint
accuracies of the literature at these widths: permuted, and then with statistics repaired.

    python benchmarks/bench_cifar_batchnorm.py [--scale paper] [--device cuda] [--width N]…
"""

from __future__ import annotations

import argparse

import torch
from _measure import figures, measured
from _record import record
from data import cache, data

from rebasin_hub.training import Classifier, Recipe

SEEDS = (0, 1)
QUICK = Recipe(epochs=8, optimizer="sgd", rate=0.2, one_cycle=True, augment=True)
PAPER = Recipe(epochs=100, batch=256, optimizer="sgd", rate=0.2, one_cycle=True, augment=True)
QUICK_LIMIT = 5000
"""Images of each split that a CPU measures."""
PUBLISHED = {
    1: (0.127, 0.676),
    2: (0.161, 0.855),
    4: (0.348, 0.921),
    8: (0.323, 0.944),
    16: (0.161, 0.954),
    32: (0.132, 0.960),
}
ORDER = ("naive, as is", "aligned, as is", "aligned, recomputed", "aligned, repair")


def classifier(scale: str, width: int, seed: int) -> Classifier:
    depth, recipe = (1, QUICK) if scale == "quick" else (3, PAPER)
    return Classifier(
        f"cifar10-resnet{6 * depth + 2}" + (f"-x{width}" if width > 1 else ""),
        "CifarResNet",
        {"depth": depth, "width": width, "shortcut": "B"},
        recipe,
        task="cifar10",
        data=data("cifar10"),
        seed=seed,
    )


def run(scale: str, width: int, device: str) -> dict[str, object]:
    """Train two networks of one width, or take those of an earlier run, and measure their line."""
    store = cache() / "checkpoints"
    trained = [classifier(scale, width, seed).trained(store, device=device) for seed in SEEDS]
    a, b = (one.path for one in trained)
    limit = QUICK_LIMIT if scale == "quick" else None
    # The training split is there as well: statistics are measured on it, not on test images.
    line = measured(a, b, "cifar10", data("cifar10"), device=device, limit=limit)
    columns = figures(line)
    accuracy = {name: columns[name]["midpoint_accuracy"] for name in ORDER}
    print(f"width {width}: midpoint accuracy {accuracy}; ends {[t.log['test'] for t in trained]}")
    return {
        "width": width,
        "midpoint_accuracy": accuracy,
        "published": PUBLISHED[width] if scale == "paper" else None,
        "ends": [one.log["test"]["accuracy"] for one in trained],
        "training_seconds": [one.log["seconds"] for one in trained],
        "seconds": round(line.seconds, 2),
        "verdict": line.verdict,
        "columns": columns,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--scale", choices=("quick", "paper"), default="quick")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--width", type=int, choices=tuple(PUBLISHED), action="append")
    arguments = parser.parse_args()
    if arguments.device == "cpu":
        torch.set_num_threads(1)  # the order of sums, and with it the weights, depends on it
    widths = arguments.width or ([1] if arguments.scale == "quick" else list(PUBLISHED))
    repeats = [run(arguments.scale, width, arguments.device) for width in widths]
    settings = {
        "scale": arguments.scale,
        "seeds": list(SEEDS),
        "recipe": vars(QUICK if arguments.scale == "quick" else PAPER),
        "device": arguments.device,
    }
    name = "cifar_batchnorm" if arguments.scale == "quick" else "cifar_batchnorm_paper"
    record(name, str(__doc__).splitlines()[0], {"settings": settings, "repeats": repeats})


if __name__ == "__main__":
    main()
