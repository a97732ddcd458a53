"""Versions in one archive: written, and taken over elsewhere.

A tar file of a manifest (JSON) and the objects that the versions need, each under its SHA-256.
What comes in is input like any other: only the names that the manifest announces are taken, none of
them is a path, every object has to have the digest that is its name, and every file, joined, the
digest of its version. Digests of weights cannot be checked without the spec: they are the
exporter's word, like names and metrics.
"""

from __future__ import annotations

import hashlib
import io
import json
import sqlite3
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from rebasin_hub.errors import FormatError, InputError
from rebasin_hub.formats import new_file
from rebasin_hub.registry import lineage, notes, versions
from rebasin_hub.registry.contents import Content, Piece, content_chunks, insert, pieces_of, single
from rebasin_hub.registry.names import Reference, check_alias, check_name
from rebasin_hub.registry.restore import Restorer, state_in_place
from rebasin_hub.registry.results import (
    Artefact,
    Facts,
    FileFacts,
    Imported,
    Kept,
    Metric,
    Parent,
    ParentKind,
    Transferred,
)
from rebasin_hub.registry.schema import reading, writing
from rebasin_hub.registry.store import CHUNK, chunks_of

__all__ = ["export", "import_archive"]

_MANIFEST = "manifest.json"
_LONGEST_MANIFEST = 1 << 28
_OBJECTS = "objects/"

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0, lt=2**62)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, frozen=True, extra="forbid")


class _File(_Strict):
    name: str
    digest: Digest
    nbytes: Count
    weights: bool

    @model_validator(mode="after")
    def _stays_inside(self) -> Self:
        path = PurePosixPath(self.name)
        if (
            path.is_absolute()
            or not path.parts
            or ".." in path.parts
            or set(self.name) & set("\\:")
        ):
            raise ValueError(f"the file name {self.name!r} leads out of its folder")
        return self


class _Artefact(_Strict):
    name: str
    role: str
    digest: Digest
    nbytes: Count


class _Metric(_Strict):
    name: str
    value: float | None
    task: str
    task_digest: str
    record: Digest | None
    created: str


class _Parent(_Strict):
    kind: str
    model: str


class _Compact(_Strict):
    base: str
    recipe: Digest


class _Version(_Strict):
    name: str
    number: Annotated[int, Field(ge=1, lt=2**31)]
    main: str
    format: str
    digest: Digest
    canonical: Digest | None
    exact: bool
    spec: str | None
    spec_digest: Digest | None
    signature: Digest | None
    sizes: dict[str, int]
    dtypes: dict[str, int]
    parameters: Count
    nbytes: Count
    source: str
    created: str
    files: Annotated[list[_File], Field(min_length=1)]
    tags: dict[str, str]
    aliases: list[str]
    metrics: list[_Metric]
    artefacts: list[_Artefact]
    parents: list[_Parent]
    compact: _Compact | None

    @property
    def shown(self) -> str:
        return f"{self.name}:{self.number}"


class _Content(_Strict):
    digest: Digest
    nbytes: Count
    pieces: list[tuple[Digest, Count, Count]]


class _Manifest(_Strict):
    rebasin_registry: Literal[1]
    versions: list[_Version]
    contents: list[_Content]
    objects: dict[Digest, Count]


# Writing


def export(
    db: sqlite3.Connection,
    restorer: Restorer,
    references: Sequence[str],
    path: Path,
    *,
    force: bool = False,
) -> Transferred:
    """Write versions to an archive, with the bases of those that are kept as differences.

    Raises:
        InputError: a version is unknown, or its files in place were moved or changed.
        OutputError: the archive exists or cannot be written.

    """
    with reading(db):
        rows = _chosen(db, references)
        contents: dict[str, Content] = {}
        in_place: dict[str, Path] = {}
        entries = [_entry(db, row, contents, in_place) for row in rows]
    objects = {d: n for content in contents.values() for d, n in content.objects.items()}
    manifest = _Manifest(
        rebasin_registry=1,
        versions=entries,
        contents=[
            _Content(
                digest=c.digest,
                nbytes=c.nbytes,
                pieces=[(p.object, p.start, p.nbytes) for p in c.pieces],
            )
            for c in contents.values()
        ],
        objects=objects,
    )
    with new_file(path.absolute(), force=force) as out:
        # tarfile asks of its file no more than `write` and `tell`.
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
            text = manifest.model_dump_json(indent=1).encode()
            _add(archive, _MANIFEST, len(text), [text])
            for digest, nbytes in sorted(objects.items()):
                source = in_place.get(digest)
                inside = restorer.store.read(digest, 0, nbytes)
                chunks = inside if source is None else chunks_of(source)
                _add(archive, _OBJECTS + digest, nbytes, _checked(chunks, digest))
        size = out.tell()
    return Transferred(path, tuple(entry.shown for entry in entries), len(objects), size)


