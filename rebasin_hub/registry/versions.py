"""Versions in the database: found by a reference or a digest, listed, added, and removed softly."""

from __future__ import annotations

import difflib
import json
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from rebasin_hub.errors import InputError
from rebasin_hub.registry.names import Reference
from rebasin_hub.registry.results import (
    Duplicates,
    Facts,
    FileFacts,
    Kept,
    ModelSummary,
    Version,
)

__all__ = [
    "by_digest",
    "duplicates",
    "files_of",
    "find",
    "insert",
    "models",
    "now",
    "remove",
    "restore",
    "version_of",
    "versions",
]

_COLUMNS = "v.*, m.name AS name FROM version v JOIN model m ON m.id = v.model"


def now() -> str:
    """Return the time as the registry writes it: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def insert(
    db: sqlite3.Connection,
    name: str,
    facts: Facts,
    kept: Kept,
    *,
    source: str,
    number: int | None = None,
    created: str | None = None,
) -> int:
    """Add a version of a model, and return its row; inside a transaction.

    It gets the next number, and this time, unless it brings its own (which must be free).
    """
    number = _next(db, name) if number is None else number
    db.execute("INSERT OR IGNORE INTO model (name) VALUES (?)", (name,))
    db.execute("UPDATE model SET next = MAX(next, ?) WHERE name = ?", (number + 1, name))
    values = {
        "number": number,
        "kept": kept.value,
        "main": facts.main,
        "format": facts.format,
        "digest": facts.digest,
        "canonical": facts.canonical,
        "exact": facts.exact,
        "spec": facts.spec,
        "spec_digest": facts.spec_digest,
        "signature": facts.signature,
        "sizes": json.dumps(dict(facts.sizes)),
        "dtypes": json.dumps(dict(facts.dtypes)),
        "parameters": facts.parameters,
        "nbytes": facts.nbytes,
        "source": source,
        "created": created or now(),
    }
    marks = ", ".join(f":{key}" for key in values)
    done = db.execute(
        f"INSERT INTO version (model, {', '.join(values)}) "
        f"VALUES ((SELECT id FROM model WHERE name = :name), {marks})",
        {**values, "name": name},
    )
    row = int(done.lastrowid or 0)
    in_place = kept is Kept.IN_PLACE
    db.executemany(
        "INSERT INTO file VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (row, f.name, f.digest, f.nbytes, f.weights)
            + ((str(f.path), f.mtime_ns) if in_place else (None, None))
            for f in facts.files
        ],
    )
    return row


def _next(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT next FROM model WHERE name = ?", (name,)).fetchone()
    return 1 if row is None else int(row["next"])


def find(db: sqlite3.Connection, reference: Reference, *, removed: bool = False) -> sqlite3.Row:
    """Return the row of the version that a reference names.

    Args:
        db: the database.
        reference: what a user named.
        removed: take one that was removed, too.

    Raises:
        InputError: there is no such model, alias or version, or it was removed.

    """
    model = db.execute("SELECT id FROM model WHERE name = ?", (reference.name,)).fetchone()
    if model is None:
        raise InputError(_no_model(db, reference))
    row: sqlite3.Row | None
    if reference.alias is not None:
        row = _aliased(db, model["id"], reference)
    elif reference.number is not None:
        row = _one(db, "v.model = ? AND v.number = ?", (model["id"], reference.number))
        if row is None:
            raise InputError(
                f"{reference}: there is no such version; 'rebasin-hub registry list "
                f"{reference.name}' shows those that there are"
            )
    else:
        row = _one(
            db, "v.model = ? AND v.removed IS NULL ORDER BY v.number DESC LIMIT 1", (model["id"],)
        )
        if row is None:
            raise InputError(f"{reference.name}: all of its versions were removed; add one")
    if row["removed"] is not None and not removed:
        raise InputError(
            f"{reference}: was removed on {row['removed']}; 'rebasin-hub registry rm --undo' "
            "brings it back as long as gc has not run"
        )
    return row


def _aliased(db: sqlite3.Connection, model: int, reference: Reference) -> sqlite3.Row:
    aliases = {
        row["alias"]: row["version"]
        for row in db.execute("SELECT alias, version FROM alias WHERE model = ?", (model,))
    }
    alias = str(reference.alias)
    if alias not in aliases:
        known = ", ".join(sorted(aliases)) or "none; set one with 'rebasin-hub registry alias'"
        raise InputError(f"{reference}: there is no such alias; {reference.name} has: {known}")
    row = _one(db, "v.id = ?", (aliases[alias],))
    assert row is not None  # foreign keys hold
    return row


def _one(db: sqlite3.Connection, where: str, values: tuple[object, ...]) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(f"SELECT {_COLUMNS} WHERE {where}", values).fetchone()
    return row


def _no_model(db: sqlite3.Connection, reference: Reference) -> str:
    names = [row["name"] for row in db.execute("SELECT name FROM model")]
    close = difflib.get_close_matches(reference.name, names)
    what = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"{reference}: there is no model '{reference.name}' in this registry{what}" + (
        "" if what else "; 'rebasin-hub registry list' shows those that there are"
    )


def version_of(db: sqlite3.Connection, row: int) -> Version:
    """Return a version by its row."""
    return versions(db, "v.id = ?", (row,))[0]


def versions(
    db: sqlite3.Connection, where: str = "v.removed IS NULL", values: tuple[object, ...] = ()
) -> list[Version]:
    """Return the versions that a condition holds for, by model and number."""
    rows = db.execute(f"SELECT {_COLUMNS} WHERE {where} ORDER BY m.name, v.number", values)
    found = rows.fetchall()
    chosen = f"SELECT v.id FROM version v JOIN model m ON m.id = v.model WHERE {where}"
    aliases: dict[int, list[str]] = {}
    for row in db.execute(
        f"SELECT version, alias FROM alias WHERE version IN ({chosen}) ORDER BY alias", values
    ):
        aliases.setdefault(row["version"], []).append(row["alias"])
    tags: dict[int, dict[str, str]] = {}
    for row in db.execute(
        f"SELECT version, key, value FROM tag WHERE version IN ({chosen}) ORDER BY key", values
    ):
        tags.setdefault(row["version"], {})[row["key"]] = row["value"]
    return [
        _version(row, tuple(aliases.get(row["id"], ())), tags.get(row["id"], {})) for row in found
    ]


def _version(row: sqlite3.Row, aliases: tuple[str, ...], tags: dict[str, str]) -> Version:
    return Version(
        name=row["name"],
        number=row["number"],
        kept=Kept(row["kept"]),
        format=row["format"],
        digest=row["digest"],
        canonical=row["canonical"],
        spec=row["spec"],
        parameters=row["parameters"],
        nbytes=row["nbytes"],
        created=row["created"],
        source=row["source"],
        aliases=aliases,
        tags=tags,
        removed=row["removed"],
    )


def models(db: sqlite3.Connection) -> list[ModelSummary]:
    """Return every model that has a version."""
    aliases: dict[int, dict[str, int]] = {}
    for row in db.execute(
        "SELECT a.model, a.alias, v.number FROM alias a JOIN version v ON v.id = a.version "
        "ORDER BY a.alias"
    ):
        aliases.setdefault(row["model"], {})[row["alias"]] = row["number"]
    rows = db.execute(
        "SELECT m.id, m.name, c.count, v.number, v.created, v.spec, v.parameters FROM model m "
        "JOIN (SELECT model, COUNT(*) AS count, MAX(number) AS newest FROM version "
        "WHERE removed IS NULL GROUP BY model) c ON c.model = m.id "
        "JOIN version v ON v.model = m.id AND v.number = c.newest ORDER BY m.name"
    )
    return [
        ModelSummary(
            name=row["name"],
            versions=row["count"],
            latest=row["number"],
            created=row["created"],
            spec=row["spec"],
            parameters=row["parameters"],
            aliases=aliases.get(row["id"], {}),
        )
        for row in rows
    ]


def files_of(db: sqlite3.Connection, row: int) -> tuple[FileFacts, ...]:
    """Return a version's files; the path of those in the store is their name alone."""
    rows = db.execute("SELECT * FROM file WHERE version = ? ORDER BY name", (row,))
    return tuple(
        FileFacts(
            name=file["name"],
            path=Path(file["path"] or file["name"]),
            digest=file["digest"],
            nbytes=file["nbytes"],
            mtime_ns=file["mtime_ns"] or 0,
            weights=bool(file["weights"]),
        )
        for file in rows
    )


