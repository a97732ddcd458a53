"""The one signature that all methods of aligning share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from rebasin_hub.align.result import Report
from rebasin_hub.align.state import State
from rebasin_hub.permute import Element, Index

__all__ = ["Found", "Method", "Options"]


@dataclass(frozen=True)
class Options:
    """What a method may be told: see `align`."""

    seed: int = 0
    restarts: int = 1
    max_sweeps: int = 100
    start: Element | None = None
    report: Report | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """What a method found: the fields of the same names of `Alignment`."""

    element: dict[str, Index]
    history: tuple[float, ...]
    restarts: tuple[float, ...]
    converged: bool


Method: TypeAlias = Callable[[State, Options], Found]
"""Search for an element of the group, starting with the state at the identity."""
