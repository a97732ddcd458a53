"""Find the task that a user names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from rebasin_hub.errors import InputError
from rebasin_hub.spec.check import nearest
from rebasin_hub.tasks.pythonfile import names_function
from rebasin_hub.tasks.task import Network, Options, Subject, Task
from rebasin_hub.tasks.taskfile import TaskFile, combined, load_task_file

__all__ = ["TASKS", "TaskKind", "find_task"]


@dataclass(frozen=True)
class TaskKind:
    """A kind of task.

    `name` is what `--task` takes; `data` says what `--data` has to be, if it is needed; `build`
    takes the name and the options. `paths` are settings that are paths, each with those words that
    are none.
    """

    name: str
    description: str
    example: str
    build: Callable[[str, Options], Task]
    data: str | None = None
    paths: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def needs_data(self) -> bool:
        """Whether `--data` has to be given; otherwise it must not be."""
        return self.data is not None


def _images(name: str, options: Options) -> Task:
    from rebasin_hub.tasks.images import image_task

    return image_task(name, options)


def _text(name: str, options: Options) -> Task:
    from rebasin_hub.tasks.text import text_task

    return text_task(name, options)


def _onnx(_: str, options: Options) -> Task:
    from rebasin_hub.tasks.onnx import OnnxTask

    return OnnxTask(options)


def _published(name: str, title: str, folder: str) -> TaskKind:
    return TaskKind(
        name,
        f"{title}: classification, from the files as they are published",
        f"rebasin-hub barrier a.safetensors b.safetensors --task {name} --data {folder}",
        _images,
        data=f"the folder with {title}'s files",
    )


TEXT_PATHS = {"tokenizer": ("bytes",)}

TASKS: Mapping[str, TaskKind] = {
    kind.name: kind
    for kind in (
        TaskKind(
            "digits",
            "1,797 handwritten digits of 8 × 8 pixels, which come with the program",
            "rebasin-hub barrier a.safetensors b.safetensors --task digits",
            _images,
        ),
        _published("mnist", "MNIST", "mnist/"),
        _published("fashion-mnist", "Fashion-MNIST", "fashion-mnist/"),
        _published("cifar10", "CIFAR-10", "cifar-10-batches-bin/"),
        _published("cifar100", "CIFAR-100", "cifar-100-binary/"),
        TaskKind(
            "images",
            "images of your own: a folder for each class, a parquet table, IDX files or an .npz",
            "rebasin-hub barrier a.safetensors b.safetensors --task images --data photos/",
            _images,
            data="a folder or a file of images",
        ),
        TaskKind(
            "text",
            "the perplexity of a language model on a text",
            "rebasin-hub barrier model-a/ model-b/ --task text --data book.txt",
            _text,
            data="a text file",
            paths=TEXT_PATHS,
        ),
        TaskKind(
            "text-classification",
            "the classification of texts, or of pairs of them, in a table",
            "rebasin-hub barrier model-a/ model-b/ --task text-classification --data sst2.csv",
            _text,
            data="a table (.csv, .tsv, .jsonl or .parquet)",
            paths=TEXT_PATHS,
        ),
        TaskKind(
            "glue",
            "the same as text-classification, on a folder as GLUE's tasks have it",
            "rebasin-hub barrier model-a/ model-b/ --task glue --data sst2/",
            _text,
            data="a folder with a table for each split",
            paths=TEXT_PATHS,
        ),
        TaskKind(
            "onnx",
            "any ONNX graph that gives logits; its file is the setting 'graph' of a task file",
            "rebasin-hub barrier a.safetensors b.safetensors --task model.onnx --data x.npz",
            _onnx,
            data="an .npz file of inputs and labels",
            paths={"graph": ()},
        ),
    )
}
FORMS = ("FILE.py:NAME", "FILE.onnx", "FILE.yaml")
"""What else a task can be."""


def find_task(name: str, options: Options, given: Collection[str] | None = None) -> Task:
    """Read the task that a user names.

    Args:
        name: a key of `TASKS`; `FILE.py:NAME`, see `UserTask`; `FILE.onnx`, which stands for
            `onnx` with this graph; or `FILE.yaml`, see `TaskFile`.
        options: what else the user says.
        given: names of the options that win over a task file's; by default those that differ
            from `Options()`.

    Raises:
        InputError: there is no such task, or its data or a setting cannot be used.
        MissingExtraError: a package that it needs is not installed.

    """
    _check(options)
    if Path(name).suffix in {".yaml", ".yml"}:
        if given is None:
            given = [f.name for f in fields(Options) if getattr(options, f.name) != f.default]
        return _from_file(Path(name), options, given)
    return _find(name, options)


def _find(name: str, options: Options) -> Task:
    if names_function(name):
        from rebasin_hub.tasks.userfile import UserTask

        _check_there(name, options)
        return UserTask(name, options)
    if Path(name).suffix == ".onnx":
        graph = {"graph": name, **(options.settings or {})}
        name, options = "onnx", replace(options, settings=graph)
    kind = TASKS.get(name)
    if kind is None:
        there = f"there are {', '.join((*TASKS, *FORMS))}"
        raise InputError(f"there is no task '{name}'{nearest(name, TASKS)}; {there}")
    _check_data(kind, options)
    return kind.build(name, options)


def _check(options: Options) -> None:
    for name, least in (("limit", 1), ("batch", 1), ("seed", 0)):
        value = getattr(options, name)
        if value is not None and value < least:
            raise InputError(f"{name} is {value}, expected {least} or more")


def _check_data(kind: TaskKind, options: Options) -> None:
    if kind.data is None and options.data is not None:
        raise InputError(
            f"--task {kind.name} brings its data along; leave out --data {options.data}"
        )
    if kind.data is not None and options.data is None:
        raise InputError(
            f"--task {kind.name} needs data: give --data, {kind.data}; such as {kind.example}"
        )
    _check_there(kind.name, options)


def _check_there(name: str, options: Options) -> None:
    if options.data is not None and not options.data.exists():
        raise InputError(f"{options.data}: is not there; --task {name} takes its data from it")


def _from_file(path: Path, options: Options, given: Collection[str]) -> Task:
    file = load_task_file(path)
    if Path(file.task).suffix in {".yaml", ".yml"}:
        raise InputError(f"{path}: task '{file.task}' is a task file again; name the task itself")
    kind = TASKS.get("onnx" if Path(file.task).suffix == ".onnx" else file.task)
    paths = kind.paths if kind is not None else {}
    try:
        task = _find(file.task, combined(file, options, given, path.parent, paths))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return _Named(task, file)


class _Named(Task):
    """A task with the name and description of its file."""

    def __init__(self, task: Task, file: TaskFile) -> None:
        self.task = task
        self.name = file.name or task.name
        self.splits = task.splits
        self.loss_name = task.loss_name
        self.error_name = task.error_name
        self.notes = (*([file.description] if file.description else []), *task.notes)

    @property
    def settings(self) -> Mapping[str, object]:
        """What else decides a result."""
        return self.task.settings

    def network(self, subject: Subject, device: str) -> Network:
        """Build the network of the task; see `Task.network`."""
        return self.task.network(subject, device)