def by_digest(db: sqlite3.Connection, column: str, digests: Iterable[str]) -> list[Version]:
    """Return the versions with one of some digests, or with all of some files of weights.

    `column` says which digests they are: `digest`, `canonical` or `file`.
    """
    wanted = tuple(digests)
    marks = ", ".join("?" * len(wanted))
    if column == "file":
        where = (
            f"v.id IN (SELECT version FROM file WHERE weights AND digest IN ({marks}) "
            f"GROUP BY version HAVING COUNT(DISTINCT digest) = {len(wanted)})"
        )
    else:
        where = f"v.{column} IN ({marks})"
    return versions(db, f"v.removed IS NULL AND {where}", wanted)


def duplicates(db: sqlite3.Connection) -> list[Duplicates]:
    """Return the groups of versions that are the same model up to renumbering."""
    rows = db.execute(
        "SELECT COALESCE(v.canonical, v.digest) AS same, v.digest, m.name, v.number "
        "FROM version v JOIN model m ON m.id = v.model WHERE v.removed IS NULL "
        "ORDER BY m.name, v.number"
    )
    groups: dict[str, list[sqlite3.Row]] = {}
    for row in rows:
        groups.setdefault(row["same"], []).append(row)
    return [
        Duplicates(
            digest=digest,
            identical=len({row["digest"] for row in group}) == 1,
            versions=tuple(f"{row['name']}:{row['number']}" for row in group),
        )
        for digest, group in groups.items()
        if len(group) > 1
    ]


