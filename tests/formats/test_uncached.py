"""Writing and reading back past the page cache gives what writing through it gives."""

from __future__ import annotations

import errno
import fcntl
import os
import random
from pathlib import Path

import pytest

from rebasin_hub.errors import OutputError, ProofError
from rebasin_hub.formats import atomic, new_file
from rebasin_hub.formats import uncached as module
from rebasin_hub.formats.uncached import BLOCK, UncachedFile, uncached


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(module, "STAGE", 4 * BLOCK)
    monkeypatch.setattr(atomic, "_LARGE", 2 * BLOCK)


@pytest.fixture
def past_cache(tmp_path: Path) -> Path:
    """Return a folder on a file system with O_DIRECT."""
    probe = tmp_path / "probe"
    probe.touch()
    found = uncached(probe)
    if found is None:
        pytest.skip("this file system has no O_DIRECT")
    found.close()
    return tmp_path


@pytest.mark.parametrize("seed", range(8))
def test_a_file_has_all_that_was_put_into_it(past_cache: Path, seed, monkeypatch) -> None:
    monkeypatch.setattr(atomic, "_SETTLED", 10 * BLOCK)  # some of it is read back meanwhile
    draw = random.Random(seed)
    sizes = [
        draw.choice([0, 1, 7, 2 * BLOCK, draw.randrange(16 * BLOCK), 4 * BLOCK * draw.randrange(4)])
        for _ in range(20)
    ]
    parts = [draw.randbytes(size) for size in sizes]
    with new_file(past_cache / "x") as file:
        for part in parts:
            file.put(part)
        file.replace_first(part := bytes(sizes[0]))
        assert file.tell() == sum(sizes)
    assert (past_cache / "x").read_bytes() == part + b"".join(parts[1:])


def test_large_data_go_past_the_cache_and_come_from_there(past_cache: Path, monkeypatch) -> None:
    written, read = [], []
    put, pieces = UncachedFile._put, UncachedFile.pieces
    monkeypatch.setattr(
        UncachedFile,
        "_put",
        lambda self, data, at: (written.append(len(data)), put(self, data, at)),
    )
    monkeypatch.setattr(
        UncachedFile, "pieces", lambda self, *place: (read.append(place), pieces(self, *place))[1]
    )
    with new_file(past_cache / "x") as file:
        file.put(bytes(10))
        file.put(bytes(9 * BLOCK))
    assert written == [4 * BLOCK, 4 * BLOCK]  # the ends of the data share their blocks with others
    assert read == [(10, 10 + 9 * BLOCK)]


@pytest.mark.parametrize("place", [0, 2 * BLOCK - 1, 2 * BLOCK, 6 * BLOCK + 17, 9 * BLOCK + 4])
def test_a_changed_byte_is_noticed(past_cache: Path, place: int) -> None:
    writing = new_file(past_cache / "x")
    writing.__enter__().put(bytes(9 * BLOCK + 5))
    with next(past_cache.glob(".x.*.tmp")).open("r+b") as other:
        other.seek(place)
        other.write(b"\1")
    with pytest.raises(ProofError, match="other bytes than were written"):
        writing.__exit__(None, None, None)


def test_a_lost_end_is_noticed(past_cache: Path) -> None:
    writing = new_file(past_cache / "x")
    file = writing.__enter__()
    file.put(bytes(9 * BLOCK))
    file._uncached.settle()
    os.truncate(next(past_cache.glob(".x.*.tmp")), 6 * BLOCK)
    with pytest.raises(ProofError, match="other bytes than were written"):
        writing.__exit__(None, None, None)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_where_there_is_no_such_thing_the_cache_is_used(tmp_path: Path, monkeypatch, code) -> None:
    opened = os.open

    def refuses(path, flags, *rest, **named):
        if flags & os.O_DIRECT:
            raise OSError(code, os.strerror(code))
        return opened(path, flags, *rest, **named)

    monkeypatch.setattr(os, "open", refuses)
    with new_file(tmp_path / "x") as file:
        file.put(bytes(9 * BLOCK))
        assert file._uncached is None
    assert (tmp_path / "x").read_bytes() == bytes(9 * BLOCK)


def test_an_error_of_the_disk_is_told_even_if_it_comes_later(past_cache: Path, monkeypatch) -> None:
    def full(self, data, offset):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(UncachedFile, "_put", full)
    with (
        pytest.raises(OutputError, match="the disk is full; free some space"),
        new_file(past_cache / "x") as file,
    ):
        file.put(bytes(2 * BLOCK))
    assert [path.name for path in past_cache.iterdir()] == ["probe"]


def test_a_disk_that_refuses_the_blocks_is_written_through_the_cache(
    past_cache: Path, monkeypatch
) -> None:
    refused = []

    def refusing(call):
        def refuses(handle, data, offset):
            if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_DIRECT:
                refused.append(offset)
                raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
            return call(handle, data, offset)

        return refuses

    monkeypatch.setattr(os, "pwrite", refusing(os.pwrite))
    with new_file(past_cache / "x") as file:
        file.put(bytes(9 * BLOCK))
    assert (past_cache / "x").read_bytes() == bytes(9 * BLOCK)
    assert len(refused) == 1


def test_pieces_are_what_lies_there(past_cache: Path) -> None:
    path = past_cache / "x"
    content = random.Random(0).randbytes(11 * BLOCK + 100)
    path.write_bytes(content)
    file = uncached(path)
    for start, stop in [(0, 1), (5, BLOCK), (BLOCK - 1, 7 * BLOCK + 1), (0, len(content))]:
        assert b"".join(map(bytes, file.pieces(start, stop))) == content[start:stop]
    past = b"".join(map(bytes, file.pieces(8 * BLOCK, 40 * BLOCK)))
    assert past == content[8 * BLOCK :]
    file.close()
