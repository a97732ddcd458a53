"""Importing the program stays cheap: heavy packages are imported only where they are used."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import rebasin_hub

HEAVY = ("matplotlib", "onnx", "scipy", "sklearn", "torch", "transformers")
ON_DEMAND = (
    "rebasin_hub.assign.",
    "rebasin_hub.canonical.kernels",
    "rebasin_hub.evidence",
    "rebasin_hub.experiments.threshold",
    "rebasin_hub.formats.onnx.places",
    "rebasin_hub.infer.dummies",
    "rebasin_hub.infer.dummy_makers",
    "rebasin_hub.infer.exported",
    "rebasin_hub.infer.onnx_",
    "rebasin_hub.infer.program_file",
    "rebasin_hub.infer.sources",
    "rebasin_hub.merge.kernels",
    "rebasin_hub.pipeline.barrier.repairs",
    "rebasin_hub.prove.models",
    "rebasin_hub.repair",
    "rebasin_hub.tasks.images.network",
    "rebasin_hub.tasks.network",
    "rebasin_hub.tasks.text.models",
    "rebasin_hub.tasks.text.rows",
    "rebasin_hub.tasks.text.tokens",
    "rebasin_hub.tasks.text.windows",
    "rebasin_hub.training.device",
    "rebasin_hub.training.fit",
    "rebasin_hub.training.images",
    "rebasin_hub.training.masks",
    "rebasin_hub.training.run",
    "rebasin_hub.zoo",
)

# Imports one module after another, so that a line names the module that brought the package.
REPORT = """
import importlib, sys
heavy, modules = (set(argument.split(",")) for argument in sys.argv[1:3])
for module in sorted(modules):
    before = set(sys.modules)
    importlib.import_module(module)
    for package in sorted(heavy & (set(sys.modules) - before)):
        print(f"{module} imports {package}")
"""


def imports_of_heavy_packages(modules: list[str]) -> list[str]:
    command = [sys.executable, "-c", REPORT, ",".join(HEAVY), ",".join(modules)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_no_module_imports_a_heavy_package_when_it_is_loaded() -> None:
    names = [info.name for info in pkgutil.walk_packages(rebasin_hub.__path__, "rebasin_hub.")]
    light = [name for name in names if not name.startswith(ON_DEMAND)]
    assert "rebasin_hub.app" in light
    assert imports_of_heavy_packages(light) == []


def test_the_check_sees_a_heavy_import() -> None:
    assert imports_of_heavy_packages(["rebasin_hub.zoo"]) == ["rebasin_hub.zoo imports torch"]
