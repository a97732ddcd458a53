"""Find a model builder that a user names as `FILE.py:FUNCTION`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rebasin_hub.tasks.pythonfile import load_function

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
    return load_function(text)
