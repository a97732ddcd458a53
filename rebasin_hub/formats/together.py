"""Several new files that belong together and appear together, as a model and its data do.

Each is written under a temporary name, synced and read back; then all take their names, the first
one last: a program that looks for the first never finds it without the others. Files that are
replaced are moved aside before, the first one first. A `kill -9` between these renames leaves
whole files under temporary names (`.NAME.rebasin-XXXX.tmp`), and never a first file with others
than its own.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

from rebasin_hub.formats.atomic import (
    NewFile,
    explained,
    refuse_existing,
    sync_directory,
    temporary_beside,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["new_files"]


@contextmanager
def new_files(outs: Sequence[Path], *, force: bool = False) -> Iterator[list[NewFile]]:
    """Yield a file for each of `outs`; all of them take their names once all are complete.

    Raises:
        OutputError: one exists and `force` is not set, or cannot be written.
        ProofError: the disk gave back other bytes than were written.

    """
    for out in outs:
        refuse_existing(out, force=force)
    temporaries = [temporary_beside(out) for out in outs]
    with ExitStack() as opened:
        for temporary in temporaries:
            opened.callback(_remove, temporary)
        files = [
            opened.enter_context(NewFile(temporary, out))
            for temporary, out in zip(temporaries, outs, strict=True)
        ]
        yield files
        for file in files:
            file.finish()
        for out in outs:
            refuse_existing(out, force=force)
        _take_places(temporaries, outs)


def _remove(temporary: Path) -> None:
    with suppress(OSError):
        temporary.unlink(missing_ok=True)


def _take_places(temporaries: Sequence[Path], outs: Sequence[Path]) -> None:
    aside: dict[Path, Path] = {}
    taken: list[Path] = []
    try:
        for out in outs:
            with explained(out):
                if out.exists():
                    aside[out] = temporary_beside(out)
                    out.rename(aside[out])
        for temporary, out in reversed(list(zip(temporaries, outs, strict=True))):
            with explained(out):
                temporary.rename(out)
                taken.append(out)
        with explained(outs[0]):
            sync_directory(outs[0].parent)
    except BaseException:
        for out in taken:
            _remove(out)
        for out, old in reversed(aside.items()):
            old.rename(out)
        raise
    for old in aside.values():
        _remove(old)