def remove(db: sqlite3.Connection, row: sqlite3.Row) -> None:
    """Remove a version softly; inside a transaction.

    Raises:
        InputError: aliases point to it, it is a reference, or others are kept as differences to it.

    """
    shown = f"{row['name']}:{row['number']}"
    aliases = db.execute("SELECT alias FROM alias WHERE version = ?", (row["id"],)).fetchall()
    if aliases:
        names = ", ".join(alias["alias"] for alias in aliases)
        raise InputError(f"{shown}: the alias {names} points to it; move or delete the alias first")
    if db.execute("SELECT 1 FROM reference WHERE version = ?", (row["id"],)).fetchone():
        raise InputError(
            f"{shown}: is the reference of its architecture; set another one with "
            "'rebasin-hub registry set-reference' first"
        )
    children = db.execute(
        "SELECT m.name, v.number FROM compact c JOIN version v ON v.id = c.version "
        "JOIN model m ON m.id = v.model WHERE c.base = ? AND NOT v.purged",
        (row["id"],),
    ).fetchall()
    if children:
        names = ", ".join(f"{child['name']}:{child['number']}" for child in children)
        raise InputError(
            f"{shown}: {names} is kept as its difference to it; give it files of its own with "
            "'rebasin-hub registry store' first, or remove it and run gc"
        )
    db.execute("UPDATE version SET removed = ? WHERE id = ?", (now(), row["id"]))


def restore(db: sqlite3.Connection, row: sqlite3.Row) -> None:
    """Take the removal of a version back; inside a transaction.

    Raises:
        InputError: it was not removed, or gc has taken its files.

    """
    shown = f"{row['name']}:{row['number']}"
    if row["removed"] is None:
        raise InputError(f"{shown}: was not removed")
    if row["purged"]:
        raise InputError(f"{shown}: gc has taken its files away; add the model again")
    db.execute("UPDATE version SET removed = NULL WHERE id = ?", (row["id"],))
