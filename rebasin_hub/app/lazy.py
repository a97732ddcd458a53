"""Groups of commands that are built only when they are asked for.

The registry's alone are two dozen, and building them would take a tenth of the time that every
other command needs to start.
"""

from __future__ import annotations

from functools import cached_property
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

__all__ = ["lazy_group"]


def lazy_group(module: str, *, text: str) -> typer.Typer:
    """Return a group that stands for the one called `group` in a module.

    Args:
        module: its name.
        text: the help text, which is shown without importing the module.

    """

    class _Lazy(TyperGroup):
        @cached_property
        def _built(self) -> Any:  # noqa: ANN401 - typer's own kind of group
            return typer.main.get_command(import_module(module).group)

        def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401
            """Return the names of the commands."""
            names: list[str] = self._built.list_commands(ctx)
            return names

        def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
            """Return one command."""
            return self._built.get_command(ctx, cmd_name)

    return typer.Typer(cls=_Lazy, help=text, no_args_is_help=True, rich_markup_mode="markdown")
