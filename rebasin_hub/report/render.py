"""One function that prints any result; every module of results registers its own."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from rich.console import Console

from rebasin_hub.errors import Problem

__all__ = ["LISTS", "render"]

RenderList: TypeAlias = Callable[[Sequence[Any], Console], None]
LISTS: dict[type, RenderList] = {}
"""For results that are better shown together than one after another."""


@functools.singledispatch
def render(result: object, console: Console) -> None:  # noqa: ARG001 - of those registered
    """Print one result as text."""
    raise TypeError(f"nothing is known about showing a {type(result).__name__}")


@render.register
def _(results: list, console: Console) -> None:  # type: ignore[type-arg]
    together = LISTS.get(type(results[0])) if results else None
    if together is not None:
        together(results, console)
        return
    for result in results:
        render(result, console)


@render.register
def _(problem: Problem, console: Console) -> None:
    console.print(str(problem), markup=False)
