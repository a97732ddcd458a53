"""Check a registry: the database, every object, every file in place, every version's bytes."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

from rebasin_hub.errors import FormatError
from rebasin_hub.registry.contents import pieces_of
from rebasin_hub.registry.restore import Restorer, state_in_place
from rebasin_hub.registry.results import FileFacts, Finding, Kept, Verified
from rebasin_hub.registry.schema import reading
from rebasin_hub.registry.versions import files_of

__all__ = ["verify"]

_LOST = "restore it from a backup, or add the model again"
Tell = Callable[[int, int], None]


def verify(
    restorer: Restorer, path: Path, *, quick: bool = False, progress: Tell | None = None
) -> Verified:
    """Check everything, from one state of the database.

    Args:
        restorer: the registry's store and database.
        path: the database file, for messages.
        quick: trust sizes and times; read no content.
        progress: told how many versions are done, and how many there are.

    """
    with reading(restorer.db):
        findings = [*_database(restorer.db, path)]
        rows = restorer.db.execute(
            "SELECT v.*, m.name FROM version v JOIN model m ON m.id = v.model WHERE NOT v.purged "
            "ORDER BY m.name, v.number"
        ).fetchall()
        objects = _objects(restorer.db)
        findings += _missing(restorer, objects)
        contents: dict[str, str | None] = {}
        in_place = 0
        for number, row in enumerate(rows):
            findings += _version(restorer, row, contents, quick=quick)
            in_place += len(files_of(restorer.db, row["id"])) * (row["kept"] == Kept.IN_PLACE)
            if progress is not None:
                progress(number + 1, len(rows))
        findings += _artefacts(restorer, contents, quick=quick)
        there = dict(restorer.store.all())
    return Verified(
        versions=len(rows),
        files_in_place=in_place,
        objects=len(objects),
        objects_unused=len(there.keys() - objects.keys()),
        nbytes=sum(found.st_size for found in there.values()),
        findings=tuple(dict.fromkeys(findings)),
    )


def _database(db: sqlite3.Connection, path: Path) -> Iterator[Finding]:
    for (message,) in db.execute("PRAGMA integrity_check"):
        if message != "ok":
            yield Finding(str(path), f"{message}; restore it from a backup")
    for row in db.execute("PRAGMA foreign_key_check"):
        yield Finding(
            str(path), f"a row of {row[0]} names one of {row[2]} that is not there; {_LOST}"
        )


def _objects(db: sqlite3.Connection) -> dict[str, int]:
    """Return every object that rows name, with the length that it must have."""
    rows = db.execute("SELECT object, MAX(start + nbytes) FROM piece GROUP BY object")
    return {digest: int(nbytes) for digest, nbytes in rows}


def _missing(restorer: Restorer, objects: dict[str, int]) -> Iterator[Finding]:
    for digest, nbytes in objects.items():
        if not restorer.store.has(digest, nbytes):
            names = ", ".join(_users(restorer.db, digest)) or "a removed version"
            place = restorer.store.path(digest)
            yield Finding(
                f"object {place}", f"is missing or cut off, and {names} needs it; {_LOST}"
            )


def _users(db: sqlite3.Connection, digest: str) -> list[str]:
    rows = db.execute(
        "SELECT DISTINCT m.name, v.number FROM piece p JOIN file f ON f.digest = p.content "
        "JOIN version v ON v.id = f.version JOIN model m ON m.id = v.model "
        "WHERE p.object = ? AND v.kept <> 'in place' LIMIT 5",
        (digest,),
    )
    return [f"{row['name']}:{row['number']}" for row in rows]


def _version(
    restorer: Restorer, row: sqlite3.Row, contents: dict[str, str | None], *, quick: bool
) -> Iterator[Finding]:
    shown = f"{row['name']}:{row['number']}"
    files = files_of(restorer.db, row["id"])
    if not files:
        yield Finding(shown, f"has no files; {_LOST}")
    for file in files:
        if Kept(row["kept"]) is Kept.IN_PLACE:
            wrong = state_in_place(file, rehash=not quick)
            if wrong is not None:
                yield Finding(
                    shown, f"{wrong}; put it back, or use 'rebasin-hub registry relocate'"
                )
            continue
        if file.digest not in contents:
            contents[file.digest] = _wrong(restorer, row, file, quick=quick)
        if (damage := contents[file.digest]) is not None:
            yield Finding(shown, f"{file.name}: {damage}")


def _wrong(restorer: Restorer, row: sqlite3.Row, file: FileFacts, *, quick: bool) -> str | None:
    """Say why a file in the store does not come out as it went in."""
    try:
        if quick:
            if pieces_of(restorer.db, file.digest) is None:
                restorer.recipe(row)
            return None
        hasher = hashlib.sha256()
        for chunk in restorer.chunks(row, file):
            hasher.update(chunk)
    except FormatError as error:
        return str(error)
    if hasher.hexdigest() == file.digest:
        return None
    return f"comes out of the store with another SHA-256; {_LOST}"


def _artefacts(
    restorer: Restorer, contents: dict[str, str | None], *, quick: bool
) -> Iterator[Finding]:
    for row in restorer.db.execute(
        "SELECT a.name, a.digest, m.name AS model, v.number FROM artefact a "
        "JOIN version v ON v.id = a.version JOIN model m ON m.id = v.model WHERE NOT v.purged"
    ).fetchall():
        facts = FileFacts(row["name"], Path(row["name"]), row["digest"], 0, 0, weights=False)
        if row["digest"] not in contents:
            contents[row["digest"]] = _wrong(restorer, row, facts, quick=quick)
        if (damage := contents[row["digest"]]) is not None:
            yield Finding(f"{row['model']}:{row['number']}", f"{row['name']}: {damage}")
