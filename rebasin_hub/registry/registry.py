"""The registry: named, immutable, numbered versions of models, and what is known of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rebasin_hub.errors import InputError, OutputError
from rebasin_hub.formats.atomic import explained as explained_os
from rebasin_hub.registry import aliases, contents, lineage, notes, schema, versions
from rebasin_hub.registry.contents import Stored
from rebasin_hub.registry.gc import GRACE, collect
from rebasin_hub.registry.names import Reference, check_name
from rebasin_hub.registry.place import default_place
from rebasin_hub.registry.recipe import Part, Written, write_recipe
from rebasin_hub.registry.restore import Restorer
from rebasin_hub.registry.results import (
    Added,
    Alias,
    AliasEvent,
    Artefact,
    Collected,
    CompactFacts,
    Duplicates,
    Facts,
    FileFacts,
    Imported,
    Kept,
    Lineage,
    Metric,
    ModelSummary,
    Parent,
    ReferenceModel,
    Transferred,
    Verified,
    Version,
    VersionDetails,
)
from rebasin_hub.registry.schema import writing
from rebasin_hub.registry.store import Store, chunks_of, digest_of_file
from rebasin_hub.registry.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Registry"]

_ATTEMPTS = 10


class Registry:
    """A registry in a folder; a context manager that closes its database.

    Every method is one transaction: it happens as a whole or not at all, whatever other processes
    do and whenever the program is stopped. Versions are named as on the command line: `name`,
    `name@alias`, `name:3`. Methods raise InputError for what is unknown or refused, OutputError
    where the registry cannot be written, FormatError where it is damaged.
    """

    def __init__(self, root: Path | None = None) -> None:
        self.root = (default_place() if root is None else root).absolute()
        with explained_os(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        self.store = Store(self.root)
        self._db = schema.connect(self.root)
        self._restorer = Restorer(self._db, self.store, self.root)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextmanager
    def _database(self) -> Iterator[sqlite3.Connection]:
        with schema.explained(self.root / schema.FILE):
            yield self._db

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._database() as db, writing(db):
            yield db

    # Versions

    def add(
        self,
        name: str,
        facts: Facts,
        *,
        keep: Kept = Kept.IN_PLACE,
        source: str = "",
        parents: Sequence[Parent] = (),
        tags: dict[str, str] | None = None,
        artefacts: Sequence[tuple[Path, str]] = (),
        recipe: tuple[Written, str] | None = None,
    ) -> Added:
        """Register the next version of a model.

        Args:
            name: the model.
            facts: what the version consists of; `pipeline.registry.add` finds them out.
            keep: where its files are kept.
            source: where it came from, in words.
            parents: what it was made from.
            tags: free texts.
            artefacts: small files that belong to it, with their roles; copied into the store.
            recipe: the recipe and the base of a version that is kept compactly.

        """
        check_name(name)
        for _ in range(_ATTEMPTS):
            stored = [*self._keep(facts, keep)]
            extra = [(role, path.name, self._whole(path)) for path, role in artefacts]
            written = None if recipe is None else self._adopt(recipe[0])
            everything = [*stored, *(content for _, _, content in extra)]
            everything += [] if written is None else [written]
            self.store.sync()
            with self._transaction() as db:
                if not self._present(everything):
                    continue  # gc was faster: put them there again
                row = versions.insert(db, name, facts, keep, source=source)
                for one in everything:
                    contents.insert(db, one.content)
                lineage.add_parents(db, row, parents)
                for key, value in (tags or {}).items():
                    notes.set_tag(db, row, key, value)
                for role, file, one in extra:
                    size = one.content.nbytes
                    notes.add_artefact(db, row, Artefact(file, role, one.content.digest, size))
                if recipe is not None and written is not None:
                    base = int(versions.find(db, Reference.parse(recipe[1]))["id"])
                    self._note_recipe(db, row, base, written.content.digest)
                return self._added(db, row, facts, everything)
        raise OutputError(f"{self.root}: objects vanish as fast as they are stored; try again")

    def _keep(self, facts: Facts, keep: Kept) -> Iterator[Stored]:
        """Put the files of a version into the store, where they are to be kept there."""
        for file in facts.files if keep in {Kept.STORED, Kept.LINKED} else ():
            with self._database() as db:
                known = contents.pieces_of(db, file.digest)
            if known is not None:  # in the layout that the database knows
                yield Stored(known, contents.put_known(self.store, file.path, known))
            else:
                put = contents.link if keep is Kept.LINKED else contents.cut
                yield put(self.store, file.path, file.digest, file.nbytes)

    def _whole(self, path: Path) -> Stored:
        digest = digest_of_file(path)
        nbytes = path.stat().st_size
        new = not self.store.has(digest, nbytes)
        self.store.put(digest, nbytes, chunks_of(path))
        return Stored(contents.single(digest, nbytes), nbytes * new)

    def _adopt(self, written: Written) -> Stored:
        new = not self.store.has(written.digest, written.nbytes)
        self.store.put(written.digest, written.nbytes, chunks_of(written.path))
        return Stored(contents.single(written.digest, written.nbytes), written.nbytes * new)

    def _present(self, stored: Iterable[Stored]) -> bool:
        return all(
            self.store.has(digest, size)
            for one in stored
            for digest, size in one.content.objects.items()
        )

    @staticmethod
    def _note_recipe(db: sqlite3.Connection, row: int, base: int, recipe: str) -> None:
        kept = db.execute("SELECT kept FROM version WHERE id = ?", (base,)).fetchone()["kept"]
        if Kept(kept) not in {Kept.STORED, Kept.LINKED}:
            raise InputError("the base of a difference has to be in the store; try again")
        db.execute("INSERT INTO compact VALUES (?, ?, ?)", (row, base, recipe))

    @staticmethod
    def _added(db: sqlite3.Connection, row: int, facts: Facts, stored: Sequence[Stored]) -> Added:
        version = versions.version_of(db, row)
        column = "digest" if facts.canonical is None else "canonical"
        same = versions.by_digest(db, column, [facts.canonical or facts.digest])
        return Added(
            version=version,
            same_as=tuple(v.reference for v in same if v.reference != version.reference),
            parents=lineage.parents_of(db, row),
            stored_bytes=sum(one.new_bytes for one in stored),
            shared_bytes=sum(one.shared_bytes for one in stored),
            notes=facts.notes,
        )

    def models(self) -> list[ModelSummary]:
        """Return every model with its newest version."""
        with self._database() as db:
            return versions.models(db)

    def versions(self, name: str) -> list[Version]:
        """Return the versions of a model."""
        with self._database() as db:
            reference = Reference.parse(name)
            found = versions.versions(db, "m.name = ? AND v.removed IS NULL", (reference.name,))
            if not found:
                versions.find(db, Reference(reference.name))  # says what is wrong
            return found

    def show(self, reference: str) -> VersionDetails:
        """Return everything that is known of a version."""
        with self._database() as db:
            row = versions.find(db, Reference.parse(reference), removed=True)
            number = int(row["id"])
            return VersionDetails(
                version=versions.version_of(db, number),
                main=row["main"],
                exact=bool(row["exact"]),
                spec_digest=row["spec_digest"],
                signature=row["signature"],
                sizes=_json(row["sizes"]),
                dtypes=_json(row["dtypes"]),
                files=versions.files_of(db, number),
                artefacts=notes.artefacts_of(db, number),
                metrics=notes.metrics_of(db, number),
                parents=lineage.parents_of(db, number),
                children=lineage.children_of(db, number),
                compact=_compact(db, number),
                reference_of=any(
                    r.version == f"{row['name']}:{row['number']}" for r in notes.references(db)
                ),
            )

    def rm(self, reference: str, *, undo: bool = False) -> Version:
        """Remove a version, or take that back; gc takes its files away later."""
        with self._transaction() as db:
            row = versions.find(db, Reference.parse(reference), removed=undo)
            (versions.restore if undo else versions.remove)(db, row)
            return versions.version_of(db, row["id"])

    def resolve(self, reference: str) -> Path:
        """Return a path that a version can be opened from, restored from the store if needed."""
        with self._database() as db:
            return self._restorer.resolve(versions.find(db, Reference.parse(reference)))

    def relocate(self, reference: str, path: Path) -> Version:
        """Tell where the files of a version in place lie now; their digests must be the same."""
        with self._database() as db:
            row = versions.find(db, Reference.parse(reference))
            files = versions.files_of(db, row["id"])
        shown = f"{row['name']}:{row['number']}"
        if Kept(row["kept"]) is not Kept.IN_PLACE:
            raise InputError(f"{shown}: is kept in the registry, not in place")
        moved = []
        for file in files:
            main = file.name == row["main"]
            place = path if main else (path.parent if row["main"] else path) / file.name
            if digest_of_file(place) != file.digest:
                raise InputError(
                    f"{place}: is not {file.name} of {shown}; its SHA-256 is another one"
                )
            stat = place.stat()
            moved.append((str(place.resolve()), stat.st_mtime_ns, row["id"], file.name))
        with self._transaction() as db:
            db.executemany(
                "UPDATE file SET path = ?, mtime_ns = ? WHERE version = ? AND name = ?", moved
            )
            return versions.version_of(db, row["id"])

    def move_into_store(self, reference: str) -> Version:
        """Copy the files of a version in place, or kept compactly, into the store."""
        with self._database() as db:
            row = versions.find(db, Reference.parse(reference))
            files = versions.files_of(db, row["id"])
        if Kept(row["kept"]) in {Kept.STORED, Kept.LINKED}:
            raise InputError(f"{row['name']}:{row['number']}: is in the store already")
        path = self.resolve(reference)
        folder = path.parent if row["main"] else path
        placed = [
            replace(f, path=path if f.name == row["main"] else folder / f.name) for f in files
        ]
        for _ in range(_ATTEMPTS):
            stored = [contents.cut(self.store, f.path, f.digest, f.nbytes) for f in placed]
            self.store.sync()
            with self._transaction() as db:
                if not self._present(stored):
                    continue
                for one in stored:
                    contents.insert(db, one.content)
                db.execute("UPDATE version SET kept = 'stored' WHERE id = ?", (row["id"],))
                db.execute(
                    "UPDATE file SET path = NULL, mtime_ns = NULL WHERE version = ?", (row["id"],)
                )
                db.execute("DELETE FROM compact WHERE version = ?", (row["id"],))
                return versions.version_of(db, row["id"])
        raise OutputError(f"{self.root}: objects vanish as fast as they are stored; try again")

    # Aliases, tags, metrics, lineage

    def alias(self, reference: str, alias: str) -> Alias:
        """Let an alias of a model point to a version."""
        with self._transaction() as db:
            return aliases.set_alias(db, Reference.parse(reference), alias)

    def delete_alias(self, name: str, alias: str) -> None:
        """Delete an alias; its history stays."""
        with self._transaction() as db:
            aliases.delete(db, name, alias)

    def rollback(self, name: str, alias: str) -> Alias:
        """Let an alias point to where it pointed before."""
        with self._transaction() as db:
            return aliases.rollback(db, name, alias)

    def history(self, name: str, alias: str | None = None) -> list[AliasEvent]:
        """Return where the aliases of a model have pointed, oldest first."""
        with self._database() as db:
            return aliases.events(db, name, alias)

    def tag(self, reference: str, tags: dict[str, str | None]) -> Version:
        """Set tags of a version; a value of None takes a tag away."""
        with self._transaction() as db:
            row = versions.find(db, Reference.parse(reference))
            for key, value in tags.items():
                notes.set_tag(db, row["id"], key, value)
            return versions.version_of(db, row["id"])

    def metric(
        self, reference: str, metrics: Sequence[Metric], *, record: Path | None = None
    ) -> tuple[Metric, ...]:
        """Note measured numbers of a version, and keep the record that proves them."""
        kept = None if record is None else self._whole(record)
        self.store.sync()
        with self._transaction() as db:
            row = versions.find(db, Reference.parse(reference))["id"]
            if kept is not None:
                if not self._present([kept]):
                    raise OutputError(f"{record}: vanished from the store; try again")
                contents.insert(db, kept.content)
            digest = None if kept is None else kept.content.digest
            for metric in metrics:
                notes.add_metric(db, row, replace(metric, record=digest))
            return notes.metrics_of(db, row)

    def link(self, reference: str, parents: Sequence[Parent]) -> tuple[Parent, ...]:
        """Add parents to a version."""
        with self._transaction() as db:
            row = versions.find(db, Reference.parse(reference))["id"]
            lineage.add_parents(db, row, parents)
            return lineage.parents_of(db, row)

    def lineage(self, reference: str) -> Lineage:
        """Return everything that a version comes from and everything that comes from it."""
        with self._database() as db:
            return lineage.whole(db, Reference.parse(reference))

    # What is the same

    def by_files(self, digests: Iterable[str]) -> list[Version]:
        """Return the versions that have all of these files of weights."""
        with self._database() as db:
            return versions.by_digest(db, "file", dict.fromkeys(digests))

    def by_digest(self, digest: str) -> list[Version]:
        """Return the versions with a plain digest."""
        with self._database() as db:
            return versions.by_digest(db, "digest", [digest])

    def by_canonical(self, digest: str) -> list[Version]:
        """Return the versions with a canonical digest."""
        with self._database() as db:
            return versions.by_digest(db, "canonical", [digest])

    def duplicates(self) -> list[Duplicates]:
        """Return the versions that are the same model up to renumbering, group by group."""
        with self._database() as db:
            return versions.duplicates(db)

    def set_reference(self, reference: str) -> ReferenceModel:
        """Make a version the reference of its architecture at its sizes."""
        with self._transaction() as db:
            return notes.set_reference(db, versions.find(db, Reference.parse(reference)))

    def references(self) -> list[ReferenceModel]:
        """Return the reference of each architecture that has one."""
        with self._database() as db:
            return notes.references(db)

    def reference_for(self, spec_digest: str, signature: str) -> Version | None:
        """Return the reference of an architecture at some sizes, or None."""
        with self._database() as db:
            row = notes.reference_row(db, spec_digest, signature)
            return None if row is None else versions.version_of(db, row)

    # Compact storage

    def write_recipe(self, files: Sequence[tuple[FileFacts, Sequence[Part]]]) -> Written:
        """Write a recipe under a temporary name, and prove that it gives the files back.

        Raises:
            FormatError: it does not.

        """
        path = self.store.temporary_file()
        try:
            with explained_os(path), self._database():
                written = write_recipe(path, files, self._restorer.fetch)
                self._restorer.prove(written, [facts for facts, _ in files])
        except BaseException:
            with suppress(OSError):
                path.unlink()
            raise
        return written

    def base_for(self, reference: str) -> tuple[Version, dict[str, str]]:
        """Return the version that differences to a version are made of, and its files' digests.

        This is the version itself, or the base of one that is kept compactly.
        """
        with self._database() as db:
            row = versions.find(db, Reference.parse(reference))
            base = db.execute("SELECT base FROM compact WHERE version = ?", (row["id"],)).fetchone()
            version = versions.version_of(db, row["id"] if base is None else base["base"])
            if version.kept not in {Kept.STORED, Kept.LINKED}:
                raise InputError(
                    f"{version.reference}: is registered in place, and a difference needs a base "
                    f"that stays; first: rebasin-hub registry store {version.reference}"
                )
            found = versions.find(db, Reference(version.name, number=version.number))
            return version, {f.name: f.digest for f in versions.files_of(db, found["id"])}

    # Upkeep

    def verify(
        self, *, quick: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> Verified:
        """Check everything; `quick` trusts sizes and times, and reads no content."""
        with self._database():
            place = self.root / schema.FILE
            return verify(self._restorer, place, quick=quick, progress=progress)

    def gc(self, *, grace: float = GRACE, dry_run: bool = False) -> Collected:
        """Take away what has not been needed for `grace` seconds."""
        with self._database() as db, explained_os(self.root):
            cache = self._restorer.cache
            return collect(db, self.store, cache, grace=grace, dry_run=dry_run)

    def export(self, references: Sequence[str], path: Path, *, force: bool = False) -> Transferred:
        """Write versions, with all that is known of them, to one archive."""
        from rebasin_hub.registry.transfer import export

        with self._database() as db:
            return export(db, self._restorer, references, path, force=force)

    def import_(self, path: Path, *, prefix: str | None = None) -> Imported:
        """Take over the versions of an archive, their names behind `prefix/` if one is given."""
        from rebasin_hub.registry.transfer import import_archive

        with self._database() as db:
            return import_archive(db, self._restorer, path, prefix=prefix)


def _json(text: str) -> dict[str, int]:
    found: dict[str, int] = json.loads(text)
    return found


def _compact(db: sqlite3.Connection, row: int) -> CompactFacts | None:
    found = db.execute(
        "SELECT c.base, c.recipe, k.nbytes FROM compact c JOIN content k ON k.digest = c.recipe "
        "WHERE c.version = ?",
        (row,),
    ).fetchone()
    if found is None:
        return None
    base = versions.version_of(db, found["base"]).reference
    return CompactFacts(base, found["recipe"], found["nbytes"])
