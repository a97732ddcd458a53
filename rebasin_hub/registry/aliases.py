"""Aliases: names that point to a version, can be moved, and remember where they pointed."""

from __future__ import annotations

import sqlite3

from rebasin_hub.errors import InputError
from rebasin_hub.registry.names import Reference, check_alias
from rebasin_hub.registry.results import Alias, AliasEvent
from rebasin_hub.registry.versions import find, now

__all__ = ["delete", "events", "rollback", "set_alias"]


def set_alias(db: sqlite3.Connection, reference: Reference, alias: str) -> Alias:
    """Let an alias point to a version; inside a transaction.

    Raises:
        InputError: the alias cannot be called so, or there is no such version.

    """
    check_alias(alias)
    row = find(db, reference)
    _point(db, row, alias, "set")
    return Alias(row["name"], alias, row["number"])


def rollback(db: sqlite3.Connection, name: str, alias: str) -> Alias:
    """Let an alias point to where it pointed before; inside a transaction.

    The law: n rollbacks undo the last n moves that were not undone already; versions that were
    removed since are passed over.

    Raises:
        InputError: there is no such alias, or it pointed nowhere before.

    """
    now_at = find(db, Reference(name, alias=alias))
    before = _before(db, now_at, alias)
    if before is None:
        raise InputError(
            f"{name}@{alias}: has pointed to no other version before {now_at['number']}"
        )
    row = find(db, Reference(name, number=before))
    _point(db, row, alias, "rollback")
    return Alias(name, alias, before)


def _before(db: sqlite3.Connection, row: sqlite3.Row, alias: str) -> int | None:
    """Replay the history as a stack: a move pushes, a rollback goes back to what it reached."""
    stack: list[int] = []
    for event in db.execute(
        "SELECT action, version FROM alias_event WHERE model = ? AND alias = ? ORDER BY id",
        (row["model"], alias),
    ):
        if event["action"] == "delete":
            stack = []
        elif event["action"] == "rollback":
            while stack and stack[-1] != event["version"]:
                stack.pop()
        elif not stack or stack[-1] != event["version"]:
            stack.append(event["version"])
    for version in reversed(stack[:-1]):
        found = db.execute(
            "SELECT number FROM version WHERE id = ? AND removed IS NULL AND id <> ?",
            (version, row["id"]),
        ).fetchone()
        if found is not None:
            return int(found["number"])
    return None


def delete(db: sqlite3.Connection, name: str, alias: str) -> None:
    """Delete an alias; its history stays.

    Raises:
        InputError: there is no such alias.

    """
    row = find(db, Reference(name, alias=alias), removed=True)
    db.execute("DELETE FROM alias WHERE model = ? AND alias = ?", (row["model"], alias))
    _note(db, row["model"], alias, "delete", None)


def _point(db: sqlite3.Connection, row: sqlite3.Row, alias: str, action: str) -> None:
    db.execute("INSERT OR REPLACE INTO alias VALUES (?, ?, ?)", (row["model"], alias, row["id"]))
    _note(db, row["model"], alias, action, row["id"])


def _note(db: sqlite3.Connection, model: int, alias: str, action: str, version: int | None) -> None:
    db.execute(
        "INSERT INTO alias_event (model, alias, action, version, created) VALUES (?, ?, ?, ?, ?)",
        (model, alias, action, version, now()),
    )


def events(db: sqlite3.Connection, name: str, alias: str | None = None) -> list[AliasEvent]:
    """Return the history of a model's aliases, or of one of them, oldest first.

    Raises:
        InputError: there is no such model, or the alias never was.

    """
    find(db, Reference(name))
    rows = db.execute(
        "SELECT m.name, e.alias, e.action, v.number, e.created FROM alias_event e "
        "JOIN model m ON m.id = e.model LEFT JOIN version v ON v.id = e.version "
        "WHERE m.name = ?1 AND (?2 IS NULL OR e.alias = ?2) ORDER BY e.id",
        (name, alias),
    )
    found = [AliasEvent(*row) for row in rows]
    if alias is not None and not found:
        raise InputError(f"{name}@{alias}: there never was such an alias")
    return found
