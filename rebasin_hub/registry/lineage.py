"""Lineage: which version came from which, and how; a graph without circles."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from rebasin_hub.errors import InputError
from rebasin_hub.registry.names import Reference
from rebasin_hub.registry.results import Edge, Lineage, Parent, ParentKind
from rebasin_hub.registry.versions import find, version_of, versions

__all__ = ["ELSEWHERE", "add_parents", "children_of", "parents_of", "whole"]

ELSEWHERE = "hf://"
"""What the name of a parent begins with that is not registered here."""
_LONGEST = 500

_NAMED = (
    "SELECT e.kind, e.elsewhere, m.name, v.number FROM edge e "
    "LEFT JOIN version v ON v.id = e.{end} LEFT JOIN model m ON m.id = v.model "
    "WHERE e.{start} = ? ORDER BY e.position, e.rowid"
)
_REACHED = (
    "WITH RECURSIVE reached(id) AS (VALUES(?1) UNION "
    "SELECT e.{end} FROM edge e JOIN reached r ON e.{start} = r.id WHERE e.{end} IS NOT NULL) "
    "SELECT id FROM reached"
)


def add_parents(db: sqlite3.Connection, child: int, parents: Sequence[Parent]) -> None:
    """Add parents to a version; one that is there already is not added again.

    Raises:
        InputError: a parent is unknown, is the version itself, or descends from it.

    """
    present = set(parents_of(db, child))
    for position, parent in enumerate(parents, start=len(present)):
        elsewhere = parent.model if parent.model.startswith(ELSEWHERE) else None
        if elsewhere is not None:
            if len(elsewhere) > _LONGEST or not elsewhere.isprintable():
                raise InputError(f"{elsewhere!r:.80}: is no name of a model on the Hub")
            row = None
        else:
            row = int(find(db, Reference.parse(parent.model), removed=True)["id"])
            _refuse_circle(db, child, row)
        named = Parent(parent.kind, elsewhere or version_of(db, row or 0).reference)
        if named not in present:
            db.execute(
                "INSERT INTO edge VALUES (?, ?, ?, ?, ?)",
                (child, parent.kind.value, row, elsewhere, position),
            )
            present.add(named)


def _refuse_circle(db: sqlite3.Connection, child: int, parent: int) -> None:
    above = {
        row["id"] for row in db.execute(_REACHED.format(end="parent", start="child"), (parent,))
    }
    if child in above:
        one, other = (version_of(db, row).reference for row in (child, parent))
        raise InputError(f"{other} comes from {one} itself: it cannot be its parent too")


def parents_of(db: sqlite3.Connection, row: int) -> tuple[Parent, ...]:
    """Return a version's parents, in the order in which they were given."""
    return _named(db, "child", "parent", row)


def children_of(db: sqlite3.Connection, row: int) -> tuple[Parent, ...]:
    """Return the versions that a version is a parent of, and how."""
    return _named(db, "parent", "child", row)


def _named(db: sqlite3.Connection, start: str, end: str, row: int) -> tuple[Parent, ...]:
    found = db.execute(_NAMED.format(start=start, end=end), (row,))
    return tuple(
        Parent(ParentKind(e["kind"]), e["elsewhere"] if e["name"] is None else _shown(e))
        for e in found
    )


def _shown(row: sqlite3.Row) -> str:
    return f"{row['name']}:{row['number']}"


def whole(db: sqlite3.Connection, reference: Reference) -> Lineage:
    """Return everything that a version comes from and everything that comes from it."""
    root = int(find(db, reference, removed=True)["id"])
    reached: set[int] = set()
    for end, start in (("parent", "child"), ("child", "parent")):
        rows = db.execute(_REACHED.format(end=end, start=start), (root,))
        reached |= {int(row["id"]) for row in rows}
    marks = ", ".join(map(str, sorted(reached)))
    found = {v.reference: v for v in versions(db, f"v.id IN ({marks})")}
    edges = db.execute(
        "SELECT e.kind, e.elsewhere, cm.name AS child, c.number AS child_number, m.name, v.number "
        "FROM edge e JOIN version c ON c.id = e.child JOIN model cm ON cm.id = c.model "
        "LEFT JOIN version v ON v.id = e.parent LEFT JOIN model m ON m.id = v.model "
        f"WHERE e.child IN ({marks}) AND (e.parent IS NULL OR e.parent IN ({marks})) "
        "ORDER BY cm.name, c.number, e.position"
    )
    return Lineage(
        root=version_of(db, root).reference,
        versions=found,
        edges=tuple(
            Edge(
                f"{e['child']}:{e['child_number']}",
                ParentKind(e["kind"]),
                e["elsewhere"] if e["name"] is None else _shown(e),
            )
            for e in edges
        ),
    )
