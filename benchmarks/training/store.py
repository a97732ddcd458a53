"""Keep what was trained, so that the same settings are trained once."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

__all__ = ["Log", "Trained", "stored"]

Log = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished checkpoint, and what its training said."""

    path: Path
    log: Mapping[str, Any]


def stored(
    name: str,
    ending: str,
    settings: Mapping[str, Any],
    train: Callable[[Path], Log],
    folder: Path,
) -> Trained:
    """Return the checkpoint of these settings, from an earlier run or from a new one.

    Args:
        name: what people see; the settings' digest is added to it.
        ending: of the file, such as `.safetensors`; empty for a directory.
        settings: everything that decides the weights, as plain JSON values.
        train: writes the checkpoint to a path, and returns its log.
        folder: where checkpoints lie.

    The log, `NAME-DIGEST.json`, is written last and all at once: where it is, training finished.

    """
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    stem = f"{name}-{digest[:8]}"
    path, log_path = folder / f"{stem}{ending}", folder / f"{stem}.json"
    if log_path.exists() and path.exists():
        return Trained(path, json.loads(log_path.read_text(encoding="utf-8")))
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=f".{stem}-") as temporary:
        made = Path(temporary) / path.name
        started = time.monotonic()
        log = {"settings": dict(settings), **train(made)}
        log |= {"seconds": round(time.monotonic() - started, 2), **_circumstances()}
        _replace(made, path)
        written = Path(temporary) / "log.json"
        written.write_text(json.dumps(log, indent=1) + "\n", encoding="utf-8")
        _replace(written, log_path)
    return Trained(path, log)


def _replace(made: Path, path: Path) -> None:
    if path.is_dir():  # of a run that was interrupted before its log
        shutil.rmtree(path)
    os.replace(made, path)  # noqa: PTH105 - Path.replace is the same


def _circumstances() -> Log:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
    }
