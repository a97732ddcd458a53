"""The registry's commands, built only when they are asked for.

They are two dozen, and building them would take a tenth of the time that every other command needs
to start.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import typer
from typer.core import TyperGroup

__all__ = ["lazy_registry"]


class _Registry(TyperGroup):
    @cached_property
    def _built(self) -> Any:  # noqa: ANN401 - typer's own kind of group
        from rebasin_hub.app.registry import registry_app

        return typer.main.get_command(registry_app)

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401
        """Return the names of the commands."""
        names: list[str] = self._built.list_commands(ctx)
        return names

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401
        """Return one command."""
        return self._built.get_command(ctx, cmd_name)


lazy_registry = typer.Typer(
    cls=_Registry,
    help=(
        "A registry of models on this machine: immutable numbered versions, movable aliases, "
        "lineage, and `which FILE`. A version is named NAME (the newest), NAME@ALIAS or NAME:3."
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
