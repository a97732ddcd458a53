"""The database: its tables, their migrations, and how it is opened and written.

A model has numbered versions, a version has files. A file that is kept here is a *content*, cut
into pieces that lie in objects of the store; objects are named by their SHA-256. Nothing in a row
says where an object is: what names it proves it.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rebasin_hub.errors import FormatError, InputError, OutputError

__all__ = ["FILE", "MIGRATIONS", "connect", "explained", "reading", "writing"]

FILE = "registry.sqlite"
BUSY_SECONDS = 120
_LOCKED = ("locked", "busy")

_FIRST = """
CREATE TABLE model (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  next INTEGER NOT NULL DEFAULT 1          -- numbers of removed versions are not given again
);
CREATE TABLE version (
  id INTEGER PRIMARY KEY,
  model INTEGER NOT NULL REFERENCES model(id),
  number INTEGER NOT NULL,
  kept TEXT NOT NULL CHECK (kept IN ('in place', 'stored', 'linked', 'compact')),
  main TEXT NOT NULL,                      -- the file to open; empty: the directory
  format TEXT NOT NULL,
  digest TEXT NOT NULL,                    -- plain
  canonical TEXT,                          -- null where no spec fits
  exact INTEGER NOT NULL,
  spec TEXT,
  spec_digest TEXT,
  signature TEXT,                          -- of the sizes and the group
  sizes TEXT NOT NULL,                     -- JSON
  dtypes TEXT NOT NULL,                    -- JSON, type to elements
  parameters INTEGER NOT NULL,
  nbytes INTEGER NOT NULL,
  source TEXT NOT NULL,
  created TEXT NOT NULL,
  removed TEXT,
  purged INTEGER NOT NULL DEFAULT 0,       -- contents of a removed version are gone
  UNIQUE (model, number)
);
CREATE INDEX version_digest ON version (digest);
CREATE INDEX version_canonical ON version (canonical);
CREATE TABLE content (
  digest TEXT PRIMARY KEY,
  nbytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE piece (
  content TEXT NOT NULL REFERENCES content(digest) ON DELETE CASCADE,
  position INTEGER NOT NULL,
  object TEXT NOT NULL,
  start INTEGER NOT NULL,
  nbytes INTEGER NOT NULL,
  PRIMARY KEY (content, position)
) WITHOUT ROWID;
CREATE INDEX piece_object ON piece (object);
CREATE TABLE file (
  version INTEGER NOT NULL REFERENCES version(id),
  name TEXT NOT NULL,
  digest TEXT NOT NULL,
  nbytes INTEGER NOT NULL,
  weights INTEGER NOT NULL,
  path TEXT,                               -- of a file in place
  mtime_ns INTEGER,
  PRIMARY KEY (version, name)
) WITHOUT ROWID;
CREATE INDEX file_digest ON file (digest);
CREATE TABLE compact (
  version INTEGER PRIMARY KEY REFERENCES version(id),
  base INTEGER NOT NULL REFERENCES version(id),
  recipe TEXT NOT NULL REFERENCES content(digest)
);
CREATE INDEX compact_base ON compact (base);
CREATE TABLE artefact (
  version INTEGER NOT NULL REFERENCES version(id),
  name TEXT NOT NULL,
  role TEXT NOT NULL,
  digest TEXT NOT NULL REFERENCES content(digest),
  PRIMARY KEY (version, name)
) WITHOUT ROWID;
CREATE INDEX artefact_digest ON artefact (digest);
CREATE TABLE alias_event (
  id INTEGER PRIMARY KEY,
  model INTEGER NOT NULL REFERENCES model(id),
  alias TEXT NOT NULL,
  action TEXT NOT NULL CHECK (action IN ('set', 'rollback', 'delete')),
  version INTEGER REFERENCES version(id),  -- where it points from now on
  created TEXT NOT NULL
);
CREATE TABLE alias (
  model INTEGER NOT NULL REFERENCES model(id),
  alias TEXT NOT NULL,
  version INTEGER NOT NULL REFERENCES version(id),
  PRIMARY KEY (model, alias)
) WITHOUT ROWID;
CREATE INDEX alias_version ON alias (version);
CREATE INDEX alias_event_alias ON alias_event (model, alias);
CREATE TABLE edge (
  child INTEGER NOT NULL REFERENCES version(id),
  kind TEXT NOT NULL,
  parent INTEGER REFERENCES version(id),
  elsewhere TEXT,                          -- a parent that is not registered here
  position INTEGER NOT NULL,
  CHECK ((parent IS NULL) <> (elsewhere IS NULL))
);
CREATE INDEX edge_child ON edge (child);
CREATE INDEX edge_parent ON edge (parent);
CREATE TABLE tag (
  version INTEGER NOT NULL REFERENCES version(id),
  key TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (version, key)
) WITHOUT ROWID;
CREATE TABLE metric (
  id INTEGER PRIMARY KEY,
  version INTEGER NOT NULL REFERENCES version(id),
  name TEXT NOT NULL,
  value REAL,
  task TEXT NOT NULL,
  task_digest TEXT NOT NULL,
  record TEXT REFERENCES content(digest),
  created TEXT NOT NULL
);
CREATE INDEX metric_version ON metric (version);
CREATE INDEX metric_record ON metric (record);
CREATE TABLE reference (
  spec_digest TEXT NOT NULL,
  signature TEXT NOT NULL,
  version INTEGER NOT NULL REFERENCES version(id),
  created TEXT NOT NULL,
  PRIMARY KEY (spec_digest, signature)
) WITHOUT ROWID;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST,)
"""Script number n brings a database of version n to version n + 1."""


