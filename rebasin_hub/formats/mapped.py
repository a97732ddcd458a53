"""Reading what a mapped address shows from the file itself, so that the mapping stays empty.

torch maps its files and gives no offsets, and values taken through a mapping leave the whole file
resident. Linux tells in `/proc/self/maps` which bytes of a file lie behind an address. Where that
is not known, nothing is read here, and the mapping itself has to be used.
"""

from __future__ import annotations

import os
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.sniff import open_input, read_at

if TYPE_CHECKING:
    from rebasin_hub.formats.raw import Bytes

__all__ = ["MappedFile"]


class MappedFile:
    """A file that this process has mapped by now, opened for positional reads."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = open_input(path)
        self._lock = Lock()
        self._regions = _regions(path, os.fstat(self._file.fileno()).st_ino)

    def fill(self, memory: Bytes, address: int) -> bool:
        """Fill memory with the file's bytes behind an address; False if they are not known.

        Raises:
            FormatError: the file has become shorter; its mapping must not be touched either.

        """
        for start, end, offset in self._regions:
            if start <= address and address + len(memory) <= end:
                place = offset + address - start
                if not read_at(self._file, memory.data, place, self._lock):
                    raise FormatError(
                        f"{self._path}: ends within a tensor; it was changed while open"
                    )
                return True
        return False

    def close(self) -> None:
        """Close the file; the mapping is torch's."""
        self._file.close()


def _regions(path: Path, inode: int) -> list[tuple[int, int, int]]:
    """Return first address, last and file offset of each mapping of a file."""
    wanted = [str(inode).encode(), os.fsencode(os.path.realpath(path))]
    try:
        lines = Path("/proc/self/maps").read_bytes().splitlines()
    except OSError:
        return []
    regions = []
    for line in lines:
        # addresses, permissions, offset, device, inode, path
        fields = line.split(maxsplit=5)
        if fields[4:] == wanted:
            start, end = (int(part, 16) for part in fields[0].split(b"-"))
            regions.append((start, end, int(fields[2], 16)))
    return regions
