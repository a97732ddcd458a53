"""Task files: what they say, what the command line says instead, and what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from image_data import subject

from rebasin_hub import zoo
from rebasin_hub.errors import FileError, InputError
from rebasin_hub.tasks import TASKS, Options, find_task
from rebasin_hub.tasks import find as find_module
from rebasin_hub.tasks.taskfile import TaskFile, schema_text
from rebasin_hub.yamlfile import json_schema

SCHEMA = Path(__file__).parents[2] / "schemas" / "task.schema.json"
CODE = """
import torch
from rebasin_hub import zoo
from rebasin_hub.tasks import TorchTask

def build():
    return zoo.MLP([5, 8, 3])

def task():
    return TorchTask(build(), test=(torch.zeros(6, 5), torch.arange(6) % 3))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch) -> Path:
    """The files lie beside one another, and not in the present folder."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    inner = tmp_path / "tasks"
    inner.mkdir()
    (inner / "own.py").write_text(CODE, encoding="utf-8")
    np.savez(inner / "x.npz", inputs=np.zeros((6, 5), np.float32), labels=np.arange(6) % 3)
    return inner


def written(folder: Path, text: str) -> str:
    (folder / "t.yaml").write_text(text, encoding="utf-8")
    return str(folder / "t.yaml")


@pytest.fixture
def built(monkeypatch) -> list[tuple[str, Options]]:
    """The names and options with which tasks are built."""
    calls: list[tuple[str, Options]] = []

    def build(name, options):
        calls.append((name, options))
        return find_task("digits", Options(limit=2))

    kinds = {n: replace(k, build=build) for n, k in TASKS.items() if n != "digits"}
    monkeypatch.setattr(find_module, "TASKS", {**TASKS, **kinds})
    return calls


def test_a_file_says_what_the_command_line_would(folder: Path, built) -> None:
    path = written(
        folder,
        "task: images\ndata: x.npz\nlimit: 4\nbatch: 8\nseed: 3\n"
        "settings: {mean: [0.5], size: 8}\n",
    )
    find_task(path, Options())
    settings = {"mean": [0.5], "size": 8}
    assert built == [("images", Options(folder / "x.npz", 4, 8, 3, settings))]


def test_the_command_line_wins(folder: Path, built) -> None:
    path = written(
        folder, "task: images\ndata: gone\nlimit: 4\nseed: 3\nbatch: 8\nsettings: {a: 1, b: 2}\n"
    )
    given = Options(folder / "x.npz", limit=5, seed=0, settings={"b": 3})
    find_task(path, given)
    find_task(path, given, given={"data", "seed"})
    assert [options for _, options in built] == [
        Options(folder / "x.npz", 5, 8, 3, {"a": 1, "b": 3}),
        Options(folder / "x.npz", 4, 8, 0, {"a": 1, "b": 3}),
    ]


@pytest.mark.parametrize(
    ("task", "settings", "expected"),
    [
        ("onnx", "{graph: m.onnx}", {"graph": "{}/m.onnx"}),
        ("text", "{tokenizer: gpt}", {"tokenizer": "{}/gpt"}),
        ("glue", "{tokenizer: bytes, label: gpt}", {"tokenizer": "bytes", "label": "gpt"}),
        ("model.onnx", "{output: y}", {"graph": "{}/model.onnx", "output": "y"}),
        ("onnx", "{graph: /m.onnx}", {"graph": "/m.onnx"}),
    ],
)
def test_paths_are_relative_to_the_file(folder: Path, built, task, settings, expected) -> None:
    find_task(written(folder, f"task: {task}\ndata: x.npz\nsettings: {settings}\n"), Options())
    assert built[0][1].settings == {k: v.format(folder) for k, v in expected.items()}


@pytest.mark.parametrize("data", ["", "data: x.npz\n"])
def test_a_python_file_is_found_beside_the_file(folder: Path, data: str) -> None:
    function = "own.py:build" if data else "own.py:task"
    task = find_task(written(folder, f"task: {function}\nlimit: 4\n{data}"), Options())
    assert task.splits["test"].count == 4
    assert task.settings["function"] == function.partition(":")[2]
    network = task.network(subject(zoo.MLP([5, 8, 3]), "mlp"), "cpu")
    assert network.batch == 256


def test_a_name_and_a_description(folder: Path) -> None:
    text = "task: own.py:task\n"
    plain = find_task(written(folder, text), Options())
    assert plain.name == f"{folder}/own.py:task"
    assert plain.notes == ()
    named = find_task(written(folder, text + "name: mine\ndescription: It is mine.\n"), Options())
    assert (named.name, named.notes) == ("mine", ("It is mine.",))
    assert named.splits == plain.splits
    assert (named.loss_name, named.error_name) == ("cross-entropy", "error rate")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("taks: mnist\n", r"t\.yaml:1 taks: is no key of a task file; did you mean 'task'\?"),
        ("taks: mnist\n", r"t\.yaml:1 task: is missing"),
        ("task: mnist\nlimit: 0\n", r"t\.yaml:2 limit: expected 1 or more, found the number 0"),
        ("task: mnist\nbatch: few\n", r"t\.yaml:2 batch: expected a whole number, found 'few'"),
        ("task: mnist\nseed: -1\n", r"t\.yaml:2 seed: expected 0 or more, found the number -1"),
        ("task: mnist\nsettings: 3\n", r"t\.yaml:2 settings: expected keys and values, found the"),
        ("task: mnist\ndata: ''\n", r"t\.yaml:2 data: is empty"),
        ("task: mnist\ntask: text\n", r"t\.yaml:2 task: stands twice; first on line 1"),
        ("- mnist\n", r"t\.yaml:1 expected the keys of a task file, found a list"),
    ],
)
def test_files_that_are_wrong(folder: Path, text: str, message: str) -> None:
    with pytest.raises(FileError, match=message):
        find_task(written(folder, text), Options())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("task: mnits\n", r"t\.yaml: there is no task 'mnits'; did you mean 'mnist'\?"),
        (
            "task: other.yaml\n",
            r"t\.yaml: task 'other\.yaml' is a task file again; name the task itself",
        ),
        ("task: mnist\n", r"t\.yaml: --task mnist needs data"),
        ("task: images\ndata: gone\n", r"t\.yaml: .*tasks/gone: is not there"),
        ("task: onnx\ndata: x.npz\n", r"t\.yaml: --task onnx: setting 'graph': is missing"),
        ("task: own.py:tusk\n", r"t\.yaml: .*own\.py has no function 'tusk'; did you mean 'task'"),
    ],
)
def test_tasks_that_cannot_be_used(folder: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_task(written(folder, text), Options())


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(FileError, match=r"gone\.yaml cannot be read: No such file"):
        find_task("gone.yaml", Options())


def test_the_shipped_schema_is_that_of_the_model() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()
    schema = json_schema(TaskFile, "urn:test")
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"task": "onnx", "data": "x", "settings": {"graph": [1, {}]}})
    for wrong in ({}, {"task": ""}, {"task": "a", "limit": 0}, {"task": "a", "x": 1}):
        assert not validator.is_valid(wrong)
