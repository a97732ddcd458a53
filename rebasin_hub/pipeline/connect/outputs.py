"""The folder that a measurement of connectivity is written to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from rebasin_hub.errors import OutputError
from rebasin_hub.pipeline.barrier.outputs import file_digest
from rebasin_hub.pipeline.connect.numberings import Brought
from rebasin_hub.record.connect import (
    ConnectRecord,
    PermutationRecord,
    PermutationStrategy,
    TrajectoryRecord,
)
from rebasin_hub.record.connectfiles import save_connect

__all__ = ["PICTURE", "RECORD", "REPORT", "check_folder", "permutation_name", "write_record"]

RECORD = "connect.json"
REPORT = "connect.html"
PICTURE = "connect.png"

R = TypeVar("R", ConnectRecord, TrajectoryRecord)


def permutation_name(strategy: str, model: str, to: str) -> str:
    """Return the name of a permutation file, such as `reference-c-to-a.safetensors`."""
    return f"{strategy}-{model}-to-{to}.safetensors".lower()


def check_folder(folder: Path | None, *, force: bool) -> None:
    """Refuse a folder that has a record already, before any long work starts.

    Raises:
        OutputError: it has one and `force` is not set, or it is no folder.

    """
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; name a folder for the record")
    there = [name for name in (RECORD, REPORT, PICTURE) if (folder / name).exists()]
    if there and not force:
        raise OutputError(
            f"{folder}: has {there[0]} already; choose another folder or give --force"
        )


def write_record(
    record: R,
    folder: Path,
    brought: Mapping[PermutationStrategy, Sequence[Brought]],
    *,
    force: bool,
) -> R:
    """Write the permutation files and the record, which then names them with their digests.

    Args:
        record: without files.
        folder: that they are written to.
        brought: the renumberings of each strategy, in the order of the record's.
        force: replace what is there.

    Raises:
        OutputError: a file exists and `force` is not set, or it cannot be written.

    """
    permutations: list[PermutationRecord] = []
    files = [(strategy, one) for strategy, each in brought.items() for one in each]
    for known, (strategy, one) in zip(record.permutations, files, strict=True):
        name = permutation_name(strategy, one.model.label, one.to.label)
        one.file.save(folder / name, force=force)
        digest = file_digest(folder / name)
        permutations.append(known.model_copy(update={"file": name, "digest": digest}))
    complete = record.model_copy(update={"permutations": permutations})
    save_connect(complete, folder / RECORD, force=force)
    return complete
