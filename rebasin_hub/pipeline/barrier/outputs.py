"""The folder that a measurement is written to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from rebasin_hub.errors import InputError, OutputError
from rebasin_hub.pipeline.barrier.ends import LETTERS, Aligned
from rebasin_hub.record import Record, save
from rebasin_hub.record.model import AlignmentRecord

__all__ = ["PICTURE", "RECORD", "REPORT", "check_folder", "file_digest", "write_record"]

RECORD = "rebasin.json"
REPORT = "report.html"
PICTURE = "barrier.png"


def _permutations(letter: str) -> str:
    return f"{letter.lower()}-to-a.safetensors"


def check_folder(folder: Path | None, *, force: bool) -> None:
    """Refuse a folder that has a report already, before any long work starts.

    Raises:
        OutputError: it has one and `force` is not set, or it is no folder.

    """
    if folder is None:
        return
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; name a folder for the report")
    names = (RECORD, REPORT, PICTURE, *map(_permutations, LETTERS[1:]))
    there = [name for name in names if (folder / name).exists()]
    if there and not force:
        raise OutputError(
            f"{folder}: has {there[0]} already; choose another folder or give --force"
        )


def write_record(
    record: Record, folder: Path, aligned: Sequence[Aligned], *, force: bool
) -> Record:
    """Write the permutation files and the record, which then names them by their digests.

    Raises:
        OutputError: a file exists and `force` is not set, or it cannot be written.

    """
    alignments: dict[str, AlignmentRecord] = {}
    for letter, one in zip(LETTERS[1:], aligned, strict=False):
        path = folder / _permutations(letter)
        one.file.save(path, force=force)
        digest = file_digest(path)
        alignments[letter] = one.record.model_copy(update={"permutations": digest})
    complete = record.model_copy(update={"alignments": alignments})
    save(complete, folder / RECORD, force=force)
    return complete


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        InputError: it cannot be read.

    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror}") from problem
