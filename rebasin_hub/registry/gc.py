"""Garbage collection: what no version needs any more.

An object is taken away inside a transaction that writes, and whoever registers a version looks
inside such a transaction whether its objects are there, and puts back those that are not. The two
cannot overlap, so nothing that is being added is ever lost; the grace time only spares the work of
putting back.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rebasin_hub.registry.results import Collected
from rebasin_hub.registry.schema import reading, writing
from rebasin_hub.registry.store import Store, is_in_use

__all__ = ["GRACE", "collect"]

GRACE = 3600.0
"""Seconds that something must have been unused."""
_BATCH = 200
_REMOVED = (
    "SELECT v.id, m.name, v.number FROM version v JOIN model m ON m.id = v.model "
    "WHERE v.removed IS NOT NULL AND v.removed <= ? AND NOT v.purged AND NOT EXISTS ("
    "SELECT 1 FROM compact c JOIN version k ON k.id = c.version "
    "WHERE c.base = v.id AND k.removed IS NULL)"
)
_UNUSED_CONTENTS = (
    "SELECT digest FROM content WHERE digest NOT IN ("
    "SELECT f.digest FROM file f JOIN version v ON v.id = f.version "
    "WHERE v.kept IN ('stored', 'linked') AND NOT v.purged AND v.id NOT IN ({gone}) UNION "
    "SELECT a.digest FROM artefact a JOIN version v ON v.id = a.version "
    "WHERE NOT v.purged AND v.id NOT IN ({gone}) UNION "
    "SELECT c.recipe FROM compact c WHERE c.version NOT IN ({gone}) UNION "
    "SELECT record FROM metric WHERE record IS NOT NULL AND version NOT IN ({gone}))"
)


def collect(
    db: sqlite3.Connection,
    store: Store,
    cache: Path,
    *,
    grace: float = GRACE,
    dry_run: bool = False,
) -> Collected:
    """Take away what has not been needed for a while.

    These are: the files of removed versions (their numbers and digests stay known), objects that
    no version needs, temporary files of processes that were killed, and restored copies.

    Args:
        db: the database.
        store: the objects.
        cache: where versions are restored to.
        grace: seconds that something must have been unused.
        dry_run: only say what would be taken away.

    """
    before = time.time() - grace
    with reading(db):
        gone = _removed(db, grace)
        unused = _unused(db, store, [row["id"] for row in gone], before)
    temporary = [path for path in _old(store.temporary, before) if not is_in_use(path)]
    restored = [*_old(cache, before)]
    nbytes = sum(unused.values()) + sum(map(_size, [*temporary, *restored]))
    if not dry_run:
        _purge(db, grace)
        digests = list(unused)
        for start in range(0, len(digests), _BATCH):
            _delete(db, store, digests[start : start + _BATCH], before)
        for path in (*temporary, *restored):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else _unlink(path)
    return Collected(
        dry_run=dry_run,
        versions=tuple(f"{row['name']}:{row['number']}" for row in gone),
        objects=len(unused),
        temporary=len(temporary),
        restored=len(restored),
        nbytes=nbytes,
    )


def _removed(db: sqlite3.Connection, grace: float) -> list[sqlite3.Row]:
    before = datetime.now(UTC) - timedelta(seconds=grace)
    return db.execute(_REMOVED, (before.isoformat(timespec="seconds"),)).fetchall()


def _unused(db: sqlite3.Connection, store: Store, gone: list[int], before: float) -> dict[str, int]:
    """Return the objects that no row will need once some versions are gone, with their sizes."""
    unused = _UNUSED_CONTENTS.format(gone=", ".join(map(str, gone)))
    needed = {
        row["object"]
        for row in db.execute(f"SELECT DISTINCT object FROM piece WHERE content NOT IN ({unused})")
    }
    return {
        digest: found.st_size
        for digest, found in store.all()
        if digest not in needed and found.st_mtime <= before
    }


def _purge(db: sqlite3.Connection, grace: float) -> None:
    """Forget what removed versions consist of; their objects have no name in a row then."""
    with writing(db):
        gone = [row["id"] for row in _removed(db, grace)]
        marks = ", ".join(map(str, gone))
        unused = _UNUSED_CONTENTS.format(gone=marks)
        digests = [row["digest"] for row in db.execute(unused)]
        db.execute(f"UPDATE version SET purged = 1 WHERE id IN ({marks})")
        db.execute(f"DELETE FROM artefact WHERE version IN ({marks})")
        db.execute(f"DELETE FROM compact WHERE version IN ({marks})")
        db.execute(f"UPDATE metric SET record = NULL WHERE version IN ({marks})")
        db.executemany("DELETE FROM content WHERE digest = ?", [(digest,) for digest in digests])


def _delete(db: sqlite3.Connection, store: Store, digests: list[str], before: float) -> None:
    """Delete some objects, unless they have come to be needed or touched meanwhile."""
    with writing(db):
        for digest in digests:
            named = db.execute("SELECT 1 FROM piece WHERE object = ? LIMIT 1", (digest,)).fetchone()
            with suppress(FileNotFoundError):
                if named is None and store.path(digest).stat().st_mtime <= before:
                    store.remove(digest)


def _old(folder: Path, before: float) -> Iterator[Path]:
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime <= before:
                    yield path


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    total = 0
    for file in files:
        with suppress(OSError):
            total += file.stat().st_size if file.is_file() else 0
    return total


def _unlink(path: Path) -> None:
    with suppress(OSError):
        path.unlink()
