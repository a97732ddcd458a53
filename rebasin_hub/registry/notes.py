"""What is noted beside a version: tags, metrics, artefacts, and references of architectures."""

from __future__ import annotations

import math
import re
import sqlite3
from pathlib import PurePosixPath

from rebasin_hub.errors import InputError
from rebasin_hub.registry.names import check_key
from rebasin_hub.registry.results import Artefact, Metric, ReferenceModel
from rebasin_hub.registry.versions import now

__all__ = [
    "add_artefact",
    "add_metric",
    "artefacts_of",
    "metrics_of",
    "reference_row",
    "references",
    "set_reference",
    "set_tag",
]

_DIGEST = re.compile("[0-9a-f]{64}")
_LONGEST = 10_000


def set_tag(db: sqlite3.Connection, row: int, key: str, value: str | None) -> None:
    """Set a tag of a version, or take it away where the value is None.

    Raises:
        InputError: it cannot be stored, or there is none to take away.

    """
    check_key(key, "a tag's key")
    if value is None:
        done = db.execute("DELETE FROM tag WHERE version = ? AND key = ?", (row, key))
        if not done.rowcount:
            raise InputError(f"'{key}': the version has no such tag")
        return
    if len(value) > _LONGEST:
        raise InputError(f"'{key}': a tag's value has at most {_LONGEST:,} characters")
    db.execute("INSERT OR REPLACE INTO tag VALUES (?, ?, ?)", (row, key, value))


def add_metric(db: sqlite3.Connection, row: int, metric: Metric) -> None:
    """Note a measured number; earlier ones of the same name stay.

    Raises:
        InputError: a name or a digest cannot be stored.

    """
    check_key(metric.name, "a metric's name")
    if metric.task:
        check_key(metric.task, "a task's name")
    if metric.task_digest and not _DIGEST.fullmatch(metric.task_digest):
        raise InputError(f"'{metric.task_digest:.80}': a task's digest is 64 hexadecimal digits")
    finite = metric.value is not None and math.isfinite(metric.value)
    db.execute(
        "INSERT INTO metric (version, name, value, task, task_digest, record, created) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            row,
            metric.name,
            metric.value if finite else None,
            metric.task,
            metric.task_digest,
            metric.record,
            metric.created or now(),
        ),
    )


def metrics_of(db: sqlite3.Connection, row: int) -> tuple[Metric, ...]:
    """Return a version's metrics, oldest first."""
    rows = db.execute(
        "SELECT name, value, task, task_digest, record, created FROM metric WHERE version = ? "
        "ORDER BY id",
        (row,),
    )
    return tuple(Metric(*metric) for metric in rows)


def add_artefact(db: sqlite3.Connection, row: int, artefact: Artefact) -> None:
    """Name a file that belongs to a version; its content is in the store.

    Raises:
        InputError: another one has this name, or it is no plain name.

    """
    check_key(artefact.name, "an artefact's name")
    if PurePosixPath(artefact.name).name != artefact.name or "\\" in artefact.name:
        raise InputError(f"'{artefact.name}': an artefact has a plain file name, without folders")
    there = db.execute(
        "SELECT digest FROM artefact WHERE version = ? AND name = ?", (row, artefact.name)
    ).fetchone()
    if there is not None and there["digest"] != artefact.digest:
        raise InputError(f"'{artefact.name}': the version has another artefact of this name")
    db.execute(
        "INSERT OR IGNORE INTO artefact VALUES (?, ?, ?, ?)",
        (row, artefact.name, artefact.role, artefact.digest),
    )


def artefacts_of(db: sqlite3.Connection, row: int) -> tuple[Artefact, ...]:
    """Return a version's artefacts, by name."""
    rows = db.execute(
        "SELECT a.name, a.role, a.digest, c.nbytes FROM artefact a "
        "JOIN content c ON c.digest = a.digest WHERE a.version = ? ORDER BY a.name",
        (row,),
    )
    return tuple(Artefact(*artefact) for artefact in rows)


def set_reference(db: sqlite3.Connection, row: sqlite3.Row) -> ReferenceModel:
    """Make a version the reference of its architecture at its sizes.

    Raises:
        InputError: no spec fits the version.

    """
    if row["spec_digest"] is None:
        raise InputError(
            f"{row['name']}:{row['number']}: no spec was known when it was registered, so it can "
            "be no reference; add it again with --spec"
        )
    key = (row["spec_digest"], row["signature"])
    created = now()
    db.execute("INSERT OR REPLACE INTO reference VALUES (?, ?, ?, ?)", (*key, row["id"], created))
    return ReferenceModel(row["spec"], *key, f"{row['name']}:{row['number']}", created)


def reference_row(db: sqlite3.Connection, spec_digest: str, signature: str) -> int | None:
    """Return the version that is the reference of an architecture, or None."""
    row = db.execute(
        "SELECT version FROM reference WHERE spec_digest = ? AND signature = ?",
        (spec_digest, signature),
    ).fetchone()
    return None if row is None else int(row["version"])


def references(db: sqlite3.Connection) -> list[ReferenceModel]:
    """Return every reference."""
    rows = db.execute(
        "SELECT v.spec, r.spec_digest, r.signature, m.name, v.number, r.created FROM reference r "
        "JOIN version v ON v.id = r.version JOIN model m ON m.id = v.model "
        "ORDER BY v.spec, m.name, v.number"
    )
    return [
        ReferenceModel(spec, digest, signature, f"{name}:{number}", created)
        for spec, digest, signature, name, number, created in rows
    ]
