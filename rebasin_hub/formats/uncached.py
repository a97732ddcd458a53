"""Large writes that go to the disk past the system's page cache, and reads that come from there.

What is written once and not read again soon would push out of memory what is, and pages for it
cost as much time as the disk does. And bytes that are read back to be checked must come from the
disk: the cache would give back what it was given. Linux calls this O_DIRECT; addresses, offsets and
lengths are then whole blocks, so bytes pass through aligned memory. Where a file system has no such
thing, nothing here is used.
"""

from __future__ import annotations

import errno
import mmap
import os
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

with suppress(ImportError):  # Windows has none, and no O_DIRECT either
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rebasin_hub.formats.raw import Bytes

__all__ = ["BLOCK", "UncachedFile", "uncached"]

BLOCK = 4096
"""Bytes of which offsets and lengths are multiples; few disks have larger blocks."""
STAGE = 4 << 20
"""Bytes that go to or come from the disk at a time."""


class UncachedFile:
    """An open file beside which there is no cache; for one writer, and several readers.

    A write may still be under way when `write` returns; `settle` waits for it.
    """

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._free: list[Bytes] = []
        self._under_way: tuple[Bytes, Future[None]] | None = None
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="uncached")

    def write(self, data: memoryview, offset: int) -> None:
        """Write whole blocks at a place; memory is free again on return.

        Raises:
            OSError: these or earlier blocks could not be written.

        """
        source = np.frombuffer(data, np.uint8)
        for start in range(0, len(source), STAGE):
            part = source[start : start + STAGE]
            stage = self._stage()
            np.copyto(stage[: len(part)], part)  # while the disk takes the part before
            self.settle()
            writing = self._disk.submit(self._put, stage[: len(part)].data, offset + start)
            self._under_way = stage, writing

    def settle(self) -> None:
        """Wait until the disk has everything that was written.

        Raises:
            OSError: it could not be written.

        """
        if self._under_way is not None:
            (stage, writing), self._under_way = self._under_way, None
            try:
                writing.result()
            finally:
                self._free.append(stage)

    def pieces(self, start: int, stop: int) -> Iterator[memoryview]:
        """Yield the bytes of a stretch in order, each while the next ones are read.

        They end early where the file does. Memory of a piece is used again for the one after.
        """
        with ThreadPoolExecutor(1) as ahead:
            own = [self._stage(), self._stage()]
            try:
                yield from self._read(start, stop, own, ahead)
            finally:
                ahead.shutdown()
                self._free += own

    def _read(
        self, start: int, stop: int, stages: list[Bytes], ahead: ThreadPoolExecutor
    ) -> Iterator[memoryview]:
        places = range(start - start % BLOCK, stop, STAGE)
        reading: Future[int] | None = None
        for number, place in enumerate(places):
            memory = stages[number % 2].data
            count = self._get(memory, place) if reading is None else reading.result()
            if place != places[-1]:
                following = stages[(number + 1) % 2].data
                reading = ahead.submit(self._get, following, place + STAGE)
            piece = memory[max(0, start - place) : min(count, stop - place)]
            if piece:
                yield piece
            if count < min(STAGE, stop - place):
                return

    def _put(self, blocks: memoryview, offset: int) -> None:
        done = 0
        while done < len(blocks):
            done += self._tried(partial(os.pwrite, self._handle, blocks[done:], offset + done))

    def _get(self, blocks: memoryview, offset: int) -> int:
        done = 0
        while done < len(blocks):
            reading = partial(os.preadv, self._handle, [blocks[done:]], offset + done)
            count = self._tried(reading)
            done += count
            if not count or count % BLOCK:  # a part of a block is the last one
                break
        return done

    def _tried(self, call: Callable[[], int]) -> int:
        """Give the cache back its place on a disk that refuses these blocks, and try again."""
        try:
            return call()
        except OSError as error:
            flags = fcntl.fcntl(self._handle, fcntl.F_GETFL)
            if error.errno != errno.EINVAL or not flags & os.O_DIRECT:
                raise
            fcntl.fcntl(self._handle, fcntl.F_SETFL, flags & ~os.O_DIRECT)
            return call()

    def _stage(self) -> Bytes:
        """Return aligned memory, which only costs what is written to it."""
        try:
            return self._free.pop()
        except IndexError:  # asking first would race: two threads may read back at once
            return np.frombuffer(mmap.mmap(-1, STAGE), np.uint8)

    def close(self) -> None:
        """Close the file, when all that was under way has ended; harmless when closed already."""
        self._disk.shutdown()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def uncached(path: Path) -> UncachedFile | None:
    """Open a file for writing and reading past the cache; None where that is not possible.

    Raises:
        OSError: the file cannot be opened.

    """
    if not hasattr(os, "O_DIRECT"):
        return None
    try:
        return UncachedFile(os.open(path, os.O_RDWR | os.O_DIRECT | os.O_CLOEXEC))
    except OSError as error:
        if error.errno in {errno.EINVAL, errno.ENOTSUP}:
            return None
        raise