def connect(root: Path) -> sqlite3.Connection:
    """Open the database of a registry, make it if there is none, and bring it up to date.

    Raises:
        InputError: a newer program wrote it.
        OutputError: it cannot be made or written.
        FormatError: it is no database, or damaged.

    """
    path = root / FILE
    with explained(path):
        db = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        try:
            _prepare(db, path)
        except BaseException:
            db.close()
            raise
    return db


def _prepare(db: sqlite3.Connection, path: Path) -> None:
    db.row_factory = sqlite3.Row
    _refuse_newer(db, path)
    _patiently(db, "PRAGMA journal_mode = WAL")
    # A commit that was reported must survive a power cut.
    for setting in ("synchronous = FULL", "foreign_keys = ON"):
        db.execute(f"PRAGMA {setting}")
    if _version(db) < len(MIGRATIONS):
        with writing(db):
            _refuse_newer(db, path)
            for script in MIGRATIONS[_version(db) :]:
                _run(db, script)
            db.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")


def _version(db: sqlite3.Connection) -> int:
    return int(_patiently(db, "PRAGMA user_version").fetchone()[0])


def _refuse_newer(db: sqlite3.Connection, path: Path) -> None:
    if (found := _version(db)) > len(MIGRATIONS):
        raise InputError(
            f"{path}: is a registry of version {found}, this program knows versions up to "
            f"{len(MIGRATIONS)}; update rebasin-hub (nothing was changed)"
        )


def _patiently(db: sqlite3.Connection, statement: str) -> sqlite3.Cursor:
    """Execute what SQLite refuses at once, without waiting, while others open the database."""
    deadline = time.monotonic() + BUSY_SECONDS
    while True:
        try:
            return db.execute(statement)
        except sqlite3.OperationalError as error:
            if not any(word in str(error) for word in _LOCKED) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _run(db: sqlite3.Connection, script: str) -> None:
    """Execute a script inside the transaction; `executescript` would commit it first."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            db.execute(statement)
            statement = ""


@contextmanager
def writing(db: sqlite3.Connection) -> Iterator[None]:
    """Make everything in the block happen or nothing of it, alone among all writers."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


@contextmanager
def reading(db: sqlite3.Connection) -> Iterator[None]:
    """Let everything in the block see one state of the database."""
    db.execute("BEGIN")
    try:
        yield
    finally:
        if db.in_transaction:
            db.execute("ROLLBACK")


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what SQLite says into an error that tells what to do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        reason = str(error)
        if "full" in reason or "disk I/O" in reason:
            reason += "; free some space: nothing was changed"
        elif any(word in reason for word in _LOCKED):
            reason += f" for {BUSY_SECONDS} s by another process; try again when it is done"
        else:
            reason += "; choose another place with --registry, or change its mode"
        raise OutputError(f"{path}: {reason}") from None
    except sqlite3.DatabaseError as error:
        raise FormatError(
            f"{path}: {error}; restore it from a backup, or import an export of it elsewhere"
        ) from None
