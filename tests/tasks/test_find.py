"""How `--task` finds a task."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rebasin_hub import tasks
from rebasin_hub.errors import InputError
from rebasin_hub.tasks import TASKS, Options, find_task
from rebasin_hub.tasks.images import NAMES as IMAGES
from rebasin_hub.tasks.text import NAMES as TEXTS


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_task_is_in_the_table() -> None:
    assert set(TASKS) == {*IMAGES, *TEXTS, "onnx"}
    for name, kind in TASKS.items():
        assert kind.name == name
        assert not kind.description.endswith(".")


def test_examples_are_commands_with_this_task() -> None:
    for name, kind in TASKS.items():
        words = shlex.split(kind.example)
        assert words[:2] == ["rebasin-hub", "barrier"]
        task = words[words.index("--task") + 1]
        assert task == (name if name != "onnx" else "model.onnx")
        assert ("--data" in words) == kind.needs_data == (name != "digits")


def test_digits_need_no_data() -> None:
    pytest.importorskip("sklearn")
    task = find_task("digits", Options(limit=5))
    assert {split.count for split in task.splits.values()} == {5}
    with pytest.raises(InputError, match="digits brings its data along; leave out --data x"):
        find_task("digits", Options(data=Path("x")))


@pytest.mark.parametrize("name", [name for name in TASKS if name != "digits"])
def test_data_that_is_missing(name: str) -> None:
    with pytest.raises(InputError, match=rf"--task {name} needs data: give --data, .*--task"):
        find_task(name, Options())
    with pytest.raises(InputError, match=rf"nowhere: is not there; --task {name} takes its data"):
        find_task(name, Options(data=Path("nowhere")))


@pytest.mark.parametrize(
    ("name", "hint"),
    [("mnits", "; did you mean 'mnist'?; there are"), ("zzz", "; there are digits, mnist, ")],
)
def test_a_task_that_is_not_there(name: str, hint: str) -> None:
    with pytest.raises(InputError) as caught:
        find_task(name, Options())
    assert str(caught.value).startswith(f"there is no task '{name}'{hint}")
    assert all(known in str(caught.value) for known in (*TASKS, "FILE.py:NAME", "FILE.yaml"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(limit=0), "limit is 0, expected 1 or more"),
        (Options(batch=0), "batch is 0, expected 1 or more"),
        (Options(seed=-1), "seed is -1, expected 0 or more"),
    ],
)
def test_options_that_mean_nothing(options: Options, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_task("digits", options)


def test_finding_imports_nothing_heavy() -> None:
    program = (
        "import sys; import rebasin_hub.tasks\n"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'pyarrow', 'PIL', 'transformers') "
        "if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_all_is_what_is_exported() -> None:
    assert all(hasattr(tasks, name) for name in tasks.__all__)
