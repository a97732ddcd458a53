"""Find a model builder that a user names as `FILE.py:FUNCTION`."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from rebasin_hub.errors import InputError

if TYPE_CHECKING:
    from rebasin_hub.prove import Builder

__all__ = ["load_builder"]


def load_builder(text: str) -> Builder:
    """Run a Python file and return one of its functions.

    Args:
        text: `FILE.py:FUNCTION`; the function takes nothing and returns a module and its inputs.

    Raises:
        InputError: there is no such file or function, or the file cannot be run.

    """
    file, _, name = text.rpartition(":")
    path = Path(file)
    if not path.is_file() or path.suffix != ".py":
        raise InputError(f"'{text}' names no Python file and function, such as model.py:build")
    found = importlib.util.spec_from_file_location(path.stem, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    try:
        found.loader.exec_module(module)
    except Exception as problem:
        raise InputError(f"{path} cannot be run: {type(problem).__name__}: {problem}") from problem
    builder = getattr(module, name, None)
    if not callable(builder):
        raise InputError(f"{path} has no function '{name}'")
    return builder  # type: ignore[no-any-return]
