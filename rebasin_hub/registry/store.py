"""The content-addressed store: byte strings under the name of their SHA-256.

An object is written under a temporary name, synced, and renamed; its folder is synced before any
row names it. Whatever stops the program in between leaves at worst an object that no row names,
which `gc` takes away. Objects are never changed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeAlias

from rebasin_hub.errors import FormatError, OutputError
from rebasin_hub.formats.atomic import explained, sync_directory

__all__ = ["CHUNK", "Store", "chunks_of", "digest_of_file", "is_in_use"]

CHUNK = 1 << 20
_FICLONE = 0x40049409
_HEX = set("0123456789abcdef")
_DIGITS = 64
Chunk: TypeAlias = bytes | memoryview


class Store:
    """Objects below a folder; `sync` makes those that were put in last."""

    def __init__(self, root: Path) -> None:
        self.objects = root / "objects"
        self.temporary = root / "tmp"
        self._unsynced: set[Path] = set()
        with explained(root):
            for folder in (self.objects, self.temporary):
                folder.mkdir(parents=True, exist_ok=True)

    def path(self, digest: str) -> Path:
        """Return where an object lies."""
        return self.objects / digest[:2] / digest[2:]

    def has(self, digest: str, nbytes: int) -> bool:
        """Tell whether an object is there with its whole length."""
        try:
            return self.path(digest).stat().st_size == nbytes
        except OSError:
            return False

    def keep(self, digest: str, nbytes: int) -> bool:
        """Like `has`; an object that is there counts as new from now on, so that gc spares it."""
        if not self.has(digest, nbytes):
            return False
        with suppress(OSError):
            os.utime(self.path(digest))
        # Another process may have put it there, and not yet have synced the folder.
        self._unsynced.update((self.path(digest).parent, self.objects))
        return True

    def put(self, digest: str, nbytes: int, chunks: Iterable[Chunk]) -> None:
        """Store bytes whose digest is known, unless they are there already.

        Raises:
            FormatError: the bytes have another digest: their source was changed meanwhile.
            OutputError: they cannot be written.

        """
        if self.keep(digest, nbytes):
            return
        with self._new(digest) as file:
            hasher = hashlib.sha256()
            for chunk in chunks:
                hasher.update(chunk)
                _write(file, chunk)
            if hasher.hexdigest() != digest:
                raise FormatError("what is being stored was changed meanwhile; add it again")

    def put_bytes(self, data: bytes) -> str:
        """Store bytes and return their digest."""
        digest = hashlib.sha256(data).hexdigest()
        self.put(digest, len(data), [data])
        return digest

    def link(self, source: Path, digest: str, nbytes: int) -> None:
        """Store a whole file without a second copy of its bytes: a reflink, or a hard link.

        Raises:
            OutputError: the file system can do neither (another disk, say).

        """
        if self.keep(digest, nbytes):
            return
        try:
            self._reflink(source, digest)
        except OSError:
            self._hard_link(source, digest)

    def _reflink(self, source: Path, digest: str) -> None:
        try:
            import fcntl
        except ImportError:  # Windows
            raise OSError(errno.EOPNOTSUPP, "no reflinks here") from None
        with source.open("rb") as original, self._new(digest, explain=False) as file:
            fcntl.ioctl(file.fileno(), _FICLONE, original.fileno())

    def _hard_link(self, source: Path, digest: str) -> None:
        temporary = self.temporary_file()
        try:
            os.link(source.resolve(), temporary)
            self._place(temporary, digest)
        except OSError as error:
            raise OutputError(
                f"{source}: cannot be linked into {self.objects}: {error.strerror}; add it in "
                "place, or with --store"
            ) from None

    def temporary_file(self) -> Path:
        """Return a free name for a file that gc removes if it is left behind."""
        return self.temporary / secrets.token_hex(8)

    @contextmanager
    def _new(self, digest: str, *, explain: bool = True) -> Iterator[BinaryIO]:
        """Yield a file that becomes an object when the block is done."""
        temporary = self.temporary_file()
        try:
            with temporary.open("xb", buffering=0) as file, _in_use(file):
                yield file
                os.fsync(file.fileno())
                file.close()  # some systems rename no open file
                temporary.chmod(stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH)
                self._place(temporary, digest)
        except OSError:
            with suppress(OSError):
                temporary.unlink()
            if not explain:
                raise
            with explained(self.objects):
                raise
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    def _place(self, temporary: Path, digest: str) -> None:
        path = self.path(digest)
        path.parent.mkdir(exist_ok=True)
        temporary.replace(path)
        # Renaming one hard link onto another of the same file leaves both names.
        temporary.unlink(missing_ok=True)
        self._unsynced.update((path.parent, self.objects))

    def sync(self) -> None:
        """Make all objects that were put in survive a power cut."""
        with explained(self.objects):
            while self._unsynced:
                sync_directory(self._unsynced.pop())

    def read(self, digest: str, start: int, nbytes: int) -> Iterator[bytes]:
        """Yield a stretch of an object.

        Raises:
            FormatError: the object is missing or too short.

        """
        path = self.path(digest)
        try:
            with path.open("rb", buffering=0) as file:
                file.seek(start)
                yield from _exactly(file, nbytes, path)
        except OSError as error:
            raise FormatError(
                f"{path}: an object of the registry cannot be read: {error.strerror}; "
                "'rebasin-hub registry verify' tells which versions it belongs to"
            ) from None

    def all(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield every object's digest and what the file system says of it."""
        for folder in sorted(self.objects.iterdir()):
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                digest = folder.name + path.name
                if len(digest) == _DIGITS and set(digest) <= _HEX:
                    with suppress(FileNotFoundError):
                        yield digest, path.stat()

    def remove(self, digest: str) -> None:
        """Take an object away, if it is there."""
        with explained(self.objects):
            self.path(digest).unlink(missing_ok=True)


@contextmanager
def _in_use(file: BinaryIO) -> Iterator[None]:
    """Lock a file, so that `is_in_use` tells it from what a killed process has left behind."""
    try:
        import fcntl
    except ImportError:  # Windows removes no open file
        yield
        return
    held = os.dup(file.fileno())  # it keeps the lock when the file itself is closed
    try:
        with suppress(OSError):  # file systems without locks
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(held)


def is_in_use(path: Path) -> bool:
    """Tell whether a process is still writing a temporary file."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _write(file: BinaryIO, chunk: Chunk) -> None:
    view, done = memoryview(chunk), 0
    while done < len(view):
        done += file.write(view[done:])


def _exactly(file: BinaryIO, nbytes: int, path: Path) -> Iterator[bytes]:
    while nbytes:
        chunk = file.read(min(nbytes, CHUNK))
        if not chunk:
            raise FormatError(f"{path}: ended {nbytes:,} bytes too early; it was changed")
        nbytes -= len(chunk)
        yield chunk


def chunks_of(path: Path, start: int = 0, nbytes: int | None = None) -> Iterator[bytes]:
    """Yield a stretch of a file, to its end by default.

    Raises:
        FormatError: it cannot be read, or is too short.

    """
    try:
        with path.open("rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            file.seek(start)
            yield from _exactly(file, size - start if nbytes is None else nbytes, path)
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}; restore it") from None


def digest_of_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    hasher = hashlib.sha256()
    for chunk in chunks_of(path):
        hasher.update(chunk)
    return hasher.hexdigest()
