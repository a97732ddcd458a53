from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rebasin_hub.errors import OutputError, ProofError
from rebasin_hub.formats import new_directory, new_file, open_checkpoint, save_like
from rebasin_hub.formats.atomic import NewFile

TEMPORARY = ".*.rebasin-*.tmp"


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_name_appears_only_at_the_end(tmp_path: Path):
    out = tmp_path / "x"
    with new_file(out) as file:
        file.put(b"abc")
        assert not out.exists()
        assert len(list(tmp_path.glob(".x.rebasin-*.tmp"))) == 1
    assert out.read_bytes() == b"abc"
    assert left_in(tmp_path) == ["x"]


def test_a_directory_appears_as_a_whole(tmp_path: Path):
    out = tmp_path / "x"
    with new_directory(out) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_text("a")
        assert not out.exists()
        assert list(tmp_path.glob(".x.rebasin-*.tmp")) == [folder]
    assert (out / "sub" / "a").read_text() == "a"
    assert left_in(tmp_path) == ["x"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
@pytest.mark.parametrize("old", [None, "old"])
def test_an_interruption_leaves_what_was_there(tmp_path: Path, error, old):
    out, folder = tmp_path / "x", tmp_path / "d"
    if old:
        out.write_text(old)
        folder.mkdir()
        (folder / "a").write_text(old)
    before = left_in(tmp_path)

    def half_a_file() -> None:
        with new_file(out, force=True) as file:
            file.put(b"half")
            raise error

    def half_a_directory() -> None:
        with new_directory(folder, force=True) as new:
            (new / "a").write_text("half")
            raise error

    for half in (half_a_file, half_a_directory):
        with pytest.raises(error):
            half()
    assert left_in(tmp_path) == before
    if old:
        assert out.read_text() == (folder / "a").read_text() == old


def test_an_interruption_just_after_creation_leaves_nothing(tmp_path: Path, monkeypatch):
    begin, mkdir = NewFile.__init__, Path.mkdir

    def begin_and_stop(self: NewFile, *args: Path):
        begin(self, *args)
        self.close()
        raise KeyboardInterrupt

    def mkdir_and_stop(self: Path):
        mkdir(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(NewFile, "__init__", begin_and_stop)
    monkeypatch.setattr(Path, "mkdir", mkdir_and_stop)
    for writing in (new_file(tmp_path / "x"), new_directory(tmp_path / "d")):
        with pytest.raises(KeyboardInterrupt):
            writing.__enter__()
    assert left_in(tmp_path) == []


def test_an_output_that_appears_meanwhile_is_not_overwritten(tmp_path: Path):
    out = tmp_path / "x"
    writing = new_file(out)
    writing.__enter__().put(b"new")
    out.write_text("someone else's")
    with pytest.raises(OutputError, match="exists already"):
        writing.__exit__(None, None, None)
    assert out.read_text() == "someone else's"
    assert left_in(tmp_path) == ["x"]


def test_a_directory_that_cannot_be_moved_in_leaves_the_old_one(tmp_path: Path, monkeypatch):
    out = tmp_path / "x"
    out.mkdir()
    (out / "old").touch()
    rename = Path.rename

    def fails(self: Path, target: Path):
        if target == out and (self / "new").exists():
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    writing = new_directory(out, force=True)
    (writing.__enter__() / "new").touch()
    with pytest.raises(OutputError, match="Input/output error"):
        writing.__exit__(None, None, None)
    assert left_in(tmp_path) == ["x"]
    assert left_in(out) == ["old"]


def test_new_files_have_the_usual_mode(tmp_path: Path):
    old = os.umask(0o027)
    try:
        with new_file(tmp_path / "x") as file:
            file.put(b"")
        with new_directory(tmp_path / "d"):
            pass
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "d").stat().st_mode) == 0o750


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EIO, "Input/output error; choose another place"),
    ],
)
def test_errors_of_the_disk_say_what_to_do(single: Path, tmp_path, monkeypatch, code, words):
    def fail():
        raise OSError(code, os.strerror(code))

    class Raw:
        def __init__(self, raw):
            self.raw = raw

        def __getattr__(self, name):
            return getattr(self.raw, name)

        def write(self, data):
            return self.raw.write(data) if self.raw.tell() < 100 else fail()

    begin = NewFile.__init__

    def wrapped(self, path, shown):
        begin(self, path, shown)
        self._raw = Raw(self._raw)

    monkeypatch.setattr(NewFile, "__init__", wrapped)
    with open_checkpoint(single) as source, pytest.raises(OutputError) as caught:
        save_like(source, tmp_path / "x.safetensors", source.read)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'x.safetensors'}: ")
    assert left_in(tmp_path) == ["in"]


