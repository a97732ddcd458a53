"""Files in the store: cut at their tensors, so that equal tensors are stored once; joined again."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from rebasin_hub.errors import FormatError
from rebasin_hub.registry.layout import SMALLEST, Span, tensor_spans
from rebasin_hub.registry.store import Store, chunks_of

__all__ = [
    "Content",
    "Piece",
    "Stored",
    "content_chunks",
    "cut",
    "insert",
    "link",
    "pieces_of",
    "put_known",
    "single",
]


@dataclass(frozen=True)
class Piece:
    """A stretch of an object."""

    object: str
    start: int
    nbytes: int


@dataclass(frozen=True)
class Content:
    """A byte string in the store: its digest and the pieces that it is joined of."""

    digest: str
    nbytes: int
    pieces: tuple[Piece, ...]

    @property
    def objects(self) -> dict[str, int]:
        """Every object that it needs, with the least length that it must have."""
        needed: dict[str, int] = {}
        for piece in self.pieces:
            end = piece.start + piece.nbytes
            needed[piece.object] = max(needed.get(piece.object, 0), end)
        return needed


@dataclass(frozen=True)
class Stored:
    """A content that was put into the store, and what of it was there before."""

    content: Content
    new_bytes: int

    @property
    def shared_bytes(self) -> int:
        """Bytes that the store had already."""
        return self.content.nbytes - self.new_bytes


def single(digest: str, nbytes: int) -> Content:
    """Return a content that is one whole object."""
    return Content(digest, nbytes, (Piece(digest, 0, nbytes),))


def cut(store: Store, path: Path, digest: str, nbytes: int) -> Stored:
    """Store a file whose digest is known: each large tensor an object, all the rest another one.

    Raises:
        FormatError: the file is no longer the one that has this digest.
        OutputError: it cannot be written.

    """
    parts = _parts(path, nbytes)
    whole, rest = hashlib.sha256(), hashlib.sha256()
    digests: list[str | None] = []
    for span, alone in parts:
        own = hashlib.sha256() if alone else rest
        for chunk in chunks_of(path, span.start, span.nbytes):
            whole.update(chunk)
            own.update(chunk)
        digests.append(own.hexdigest() if alone else None)
    if whole.hexdigest() != digest:
        raise FormatError(f"{path}: was changed while it was read; add it again when it is done")
    pieces = _pieces(parts, digests, rest.hexdigest())
    spans: dict[str, list[Span]] = {}
    for (span, _), piece in zip(parts, pieces, strict=True):
        if piece.object not in spans or piece.start:  # equal tensors of one file: once
            spans.setdefault(piece.object, []).append(span)
    new = sum(_put(store, path, name, chosen) for name, chosen in spans.items())
    return Stored(Content(digest, nbytes, tuple(pieces)), new)


def _pieces(parts: list[tuple[Span, bool]], digests: list[str | None], rest: str) -> list[Piece]:
    pieces, place = [], 0
    for (span, _), own in zip(parts, digests, strict=True):
        if own is not None:
            pieces.append(Piece(own, 0, span.nbytes))
        else:
            pieces.append(Piece(rest, place, span.nbytes))
            place += span.nbytes
    return pieces


def _put(store: Store, path: Path, digest: str, spans: list[Span]) -> int:
    """Store some stretches of a file as one object; return how many bytes were not there yet."""
    nbytes = sum(span.nbytes for span in spans)
    if store.keep(digest, nbytes):
        return 0
    store.put(digest, nbytes, _joined(path, spans))
    return nbytes


def put_known(store: Store, path: Path, content: Content) -> int:
    """Put back what the store has lost of a content, from a file that holds it."""
    spans: dict[str, dict[int, Span]] = {}
    place = 0
    for piece in content.pieces:
        spans.setdefault(piece.object, {})[piece.start] = Span(place, piece.nbytes)
        place += piece.nbytes
    return sum(
        _put(store, path, digest, [chosen[start] for start in sorted(chosen)])
        for digest, chosen in spans.items()
    )


def link(store: Store, path: Path, digest: str, nbytes: int) -> Stored:
    """Store a whole file as a reflink or a hard link of it, which takes no space."""
    store.link(path, digest, nbytes)
    return Stored(single(digest, nbytes), 0)


def _joined(path: Path, spans: list[Span]) -> Iterator[bytes]:
    for span in spans:
        yield from chunks_of(path, span.start, span.nbytes)


def _parts(path: Path, nbytes: int) -> list[tuple[Span, bool]]:
    """Cover a file with stretches, and say of each whether it is an object of its own."""
    large = [span for span in tensor_spans(path) if span.nbytes >= SMALLEST]
    if not large:
        return [(Span(0, nbytes), False)] if nbytes else []
    parts: list[tuple[Span, bool]] = [(Span(0, large[0].start), False)]
    for span, after in pairwise([*large, Span(nbytes, 0)]):
        parts += [(span, True), (Span(span.end, after.start - span.end), False)]
    return [(span, alone) for span, alone in parts if span.nbytes]


def insert(db: sqlite3.Connection, content: Content) -> None:
    """Name a content in the database, inside a transaction; nothing happens if it is there."""
    done = db.execute(
        "INSERT OR IGNORE INTO content VALUES (?, ?)", (content.digest, content.nbytes)
    )
    if done.rowcount:
        db.executemany(
            "INSERT INTO piece VALUES (?, ?, ?, ?, ?)",
            [
                (content.digest, number, piece.object, piece.start, piece.nbytes)
                for number, piece in enumerate(content.pieces)
            ],
        )


def pieces_of(db: sqlite3.Connection, digest: str) -> Content | None:
    """Return a content that the database names, or None."""
    row = db.execute("SELECT nbytes FROM content WHERE digest = ?", (digest,)).fetchone()
    if row is None:
        return None
    rows = db.execute(
        "SELECT object, start, nbytes FROM piece WHERE content = ? ORDER BY position", (digest,)
    )
    return Content(digest, row["nbytes"], tuple(Piece(*piece) for piece in rows))


def content_chunks(
    store: Store, content: Content, start: int = 0, nbytes: int | None = None
) -> Iterator[bytes]:
    """Yield a stretch of a content, to its end by default."""
    end = content.nbytes if nbytes is None else start + nbytes
    place = 0
    for piece in content.pieces:
        first, last = max(start, place), min(end, place + piece.nbytes)
        if first < last:
            yield from store.read(piece.object, piece.start + first - place, last - first)
        place += piece.nbytes
