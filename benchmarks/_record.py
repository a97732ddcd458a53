"""Write what a benchmark measured as dated JSON, with what is needed to repeat it."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from rebasin_hub import __version__

RESULTS = Path(__file__).parent / "results"

PACKAGES = ("numpy", "scipy", "safetensors", "ml-dtypes", "torch", "transformers")


def record(name: str, claim: str, measured: Mapping[str, object]) -> Path:
    """Write one run of a benchmark to `results/DATE-NAME.json` and return the file.

    Args:
        name: the script's name without `bench_`.
        claim: the first line of the script.
        measured: settings with their seed, summary figures, and every single repeat. Each item of
            a list, and each entry of a mapping, goes on a line of its own.

    """
    now = datetime.now(UTC)
    result = {
        "benchmark": name,
        "claim": claim,
        "date": now.isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **_versions()},
        "machine": {
            "system": platform.system(),
            "architecture": platform.machine(),
            "cores": os.cpu_count(),
        },
        **measured,
    }
    body = ",\n".join(f" {json.dumps(key)}: {_lines(value)}" for key, value in result.items())
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{now:%Y-%m-%d}-{name}.json"
    path.write_text(f"{{\n{body}\n}}\n", encoding="utf-8")
    print(f"wrote {path.name}", file=sys.stderr)
    return path


def _lines(value: object) -> str:
    """Return JSON with one line for each entry of the outermost list or mapping."""
    if isinstance(value, Mapping) and value:
        inner = (f"  {json.dumps(key)}: {json.dumps(entry)}" for key, entry in value.items())
        return "{\n" + ",\n".join(inner) + "\n }"
    if isinstance(value, list) and value and isinstance(value[0], Mapping):
        return "[\n" + ",\n".join(f"  {json.dumps(entry)}" for entry in value) + "\n ]"
    return json.dumps(value)


def _versions() -> dict[str, str]:
    found = {"rebasin-hub": __version__}  # as it runs, installed or not
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
