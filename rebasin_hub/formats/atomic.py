"""Output that appears whole or not at all.

A new file is written under a temporary name in its own directory (`.NAME.rebasin-XXXX.tmp`),
synced, read back against the digests of what was put in, and only then renamed; a directory
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
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from rebasin_hub.errors import OutputError, ProofError

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

_CHUNK = 8 << 20
_MAX_NAME = 255


class _Writes(Protocol):
    def write(self, data: memoryview, /) -> object: ...


@dataclass(frozen=True)
class _Span:
    offset: int
    nbytes: int
    digest: str


class NewFile:
    """A file written for the first time; it knows the digest of all that was put into it.

    `path` must not exist yet; `shown` is the name used in messages. Beside `put`, it has the
    methods that `zipfile` needs of a file.
    """

    def __init__(self, path: Path, shown: Path) -> None:
        self.path = path
        self._shown = shown
        self._spans: list[_Span] = []
        self._hasher = ThreadPoolExecutor(1)
        with explained(shown):
            self._raw = path.open("x+b", buffering=0)

    def put(self, data: bytes | memoryview, through: _Writes | None = None) -> str:
        """Append data, by way of `through` if given, and return its SHA-256 in hexadecimal."""
        view = memoryview(data)
        digest = self._hasher.submit(hashlib.sha256, view)  # hashes while the disk is busy
        offset = self.tell()
        try:
            (through or self).write(view)
        finally:
            found = digest.result().hexdigest()
        self._spans.append(_Span(offset, len(view), found))
        return found

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
        self._spans[0] = _Span(first.offset, first.nbytes, hashlib.sha256(data).hexdigest())

    def write(self, data: bytes | memoryview, /) -> int:
        """Write all of data at the present position."""
        view = memoryview(data)
        done = 0
        with explained(self._shown):
            while done < len(view):
                done += self._raw.write(view[done:]) or 0
        return done

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
        with explained(self._shown):
            os.fsync(self._raw.fileno())
            buffer = bytearray(min(_CHUNK, max((span.nbytes for span in self._spans), default=0)))
            for span in self._spans:
                if self._digest(span, memoryview(buffer)) != span.digest:
                    raise ProofError(
                        f"{self._shown}: the disk gave back other bytes than were written; "
                        "nothing was kept; check the disk"
                    )
            size = os.fstat(self._raw.fileno()).st_size
        self.close()
        return size

    def _digest(self, span: _Span, buffer: memoryview) -> str:
        self.seek(span.offset)
        digest, left = hashlib.sha256(), span.nbytes
        while left and (count := self._raw.readinto(buffer[: min(left, len(buffer))])):
            digest.update(buffer[:count])
            left -= count
        return digest.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close without any check; harmless when closed already."""
        self._hasher.shutdown()
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
    file = NewFile(temporary, out)
    try:
        yield file
        file.finish()
        with explained(out):
            refuse_existing(out, force=force)
            temporary.replace(out)
            sync_directory(out.parent)
    except BaseException:
        file.close()
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
    with explained(out):
        temporary.mkdir()
    try:
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
