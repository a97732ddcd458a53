"""Task files: in YAML, what a user would else say on the command line, and a task's settings."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, JsonValue

from rebasin_hub import yamlfile
from rebasin_hub.tasks.pythonfile import names_function
from rebasin_hub.tasks.task import Options
from rebasin_hub.yamlfile import Strict

__all__ = ["TaskFile", "combined", "load_task_file", "schema_text"]

SCHEMA_ID = "urn:rebasin-hub:task:1"


class TaskFile(Strict):
    """What losses are measured on."""

    model_config = ConfigDict(title="rebasin-hub task")

    task: Annotated[str, Field(min_length=1, examples=["mnist", "text", "onnx", "my.py:task"])]
    """A task as `--task` takes it: a name that `rebasin-hub tasks` lists, or FILE.py:NAME."""
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    """What the task is called in tables and records; by default as it is named above."""
    description: Annotated[str, Field(max_length=2_000)] = ""
    """What it measures; stands with the notes of a record."""
    data: Annotated[str, Field(min_length=1)] | None = None
    """The file or folder that holds the samples. Paths are relative to this file."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """How many samples of each split are measured; all of them by default."""
    batch: Annotated[int, Field(ge=1)] | None = None
    """Samples of one forward pass; 256 by default."""
    seed: Annotated[int, Field(ge=0)] | None = None
    """Which samples are drawn where there is a limit; 0 by default."""
    settings: dict[str, JsonValue] = {}
    """What only this task knows, such as `graph` of `onnx`."""


def load_task_file(path: Path) -> TaskFile:
    """Read a task file, with its paths made relative to the present folder.

    Raises:
        FileError: with everything that is wrong.

    """
    file = yamlfile.load(path, TaskFile, "task file")
    folder = path.parent
    changed: dict[str, Any] = {}
    if file.data is not None:
        changed["data"] = str(folder / file.data)
    if names_function(file.task) or Path(file.task).suffix == ".onnx":
        changed["task"] = str(folder / file.task)
    return file.model_copy(update=changed)


def combined(
    file: TaskFile,
    options: Options,
    given: Collection[str],
    folder: Path,
    paths: Mapping[str, Collection[str]],
) -> Options:
    """Return the options of a task file; those that were given on the command line win.

    Args:
        file: as `load_task_file` reads it.
        options: of the command line.
        given: the names of those that a user gave; of settings each counts by itself.
        folder: where the file lies.
        paths: the settings that are paths, each with the words that are none.

    """
    settings = dict(file.settings)
    for name, words in paths.items():
        if isinstance(value := settings.get(name), str) and value not in words:
            settings[name] = str(folder / value)
    said: dict[str, Any] = {
        "data": None if file.data is None else Path(file.data),
        "limit": file.limit,
        "batch": file.batch,
        "seed": file.seed,
    }
    taken = {name: value for name, value in said.items() if value is not None and name not in given}
    return replace(options, **taken, settings={**settings, **(options.settings or {})})


def schema_text() -> str:
    """Return the JSON Schema of a task file, as it is shipped in schemas/task.schema.json."""
    return yamlfile.schema_text(TaskFile, SCHEMA_ID)
