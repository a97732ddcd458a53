"""Where data lies below the folder that a user names."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

__all__ = ["places", "plain"]

DEPTH = 3
MOST = 1000
"""Folders that are looked at: enough for any data set but one with a folder for each class."""


def places(root: Path, avoided: Collection[str] = ()) -> Iterator[Path]:
    """Yield a folder and those up to three levels below it, nearest first, then by name.

    Folders whose `plain` name is among the avoided ones are left out with all that they hold.
    """
    yield from itertools.islice(_nearest_first(root, avoided), MOST)


def _nearest_first(root: Path, avoided: Collection[str]) -> Iterator[Path]:
    level = [root]
    for depth in range(DEPTH + 1):
        yield from level
        if depth < DEPTH:
            level = [inner for folder in level for inner in _inner(folder, avoided)]


def _inner(folder: Path, avoided: Collection[str]) -> list[Path]:
    with os.scandir(folder) as entries:
        names = [e.name for e in itertools.islice(entries, MOST * 10) if e.is_dir()]
    return [folder / n for n in sorted(names) if n[0] != "." and plain(n) not in avoided]


def plain(name: str) -> str:
    """Return the small letters and digits of a name: `FashionMNIST` is `fashion-mnist`."""
    return re.sub(r"[\W_]", "", name.lower())
