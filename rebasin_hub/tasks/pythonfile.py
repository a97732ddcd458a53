"""Run a Python file of a user, and tell its errors as the file's.

The file is run because the user named it; nothing that a checkpoint holds ever is.
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from rebasin_hub.errors import InputError, RebasinError
from rebasin_hub.spec.check import nearest

__all__ = ["Function", "load_function", "names_function"]


@dataclass(frozen=True)
class Function:
    """A function, or a class, of a user's file; errors in it name the file and its line."""

    path: Path
    name: str
    function: Callable[..., Any]

    def __call__(self, *arguments: object) -> Any:  # noqa: ANN401 - a user's value
        """Call it.

        Raises:
            InputError: it raised something.

        """
        with _told(self.path), _beside(self.path):
            return self.function(*arguments)

    @property
    def required(self) -> int:
        """How many arguments have to be given."""
        try:
            parameters = signature(self.function).parameters.values()
        except ValueError:
            return 0
        by_position = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        return sum(p.kind in by_position and p.default is Parameter.empty for p in parameters)

    def inner(self, function: Callable[..., Any]) -> Function:
        """Return another function of the same file, such as one that a call gave."""
        return Function(self.path, getattr(function, "__name__", self.name), function)

    def __str__(self) -> str:
        return f"{self.path}:{self.name}"


def names_function(text: str) -> bool:
    """Tell whether a text has the form `FILE.py:NAME`."""
    file, _, name = text.rpartition(":")
    return file.endswith(".py") and name.isidentifier()


def load_function(text: str) -> Function:
    """Run a Python file and return one of its functions or classes.

    Args:
        text: `FILE.py:NAME`.

    Raises:
        InputError: there is no such file or function, or the file cannot be run.

    """
    file, _, name = text.rpartition(":")
    path = Path(file)
    if not names_function(text):
        raise InputError(f"'{text}' names no Python file and function, such as model.py:build")
    if not path.is_file():
        raise InputError(f"{path}: does not exist; expected a Python file with a function '{name}'")
    module_name = f"rebasin_user_{path.stem}"
    found = importlib.util.spec_from_file_location(module_name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    # Dataclasses look their module up by its name.
    sys.modules[module_name] = module
    with _told(path, "cannot be run: "), _beside(path):
        found.loader.exec_module(module)
    function = getattr(module, name, None)
    if not callable(function):
        own = [n for n, value in vars(module).items() if callable(value) and n[0] != "_"]
        raise InputError(f"{path} has no function '{name}'{nearest(name, own)}")
    return Function(path, name, function)


@contextmanager
def _beside(path: Path) -> Iterator[None]:
    """Let a file import what lies beside it, as if Python had been started with it."""
    folder = str(path.resolve().parent)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


@contextmanager
def _told(path: Path, doing: str = "") -> Iterator[None]:
    """Turn what a user's code raises into one message with the line of the file."""
    try:
        yield
    except RebasinError:
        raise
    except (Exception, SystemExit) as problem:
        line = _line(path, problem)
        place = f"{path}:{line}" if line else str(path)
        reason = next(iter(str(problem).strip().splitlines()), "")
        told = f"{type(problem).__name__}: {reason}" if reason else type(problem).__name__
        raise InputError(f"{place}: {doing}{told}") from problem


def _line(path: Path, problem: BaseException) -> int | None:
    """Return the file's innermost line that led to an error."""
    file = path.resolve()
    if isinstance(problem, SyntaxError) and Path(problem.filename or "").resolve() == file:
        return problem.lineno
    frames = traceback.extract_tb(problem.__traceback__)
    return next((f.lineno for f in reversed(frames) if Path(f.filename).resolve() == file), None)
