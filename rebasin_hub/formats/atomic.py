"""Output that appears whole or not at all.

A new file is written under a temporary name in its own directory (`.NAME.rebasin-XXXX.tmp`),
synced, read back against checksums of what was put in, and only then renamed; a directory
likewise, as a whole. Whatever stops the program in between, a full disk or `kill -9`, nothing
half-written carries the final name. On an error or Ctrl-C the temporary is removed; only
`kill -9` and a power cut leave it behind.

An output that is a symbolic link is refused rather than written through: the link may lead into
a cache or into the input, and replacing the link itself would surprise as well.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Protocol, Self

from xxhash import xxh3_128, xxh3_128_digest

from rebasin_hub.errors import OutputError, ProofError
from rebasin_hub.formats.sniff import read_at
from rebasin_hub.formats.uncached import BLOCK, UncachedFile, uncached

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "NewFile",
    "explained",
    "new_directory",
    "new_file",
    "refuse_existing",
    "sync_directory",
    "temporary_beside",
]

_CHUNK = 1 << 20
_SETTLED = 64 << 20
"""Bytes after which a file is synced and read back while more is written."""
_LARGE = 8 << 20
"""Bytes of the smallest piece of data that goes to the disk past the system's cache."""
_MAX_NAME = 255


class _Writes(Protocol):
    def write(self, data: memoryview, /) -> object: ...


@dataclass(frozen=True)
class _Span:
    offset: int
    nbytes: int
    checksum: bytes
    """Of XXH3: against a disk that errs it is as good as SHA-256, which takes ten times as long."""


class NewFile:
    """A file written for the first time; it knows the digest of all that was put into it.

    `path` must not exist yet; `shown` is the name used in messages. Beside `put`, it has the
    methods that `zipfile` needs of a file.
    """

    def __init__(self, path: Path, shown: Path) -> None:
        self.path = path
        self._shown = shown
        self._spans: list[_Span] = []
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="new-file")
        self._checked = 1  # spans; the first one may be replaced, and is checked last
        self._unchecked = 0  # bytes
        self._checking: Future[None] | None = None
        self._lock = Lock()
        self._uncached: UncachedFile | None = None
        self._large = hasattr(os, "O_DIRECT")
        with explained(shown):
            self._raw = path.open("x+b", buffering=0)

    def put(
        self,
        data: bytes | memoryview,
        through: _Writes | None = None,
        *,
        digest: str | None = None,
    ) -> str:
        """Append data, by way of `through` if given, and return its SHA-256 in hexadecimal.

        A `digest` that is known need not be computed. From time to time what was put in so far is
        synced and read back, in a thread of its own.
        """
        view, offset = memoryview(data), self.tell()
        if digest is None:
            hashing = self._threads.submit(hashlib.sha256, view)  # while the disk is busy
            try:
                (through or self).write(view)
            finally:
                digest = hashing.result().hexdigest()
        else:
            (through or self).write(view)
        self._spans.append(_Span(offset, len(view), xxh3_128_digest(view)))
        self._unchecked += len(view)
        idle = self._checking is None or self._checking.done()
        if idle and self._unchecked >= _SETTLED and hasattr(os, "preadv"):
            self._check_soon()
        return digest

    def _check_soon(self) -> None:
        """Sync and read back all but the first span in the background."""
        if self._checking is not None:
            self._checking.result()
        spans = self._spans[self._checked :]
        if self._uncached is not None:
            with explained(self._shown):
                self._uncached.settle()
        self._checked, self._unchecked = max(len(self._spans), 1), 0
        self._checking = self._threads.submit(self._settle, spans)

    def _settle(self, spans: list[_Span]) -> None:
        with explained(self._shown):
            # The ends of large data are in the cache even when the rest went past it.
            getattr(os, "fdatasync", os.fsync)(self._raw.fileno())
            self._check(spans)

    def replace_first(self, data: bytes) -> None:
        """Write data over what was put in first, which must be as long.

        Raises:
            ValueError: it is not as long.

        """
        first, end = self._spans[0], self.tell()
        if len(data) != first.nbytes:
            raise ValueError(f"{len(data)} bytes cannot stand in for {first.nbytes}")
        self.seek(first.offset)
        self.write(data)
        self.seek(end)
        self._spans[0] = _Span(first.offset, first.nbytes, xxh3_128_digest(data))

    def write(self, data: bytes | memoryview, /) -> int:
        """Write all of data at the present position."""
        view = memoryview(data)
        with explained(self._shown):
            if len(view) >= _LARGE and (past := self._past_cache()) is not None:
                self._write_large(view, past)
            else:
                self._write(view)
        return len(view)

    def _write_large(self, view: memoryview, past: UncachedFile) -> None:
        """Write the whole blocks of the file in which data lie past the cache."""
        start = self._raw.tell()
        first, last = -start % BLOCK, (start + len(view)) % BLOCK
        self._write(view[:first])
        past.write(view[first : len(view) - last], start + first)
        self._raw.seek(start + len(view) - last)
        self._write(view[len(view) - last :])

    def _write(self, view: memoryview) -> None:
        done = 0
        while done < len(view):
            done += self._raw.write(view[done:]) or 0

    def _past_cache(self) -> UncachedFile | None:
        """Return the same file past the cache, opened on first use; None if there is no such."""
        if self._uncached is None and self._large:
            self._uncached = uncached(self.path)
            self._large = self._uncached is not None
        return self._uncached

    def tell(self) -> int:
        """Return the present position."""
        return self._raw.tell()

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to another position."""
        return self._raw.seek(offset, whence)

    def flush(self) -> None:
        """Do nothing: no buffer lies between `write` and the file."""

    def finish(self) -> int:
        """Sync, read back everything that was put in, close, and return the file's size.

        Raises:
            ProofError: other bytes came back than were written.

        """
        if self._checking is not None:
            self._checking.result()
        with explained(self._shown):
            if self._uncached is not None:
                self._uncached.settle()
            os.fsync(self._raw.fileno())
            left = self._spans[:1] + self._spans[self._checked :]
            list(self._threads.map(self._check, (left[0::2], left[1::2])))
            size = os.fstat(self._raw.fileno()).st_size
        self.close()
        return size

    def _check(self, spans: list[_Span]) -> None:
        """Read spans back from the disk.

        Raises:
            ProofError: other bytes came back than were written.

        """
        most = max((span.nbytes for span in spans), default=0)
        buffer = memoryview(bytearray(max(1, min(_CHUNK, most))))
        for span in spans:
            checksum = xxh3_128()
            for part in self._read_back(span, buffer):
                checksum.update(part)
            if checksum.digest() != span.checksum:
                raise ProofError(
                    f"{self._shown}: the disk gave back other bytes than were written; "
                    "nothing was kept; check the disk"
                )

    def _read_back(self, span: _Span, buffer: memoryview) -> Iterator[memoryview]:
        """Yield what a span holds, large ones straight from the disk; less if the file ends."""
        if span.nbytes >= _LARGE and self._uncached is not None:
            yield from self._uncached.pieces(span.offset, span.offset + span.nbytes)
            return
        for done in range(0, span.nbytes, len(buffer)):
            part = buffer[: span.nbytes - done]
            if not read_at(self._raw, part, span.offset + done, self._lock):
                return
            yield part

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close without any check; harmless when closed already."""
        self._threads.shutdown()
        if self._uncached is not None:
            self._uncached.close()
        self._raw.close()