def _chosen(db: sqlite3.Connection, references: Sequence[str]) -> list[sqlite3.Row]:
    """Return the rows of the versions to export, bases first."""
    rows: dict[int, sqlite3.Row] = {}
    for text in references:
        row = versions.find(db, Reference.parse(text))
        base = db.execute("SELECT base FROM compact WHERE version = ?", (row["id"],)).fetchone()
        if base is not None:
            named = Reference.parse(versions.version_of(db, base["base"]).reference)
            rows.setdefault(base["base"], versions.find(db, named))
        rows.setdefault(row["id"], row)
    return list(rows.values())


def _entry(
    db: sqlite3.Connection,
    row: sqlite3.Row,
    contents: dict[str, Content],
    in_place: dict[str, Path],
) -> _Version:
    """Describe a version, and note which contents it needs and where they lie."""
    version, files = versions.version_of(db, row["id"]), versions.files_of(db, row["id"])
    artefacts, metrics = notes.artefacts_of(db, row["id"]), notes.metrics_of(db, row["id"])
    compact = db.execute("SELECT * FROM compact WHERE version = ?", (row["id"],)).fetchone()
    needed = [a.digest for a in artefacts] + [m.record for m in metrics if m.record is not None]
    if compact is not None:
        needed.append(compact["recipe"])
    elif version.kept is Kept.IN_PLACE:
        _note_in_place(version.reference, files, contents, in_place)
    else:
        needed += [file.digest for file in files]
    for digest in needed:
        content = pieces_of(db, digest)
        if content is None:
            raise FormatError(
                f"{version.reference}: {digest[:12]} is not in the store; "
                "'rebasin-hub registry verify' tells more"
            )
        contents[digest] = content
    base = None if compact is None else versions.version_of(db, compact["base"]).reference
    return _Version(
        **{key: row[key] for key in _COPIED},
        exact=bool(row["exact"]),
        sizes=json.loads(row["sizes"]),
        dtypes=json.loads(row["dtypes"]),
        files=[
            _File(name=f.name, digest=f.digest, nbytes=f.nbytes, weights=f.weights) for f in files
        ],
        tags=dict(version.tags),
        aliases=list(version.aliases),
        metrics=[_Metric(**vars(m)) for m in metrics],
        artefacts=[_Artefact(**vars(a)) for a in artefacts],
        parents=[
            _Parent(kind=p.kind.value, model=p.model) for p in lineage.parents_of(db, row["id"])
        ],
        compact=None if base is None else _Compact(base=base, recipe=compact["recipe"]),
    )


_COPIED = (
    *("name", "number", "main", "format", "digest", "canonical", "spec", "spec_digest"),
    *("signature", "parameters", "nbytes", "source", "created"),
)


def _note_in_place(
    shown: str,
    files: Sequence[FileFacts],
    contents: dict[str, Content],
    in_place: dict[str, Path],
) -> None:
    for file in files:
        if (wrong := state_in_place(file)) is not None:
            raise InputError(f"{shown}: is registered in place, and {wrong}; put it back")
        contents.setdefault(file.digest, single(file.digest, file.nbytes))
        in_place[file.digest] = file.path


def _checked(chunks: Iterable[bytes], digest: str) -> Iterator[bytes]:
    hasher = hashlib.sha256()
    for chunk in chunks:
        hasher.update(chunk)
        yield chunk
    if hasher.hexdigest() != digest:
        raise FormatError(f"object {digest}: has another SHA-256 than its name; nothing was kept")