def test_short_writes_are_continued(tmp_path: Path, monkeypatch):
    with new_file(tmp_path / "x") as file:
        raw = file._raw

        class Slow:
            def __getattr__(self, name):
                return getattr(raw, name)

            def write(self, data):
                return raw.write(data[:7])

        file._raw = Slow()
        file.put(bytes(range(100)))
    assert (tmp_path / "x").read_bytes() == bytes(range(100))


def test_what_the_disk_gives_back_is_checked(tmp_path: Path):
    writing = new_file(tmp_path / "x")
    file = writing.__enter__()
    file.put(b"first")
    file.put(b"second")
    with next(tmp_path.glob(TEMPORARY)).open("r+b") as other:
        other.seek(6)
        other.write(b"E")
    with pytest.raises(ProofError, match="other bytes than were written"):
        writing.__exit__(None, None, None)
    assert left_in(tmp_path) == []


def test_a_lost_end_is_noticed(tmp_path: Path):
    writing = new_file(tmp_path / "x")
    writing.__enter__().put(b"first")
    os.truncate(next(tmp_path.glob(TEMPORARY)), 3)
    with pytest.raises(ProofError, match="other bytes than were written"):
        writing.__exit__(None, None, None)


SCRIPT = """
import os, resource, signal, sys
import numpy as np
from pathlib import Path
from rebasin_hub.errors import OutputError
from rebasin_hub.formats import open_checkpoint, save_like

how, path, out = sys.argv[1:]
source = open_checkpoint(path)
if how == "limit":
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))

def produce(name):
    if name == "fc1.bias" and how != "limit":
        os.kill(os.getpid(), {"kill": signal.SIGKILL, "ctrl-c": signal.SIGINT}[how])
    return source.read(name)

try:
    save_like(source, out, produce, force=True)
except KeyboardInterrupt:
    sys.exit(130)
except OutputError as error:
    print(error)
    sys.exit(1)
"""


def run(how: str, path: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, how, str(path), str(out)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        # Children of a shell's background job would ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.parametrize("layout", ["single", "sharded"])
@pytest.mark.parametrize("old", [False, True])
def test_kill_9_leaves_only_a_temporary(layout: str, old: bool, request, tmp_path: Path):
    path = request.getfixturevalue(layout)
    out = tmp_path / ("out.safetensors" if layout == "single" else "out")
    if old:
        with open_checkpoint(path) as source:
            save_like(source, out, lambda name: np.zeros_like(source.read(name)))
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert run("kill", path, out).returncode == -signal.SIGKILL
    assert out.exists() == old
    assert len(list(tmp_path.glob(f".{out.name}.rebasin-*.tmp"))) == 1
    assert all(p.read_bytes() == content for p, content in before.items())
    with open_checkpoint(path) as source:  # and the next run is not disturbed
        save_like(source, out, source.read, force=old)


@pytest.mark.parametrize("layout", ["single", "sharded"])
@pytest.mark.parametrize(("how", "code"), [("ctrl-c", 130), ("limit", 1)])
def test_ctrl_c_and_a_full_disk_leave_nothing(layout, how, code, request, tmp_path: Path):
    path = request.getfixturevalue(layout)
    before = left_in(tmp_path)
    done = run(how, path, tmp_path / ("out.safetensors" if layout == "single" else "out"))
    assert (done.returncode, done.stderr) == (code, "")
    assert ("cannot be written: a file this large" in done.stdout) == (how == "limit")
    assert left_in(tmp_path) == before


def test_a_directory_may_be_named_from_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    with new_directory(Path("models") / "new") as folder:
        (folder / "part").mkdir()
        (folder / "part" / "file").write_text("text")
    assert (tmp_path / "models" / "new" / "part" / "file").read_text() == "text"