@contextmanager
def new_file(out: Path, *, force: bool = False) -> Iterator[NewFile]:
    """Yield a file that takes the name `out` once it is complete, synced and read back.

    Raises:
        OutputError: `out` exists and `force` is not set, or it cannot be written.
        ProofError: the disk gave back other bytes than were written.

    """
    refuse_existing(out, force=force)
    temporary = temporary_beside(out)
    try:  # before the file is there: Ctrl-C may come as soon as it is
        with NewFile(temporary, out) as file:
            yield file
            file.finish()
            with explained(out):
                refuse_existing(out, force=force)
                temporary.replace(out)
                sync_directory(out.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


@contextmanager
def new_directory(out: Path, *, force: bool = False) -> Iterator[Path]:
    """Yield an empty directory that takes the name `out` once the block is done.

    Files in it are the caller's to sync. With `force` an existing directory is moved aside
    (`.NAME.rebasin-XXXX.tmp`), and removed when the new one stands in its place; a `kill -9`
    between these two renames leaves both under temporary names.

    Raises:
        OutputError: `out` exists and `force` is not set, or it cannot be written.

    """
    refuse_existing(out, force=force)
    temporary = temporary_beside(out)
    try:  # before the directory is there: Ctrl-C may come as soon as it is
        with explained(out):
            temporary.mkdir()
        yield temporary
        with explained(out):
            for folder, _, _ in os.walk(temporary, topdown=False):
                sync_directory(Path(folder))
            refuse_existing(out, force=force)
            _take_place(temporary, out)
            sync_directory(out.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _take_place(temporary: Path, out: Path) -> None:
    if not out.exists():
        temporary.rename(out)
        return
    aside = temporary_beside(out)
    out.rename(aside)
    try:
        temporary.rename(out)
    except BaseException:
        aside.rename(out)
        raise
    shutil.rmtree(aside)


def refuse_existing(out: Path, *, force: bool) -> None:
    """Refuse an output that exists (unless `force`), is a link, or is no file or directory."""
    with explained(out):
        if out.is_symlink():
            raise OutputError(
                f"{out}: is a symbolic link to {out.readlink()}; name the file itself, "
                "or remove the link"
            )
        if not out.exists():
            return
        if not (out.is_file() or out.is_dir()):
            raise OutputError(f"{out}: is neither a file nor a directory; choose another name")
    if not force:
        raise OutputError(f"{out}: exists already; choose another name or give --force")


def temporary_beside(out: Path) -> Path:
    """Return a free name in an output's directory."""
    ending = f".rebasin-{secrets.token_hex(4)}.tmp"
    name = f".{out.name}".encode()[: _MAX_NAME - len(ending)].decode(errors="ignore")
    return out.with_name(name + ending)


def sync_directory(directory: Path) -> None:
    """Make renames in a directory last, where the system can."""
    if os.name == "nt":
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        # Some network file systems have no such call for directories.
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


_REMEDIES = {
    errno.ENOSPC: "the disk is full; free some space or choose another place",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another place",
    errno.EFBIG: "a file this large is not allowed there; choose another place",
    errno.EACCES: "no permission to write there; choose another place or change its mode",
    errno.EPERM: "no permission to write there; choose another place or change its mode",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.ENOENT: "the directory does not exist; create it first",
    errno.ENOTDIR: "its parent is not a directory; choose another place",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
}


@contextmanager
def explained(out: Path) -> Iterator[None]:
    """Turn an error of the operating system into an OutputError that says what to do."""
    try:
        yield
    except OSError as error:
        reason = _REMEDIES.get(error.errno or 0, f"{error.strerror}; choose another place")
        raise OutputError(f"{out}: cannot be written: {reason}") from None
