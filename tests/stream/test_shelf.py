"""Arrays within a bound: what can be made again is dropped, what cannot comes back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_hub.errors import OutputError
from rebasin_hub.shelf import Shelf

SIZE = 16
STEPS = st.lists(st.tuples(st.sampled_from(["get", "keep", "change"]), st.integers(0, 4)))


def made(number: int, version: int = 0) -> np.ndarray:
    return np.full((number + 1, SIZE), 100 * number + version, np.float32)


@given(steps=STEPS, nbytes=st.integers(0, 20 * 4 * SIZE))
def test_what_comes_back_is_what_was_put_there(steps, nbytes):
    versions: dict[int, int] = {}
    with Shelf(nbytes) as shelf:
        for what, number in steps:
            if what == "get":
                found = shelf.get(("made", number), lambda n=number: made(n))
                np.testing.assert_array_equal(found, made(number))
            elif what == "keep":
                versions[number] = 0
                shelf.keep(number, made(number))
            elif number in versions:
                array = shelf.kept(number)
                versions[number] += 1
                array += 1
                shelf.keep(number, array)
            for known, version in versions.items():
                np.testing.assert_array_equal(shelf.kept(known), made(known, version))
            assert shelf.nbytes <= nbytes


def test_what_is_used_stays_and_what_is_not_is_made_again():
    calls: list[str] = []

    def make(name: str):
        return lambda: (calls.append(name), made(0))[1]

    with Shelf(2 * 4 * SIZE) as shelf:
        for name in "abaca":
            shelf.get(name, make(name))
    assert calls == ["a", "b", "c"]


def test_a_full_directory_is_an_error_that_says_which(monkeypatch):
    def full(*_: object, **__: object):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with Shelf(0) as shelf, pytest.raises(OutputError, match=r"No space left on device.*TMPDIR"):
        shelf.keep("matrix", made(1))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("rows", [1, 10_000])
def test_a_disk_that_fills_up_is_an_error_that_says_so(rows, monkeypatch):
    def full(**_: object):
        return Path("/dev/full").open("r+b")

    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with pytest.raises(OutputError, match="TMPDIR"), Shelf(0) as shelf:
        shelf.keep("matrix", made(rows))
