"""What a file is, by its first bytes, and clear words for a file that cannot be opened."""

from __future__ import annotations

import difflib
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

from rebasin_hub.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path
    from threading import Lock

__all__ = [
    "HEAD",
    "check_exists",
    "foreign",
    "is_npz",
    "is_pickle",
    "is_zip",
    "open_input",
    "read_at",
    "read_into",
]

HEAD = 512
"""How many first bytes are enough to tell what a file is."""

_ZIP_NAME = 30  # where a member's name stands

AGAIN = "download or save it again"

_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs.github.com",
        "a Git LFS pointer, not the weights themselves",
        "fetch the weights with `git lfs pull`",
    ),
    (b"PK\x03\x04", "a zip archive, most likely a torch file", "if it is one, name it .pt"),
    (b"GGUF", "a GGUF file", "give the safetensors or torch file that it was made from"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file", "save the weights as safetensors"),
    (b"\x93NUMPY", "a single NumPy array", "save the weights as safetensors"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it first"),
    (b"\xfd7zXZ\x00", "compressed with xz", "unpack it first"),
    (b"{", "JSON text", "give the file or directory that holds the weights"),
)


def is_zip(head: bytes) -> bool:
    """Whether a file starts as a zip archive, which is what torch writes since 1.6."""
    return head.startswith(b"PK\x03\x04")


def is_npz(head: bytes) -> bool:
    """Whether a file starts as a zip archive of which the first member is a NumPy array."""
    name = head[_ZIP_NAME : _ZIP_NAME + int.from_bytes(head[26:28], "little")]
    whole = len(name) == int.from_bytes(head[26:28], "little")
    return is_zip(head) and name.endswith(b".npy") and whole


def is_pickle(head: bytes) -> bool:
    """Whether a file starts as a pickle of protocol 2 to 5, which is what torch wrote before."""
    return head[:1] == b"\x80" and head[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}


def foreign(head: bytes) -> tuple[str, str] | None:
    """Return what a file seems to be that nothing here reads, and what to do; None if unknown."""
    if is_pickle(head):
        return "a pickle, most likely a torch file", "if it is one, name it .pt"
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page, most likely the error page of a download", AGAIN
    return next(((what, do) for magic, what, do in _SIGNATURES if head.startswith(magic)), None)


def open_input(path: Path) -> BinaryIO:
    """Open a file for unbuffered reading; a FormatError says why it cannot be opened."""
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        raise FormatError(_why(path, error)) from None


def read_into(file: BinaryIO, memory: memoryview) -> bool:
    """Fill memory from the file's position; False if the file ends too soon."""
    done = 0
    while done < len(memory):
        count = file.readinto(memory[done:])  # type: ignore[attr-defined]
        if not count:
            return False
        done += count
    return True


def read_at(file: BinaryIO, memory: memoryview, offset: int, lock: Lock) -> bool:
    """Fill memory from a place in an unbuffered file; False if the file ends too soon.

    Several threads may do so at a time. Where the system cannot read at a place without going
    there, the lock keeps a seek and the read after it together.
    """
    if not hasattr(os, "preadv"):
        with lock:
            file.seek(offset)
            return read_into(file, memory)
    done = 0
    while done < len(memory):
        count = os.preadv(file.fileno(), [memory[done:]], offset + done)
        if not count:
            return False
        done += count
    return True


def check_exists(path: Path) -> bool:
    """Say whether a path is a directory; refuse one that is neither that nor a filled file."""
    try:
        found = path.stat()
    except (OSError, ValueError) as error:
        raise FormatError(_why(path, error)) from None
    if stat.S_ISDIR(found.st_mode):
        return True
    if not stat.S_ISREG(found.st_mode):
        raise FormatError(f"{path}: is neither a file nor a directory; save the weights to a file")
    if not found.st_size:
        raise FormatError(f"{path}: is empty; {AGAIN}")
    return False


def _why(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, PermissionError):
        return f"{path}: no permission to read it; change its mode or owner"
    if isinstance(error, FileNotFoundError):
        if path.is_symlink():
            return f"{path}: is a link to {path.readlink()}, which does not exist; restore it"
        return f"{path}: does not exist{_similar(path)}"
    reason = error.strerror if isinstance(error, OSError) else error
    return f"{path}: cannot be opened: {reason}"


def _similar(path: Path) -> str:
    if not path.parent.is_dir():
        return f", and neither does the directory {path.parent}"
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except PermissionError:
        return ""
    close = difflib.get_close_matches(path.name, names)
    return f"; did you mean {' or '.join(close)}?" if close else "; check the name"
