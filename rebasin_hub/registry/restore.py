"""From a version to files on disk: where they lie, or restored from the store and verified."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from rebasin_hub.errors import FormatError, InputError, OutputError
from rebasin_hub.formats import new_directory
from rebasin_hub.formats.atomic import explained
from rebasin_hub.registry.contents import Content, content_chunks, pieces_of
from rebasin_hub.registry.recipe import Fetch, Recipe, Written
from rebasin_hub.registry.results import FileFacts, Kept
from rebasin_hub.registry.store import Store, chunks_of, digest_of_file
from rebasin_hub.registry.versions import files_of

__all__ = ["Restorer", "folder_of", "state_in_place"]


class Restorer:
    """Makes the files of versions out of what the store holds."""

    def __init__(self, db: sqlite3.Connection, store: Store, root: Path) -> None:
        self.db = db
        self.store = store
        self.cache = root / "cache"

    def resolve(self, row: sqlite3.Row) -> Path:
        """Return a path from which a version can be opened.

        Raises:
            InputError: a file in place was moved or changed, and is not in the store either.
            FormatError: the store is damaged.
            OutputError: the files cannot be restored there.

        """
        files = files_of(self.db, row["id"])
        shown = f"{row['name']}:{row['number']}"
        if Kept(row["kept"]) is Kept.IN_PLACE:
            wrong = [problem for file in files if (problem := state_in_place(file))]
            if not wrong:
                return folder_of(files, row["main"])
            if not all(pieces_of(self.db, file.digest) for file in files):
                raise InputError(
                    f"{shown}: is registered in place, and {wrong[0]}; put the file back, or tell "
                    f"its new place: rebasin-hub registry relocate {shown} PATH"
                )
        folder = self._restored(row, files, shown)
        return folder / row["main"] if row["main"] else folder

    def _restored(self, row: sqlite3.Row, files: Sequence[FileFacts], shown: str) -> Path:
        key = hashlib.sha256("\n".join(f"{f.name} {f.digest}" for f in files).encode())
        folder = self.cache / key.hexdigest()
        if _complete(folder, files):
            return folder
        with explained(folder):
            self.cache.mkdir(parents=True, exist_ok=True)
            if folder.exists():
                shutil.rmtree(folder, ignore_errors=True)
        try:
            with new_directory(folder) as fresh:
                for file in files:
                    self._write(row, file, fresh / file.name, shown)
        except OutputError:
            if not _complete(folder, files):  # another process may have been faster
                raise
        return folder

    def _write(self, row: sqlite3.Row, file: FileFacts, path: Path, shown: str) -> None:
        hasher, whole = hashlib.sha256(), self._whole_object(file)
        with explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            linked = whole is not None and _linked(whole, path)
            with open(os.devnull if linked else path, "wb") as out:  # noqa: PTH123
                for chunk in self.chunks(row, file):
                    hasher.update(chunk)
                    out.write(chunk)
            if not linked:
                path.chmod(0o444)
        if hasher.hexdigest() != file.digest:
            raise FormatError(
                f"{shown}: {file.name} comes out of the store with another digest than it was "
                "registered with; 'rebasin-hub registry verify' tells what is damaged"
            )

    def _whole_object(self, file: FileFacts) -> Path | None:
        content = pieces_of(self.db, file.digest)
        if content is None or len(content.pieces) != 1 or content.pieces[0].nbytes != file.nbytes:
            return None
        return self.store.path(content.pieces[0].object)

    def chunks(self, row: sqlite3.Row, file: FileFacts) -> Iterator[bytes]:
        """Yield the bytes of a file of a version from the store.

        Raises:
            FormatError: the store is damaged.

        """
        content = pieces_of(self.db, file.digest)
        if content is not None:
            yield from content_chunks(self.store, content)
            return
        yield from self.recipe(row).chunks(file.name, self.fetch)

    def recipe(self, row: sqlite3.Row) -> Recipe:
        """Return the recipe of a version that is kept compactly.

        Raises:
            FormatError: it is missing or damaged.

        """
        shown = f"{row['name']}:{row['number']}"
        compact = self.db.execute(
            "SELECT recipe FROM compact WHERE version = ?", (row["id"],)
        ).fetchone()
        content = None if compact is None else pieces_of(self.db, compact["recipe"])
        if content is None:
            raise FormatError(f"{shown}: the registry holds no files of it; add the model again")
        return Recipe(content.nbytes, self._reader(content), shown)

    def prove(self, written: Written, files: Sequence[FileFacts]) -> None:
        """Follow a recipe that is not in the store yet.

        Raises:
            FormatError: a file comes out with another digest; the recipe must not be used.

        """

        def read(start: int, nbytes: int) -> bytes:
            return b"".join(chunks_of(written.path, start, nbytes))

        _prove(Recipe(written.nbytes, read, "the new difference"), files, self.fetch)

    def prove_stored(
        self, contents: Mapping[str, Content], recipe: str, files: Sequence[FileFacts], shown: str
    ) -> None:
        """Follow a recipe whose objects are in the store, but that no row names yet.

        Raises:
            FormatError: a file comes out with another digest; the recipe must not be used.

        """

        def fetch(digest: str, start: int, nbytes: int) -> bytes:
            if digest not in contents or start < 0 or start + nbytes > contents[digest].nbytes:
                raise FormatError(f"{shown}: its difference is to a file that is not there")
            return self._reader(contents[digest])(start, nbytes)

        content = contents[recipe]
        _prove(Recipe(content.nbytes, self._reader(content), shown), files, fetch)

    def fetch(self, digest: str, start: int, nbytes: int) -> bytes:
        """Return a stretch of a content.

        Raises:
            FormatError: it is not in the store.

        """
        content = pieces_of(self.db, digest)
        if content is None or start < 0 or start + nbytes > content.nbytes:
            raise FormatError(f"content {digest[:12]}, a base of a difference, is not in the store")
        return self._reader(content)(start, nbytes)

    def _reader(self, content: Content) -> Callable[[int, int], bytes]:
        def read(start: int, nbytes: int) -> bytes:
            return b"".join(content_chunks(self.store, content, start, nbytes))

        return read


def _prove(recipe: Recipe, files: Sequence[FileFacts], fetch: Fetch) -> None:
    for file in files:
        hasher = hashlib.sha256()
        for chunk in recipe.chunks(file.name, fetch):
            hasher.update(chunk)
        if hasher.hexdigest() != file.digest:
            raise FormatError(
                f"{file.path}: {file.name} could not be restored from its difference; was it "
                "changed while it was read? Do it again"
            )


def _linked(source: Path, path: Path) -> bool:
    """Give an object a second name, which takes no space; it is read-only."""
    with suppress(OSError):
        os.link(source, path)
        return True
    return False


def _complete(folder: Path, files: Sequence[FileFacts]) -> bool:
    try:
        return all((folder / file.name).stat().st_size == file.nbytes for file in files)
    except OSError:
        return False


def folder_of(files: Sequence[FileFacts], main: str) -> Path:
    """Return the path that a version in place is opened from."""
    if main:
        return next(file.path for file in files if file.name == main)
    first = files[0]
    return first.path.parents[len(Path(first.name).parts) - 1]


def state_in_place(file: FileFacts, *, rehash: bool = False) -> str | None:
    """Say what is wrong with a file in place; None if it is as it was registered.

    Its content is read only where size and time do not vouch for it, or with `rehash`.
    """
    try:
        found = file.path.stat()
    except OSError as error:
        reason = "is not there any more" if isinstance(error, FileNotFoundError) else error.strerror
        return f"{file.path} {reason}"
    if found.st_size != file.nbytes:
        return f"{file.path} was changed: it has {found.st_size:,} bytes, had {file.nbytes:,}"
    if found.st_mtime_ns == file.mtime_ns and not rehash:
        return None
    try:
        same = digest_of_file(file.path) == file.digest
    except FormatError as error:
        return str(error)
    return None if same else f"{file.path} was changed: its SHA-256 is another one"