class _Chunks(io.RawIOBase):
    """A file of chunks, as tarfile wants it."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = b""

    def read(self, size: int = -1) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def _add(archive: tarfile.TarFile, name: str, nbytes: int, chunks: Iterable[bytes]) -> None:
    member = tarfile.TarInfo(name)
    member.size = nbytes
    stream = iter(chunks)
    archive.addfile(member, _Chunks(stream))
    for _ in stream:  # whoever checks the chunks does so after the last one
        raise FormatError(f"{name}: grew while it was read; nothing was kept")


# Reading


def import_archive(
    db: sqlite3.Connection, restorer: Restorer, path: Path, *, prefix: str | None = None
) -> Imported:
    """Take over the versions of an archive under their numbers; those that are here stay.

    Raises:
        FormatError: the archive is damaged or hostile; nothing was taken over.
        InputError: a number is taken by another version.

    """
    if prefix is not None:
        check_name(prefix)
    try:
        with tarfile.open(path, mode="r|") as archive:
            manifest = _renamed(_manifest(archive, path), prefix)
            _check(manifest, path)
            objects = _unpack(archive, manifest, restorer, path)
    except (tarfile.TarError, OSError) as error:
        raise FormatError(f"{path}: cannot be read as an archive: {error}; copy it again") from None
    _join(manifest, restorer, path)
    restorer.store.sync()
    with writing(db):
        lost = [d for d, n in manifest.objects.items() if not restorer.store.has(d, n)]
        if lost:
            raise FormatError(f"{path}: objects vanished while it was taken over; import it again")
        for entry in manifest.contents:
            insert(db, _content(entry))
        new = [entry for entry in manifest.versions if _take(db, entry, path)]
        _connect(db, new, {entry.shown for entry in manifest.versions})
    shown = tuple(entry.shown for entry in new)
    known = tuple(entry.shown for entry in manifest.versions if entry.shown not in shown)
    return Imported(path, shown, known, objects, sum(manifest.objects.values()))


def _manifest(archive: tarfile.TarFile, path: Path) -> _Manifest:
    first = archive.next()
    if first is None or first.name != _MANIFEST or not first.isreg():
        raise FormatError(f"{path}: is no archive of 'rebasin-hub registry export'")
    if first.size > _LONGEST_MANIFEST:
        raise FormatError(f"{path}: its manifest has {first.size:,} bytes; do not trust it")
    file = archive.extractfile(first)
    assert file is not None  # regular members have one
    try:
        return _Manifest.model_validate_json(file.read())
    except ValidationError as error:
        what = error.errors()[0]
        place = ".".join(map(str, what["loc"]))
        raise FormatError(
            f"{path}: {_MANIFEST}: {place}: {what['msg']}; it is damaged, or of a newer version"
        ) from None


def _renamed(manifest: _Manifest, prefix: str | None) -> _Manifest:
    if prefix is None:
        return manifest
    inside = {entry.shown for entry in manifest.versions}

    def named(text: str) -> str:
        return f"{prefix}/{text}" if text in inside else text

    entries = [
        entry.model_copy(
            update={
                "name": f"{prefix}/{entry.name}",
                "parents": [p.model_copy(update={"model": named(p.model)}) for p in entry.parents],
                "compact": None
                if entry.compact is None
                else entry.compact.model_copy(update={"base": named(entry.compact.base)}),
            }
        )
        for entry in manifest.versions
    ]
    return manifest.model_copy(update={"versions": entries})


def _check(manifest: _Manifest, path: Path) -> None:
    """Refuse a manifest that contradicts itself, before anything is unpacked."""

    def wrong(reason: str) -> FormatError:
        return FormatError(f"{path}: {_MANIFEST}: {reason}; do not trust this archive")

    contents = {entry.digest: entry for entry in manifest.contents}
    for content in manifest.contents:
        if sum(length for _, _, length in content.pieces) != content.nbytes:
            raise wrong(f"the pieces of {content.digest[:12]} do not give its length")
        for name, start, length in content.pieces:
            if start + length > manifest.objects.get(name, -1):
                raise wrong(f"a piece of {content.digest[:12]} lies outside its object")
    inside = {entry.shown: entry for entry in manifest.versions}
    for entry in manifest.versions:
        check_name(entry.name, entry.shown)
        for alias in entry.aliases:
            check_alias(alias)
        if entry.main and entry.main not in {file.name for file in entry.files}:
            raise wrong(f"{entry.shown} lacks its file {entry.main!r}")
        needed = [a.digest for a in entry.artefacts]
        needed += [m.record for m in entry.metrics if m.record is not None]
        needed += [f.digest for f in entry.files] if entry.compact is None else []
        if entry.compact is not None:
            needed.append(entry.compact.recipe)
            base = inside.get(entry.compact.base)
            if base is None or base.compact is not None:
                raise wrong(f"{entry.shown} lacks its base {entry.compact.base}")
        if any(digest not in contents for digest in needed):
            raise wrong(f"{entry.shown} needs files that are not there")


def _unpack(archive: tarfile.TarFile, manifest: _Manifest, restorer: Restorer, path: Path) -> int:
    """Store the objects that the manifest announces; return how many there are."""
    left = dict(manifest.objects)
    while (member := archive.next()) is not None:
        digest = member.name.removeprefix(_OBJECTS)
        if not member.isreg() or member.name != _OBJECTS + digest or digest not in left:
            raise FormatError(
                f"{path}: holds {member.name!r:.80}, which its manifest does not announce; do not "
                "trust this archive"
            )
        if member.size != left.pop(digest):
            raise FormatError(f"{path}: {member.name} has another length than announced")
        file = archive.extractfile(member)
        assert file is not None  # regular members have one
        try:
            restorer.store.put(digest, member.size, iter(partial(file.read, CHUNK), b""))
        except FormatError:
            raise FormatError(
                f"{path}: {member.name} has another SHA-256 than its name; copy it again"
            ) from None
    if left:
        raise FormatError(f"{path}: is cut off: {len(left)} objects are missing; copy it again")
    return len(manifest.objects)


def _content(entry: _Content) -> Content:
    return Content(entry.digest, entry.nbytes, tuple(Piece(*piece) for piece in entry.pieces))


def _join(manifest: _Manifest, restorer: Restorer, path: Path) -> None:
    """Check that every content comes out of its pieces, and every compact file of its recipe."""
    contents = {entry.digest: _content(entry) for entry in manifest.contents}
    for content in contents.values():
        hasher = hashlib.sha256()
        for chunk in content_chunks(restorer.store, content):
            hasher.update(chunk)
        if hasher.hexdigest() != content.digest:
            raise FormatError(f"{path}: {content.digest[:12]} is not what its pieces give")
    for entry in manifest.versions:
        if entry.compact is not None:
            files = [FileFacts(f.name, path, f.digest, f.nbytes, 0, f.weights) for f in entry.files]
            restorer.prove_stored(contents, entry.compact.recipe, files, entry.shown)


def _take(db: sqlite3.Connection, entry: _Version, path: Path) -> bool:
    """Insert a version; return False if it is here already."""
    there = db.execute(
        "SELECT v.id FROM version v JOIN model m ON m.id = v.model "
        "WHERE m.name = ? AND v.number = ?",
        (entry.name, entry.number),
    ).fetchone()
    files = tuple(
        FileFacts(f.name, Path(f.name), f.digest, f.nbytes, 0, f.weights) for f in entry.files
    )
    if there is not None:
        mine = {(f.name, f.digest) for f in versions.files_of(db, there["id"])}
        if mine == {(f.name, f.digest) for f in files}:
            return False
        raise InputError(
            f"{path}: {entry.shown} is another version here; give --prefix to import it under "
            "another name"
        )
    facts = Facts(
        files=files,
        main=entry.main,
        format=entry.format,
        digest=entry.digest,
        canonical=entry.canonical,
        exact=entry.exact,
        spec=entry.spec,
        spec_digest=entry.spec_digest,
        signature=entry.signature,
        sizes=entry.sizes,
        dtypes=entry.dtypes,
        parameters=entry.parameters,
        nbytes=entry.nbytes,
    )
    kept = Kept.STORED if entry.compact is None else Kept.COMPACT
    row = versions.insert(
        db,
        entry.name,
        facts,
        kept,
        source=entry.source,
        number=entry.number,
        created=entry.created,
    )
    for key, value in entry.tags.items():
        notes.set_tag(db, row, key, value)
    for metric in entry.metrics:
        notes.add_metric(db, row, Metric(**vars(metric)))
    for artefact in entry.artefacts:
        notes.add_artefact(db, row, Artefact(**vars(artefact)))
    return True


def _connect(db: sqlite3.Connection, new: Sequence[_Version], inside: set[str]) -> None:
    """Give new versions their bases, parents, and the aliases that are free here."""
    from rebasin_hub.registry.aliases import set_alias

    for entry in new:
        reference = Reference(entry.name, number=entry.number)
        row = versions.find(db, reference)
        if entry.compact is not None:
            base = versions.find(db, Reference.parse(entry.compact.base))
            db.execute(
                "INSERT INTO compact VALUES (?, ?, ?)",
                (row["id"], base["id"], entry.compact.recipe),
            )
        known = [
            Parent(ParentKind(p.kind), p.model)
            for p in entry.parents
            if p.model in inside or p.model.startswith(lineage.ELSEWHERE)
        ]
        lineage.add_parents(db, row["id"], known)
        for alias in entry.aliases:
            taken = db.execute(
                "SELECT 1 FROM alias WHERE model = ? AND alias = ?", (row["model"], alias)
            ).fetchone()
            if taken is None:
                set_alias(db, reference, alias)
