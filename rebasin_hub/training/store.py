"""Keep what was trained, so that the same settings are trained once."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeAlias

from rebasin_hub.errors import FormatError, OutputError
from rebasin_hub.formats import new_directory, new_file

__all__ = ["Log", "Stored", "Trained", "digest_of_settings", "stored"]

Log: TypeAlias = dict[str, Any]
LOG = "log.json"


@dataclass(frozen=True, eq=False)
class Stored:
    """A folder of the store: whatever training wrote, and its log."""

    folder: Path
    log: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Trained:
    """A finished checkpoint, what its training said, and checkpoints of the way there by epoch."""

    path: Path
    log: Mapping[str, Any]
    snapshots: Mapping[float, Path] = field(default_factory=dict)


def digest_of_settings(settings: object) -> str:
    """Return the SHA-256 of plain JSON values, whatever the order of their keys."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def stored(
    name: str, settings: Mapping[str, Any], train: Callable[[Path], Log], store: Path
) -> Stored:
    """Return what these settings gave, from an earlier run or from a new one.

    Args:
        name: what people see; the settings' digest is added to it.
        settings: everything that decides the weights, as plain JSON values.
        train: writes checkpoints into an empty folder, and returns their log.
        store: where the folders `NAME-DIGEST` lie; made if it is not there.

    A folder appears whole or not at all: where it is, training finished. Of several processes that
    want the same at once, one trains it and the others wait.

    Raises:
        OutputError: the store cannot be written.
        FormatError: the log of an earlier run is damaged.

    """
    folder = store / f"{name}-{digest_of_settings(settings)[:12]}"
    if not folder.is_dir():
        _make(store)
        with _alone(folder):
            if not folder.is_dir():
                _train_into(folder, settings, train)
    return Stored(folder, _log(folder / LOG))


def _make(store: Path) -> None:
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise OutputError(f"{store}: cannot be made: {problem.strerror}") from problem


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Wait until no other process trains the same; the lock of one that dies is free again.

    Where there are no locks (Windows, some network file systems), both train it, and the folder of
    the first stands in the end: they are the same.
    """
    with ExitStack() as stack:
        with suppress(ImportError, OSError):  # a store that cannot be written says so later on
            import fcntl

            lock = folder.with_name(f".{folder.name}.lock")
            file = stack.enter_context(lock.open("ab"))
            stack.callback(lock.unlink, missing_ok=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _train_into(folder: Path, settings: Mapping[str, Any], train: Callable[[Path], Log]) -> None:
    try:
        with new_directory(folder) as made:
            _train(made, settings, train)
    except OutputError:
        if not folder.is_dir():  # else another process has just finished the same
            raise


def _train(made: Path, settings: Mapping[str, Any], train: Callable[[Path], Log]) -> None:
    started = time.monotonic()
    log = {"settings": dict(settings), **train(made)}
    log |= {"seconds": round(time.monotonic() - started, 2), **_circumstances()}
    with new_file(made / LOG) as file:
        file.put((json.dumps(log, indent=1) + "\n").encode())


def _log(path: Path) -> Log:
    try:
        log: Log = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise FormatError(
            f"{path}: cannot be read ({problem}); remove {path.parent} to train it again"
        ) from problem
    return log


def _circumstances() -> Log:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": metadata.version("torch"),
        "cores": os.cpu_count(),
    }
