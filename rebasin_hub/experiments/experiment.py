"""What an experiment is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from rebasin_hub.experiments.lab import Lab

__all__ = [
    "SCALES",
    "Cell",
    "Column",
    "Experiment",
    "ExperimentFacts",
    "Facts",
    "Picture",
    "Row",
    "Series",
    "Settings",
    "pairs",
]

SCALES = ("quick", "paper")
Settings: TypeAlias = Mapping[str, Any]
Cell: TypeAlias = Mapping[str, Any]
Facts: TypeAlias = Mapping[str, Any]
Row: TypeAlias = Mapping[str, Any]
"""Plain JSON values by name: of a scale, of one measurement, of its outcome, and of both."""


@dataclass(frozen=True)
class Column:
    """A column of the table.

    name: the key in the rows.
    head: what people read.
    key: whether it tells places of the table apart; otherwise it is a mean over a place's rows.
    percent: whether values from 0 to 1 are shown as percentages.
    """

    name: str
    head: str
    key: bool = False
    percent: bool = False


@dataclass(frozen=True)
class Series:
    """A line of the picture: a key of the rows, what people read, and which rows belong to it."""

    name: str
    label: str
    where: Mapping[str, Any] | None = None

    def holds(self, row: Row) -> bool:
        """Whether a row belongs to the line."""
        return all(row.get(key) == value for key, value in (self.where or {}).items())


@dataclass(frozen=True)
class Picture:
    """What is drawn: series over the key `x`, means as lines and every row as a point."""

    x: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class ExperimentFacts:
    """What a list shows of an experiment; `tasks` by scale, None where no data are needed."""

    name: str
    title: str
    question: str
    source: str
    tasks: Mapping[str, str | None]


@dataclass(frozen=True, eq=False)
class Experiment:
    """A question about networks, and how it is answered; the package's docstring has the parts."""

    name: str
    title: str
    question: str
    protocol: str
    source: str
    scales: Mapping[str, Settings]
    cells: Callable[[Settings], Sequence[Cell]]
    measure: Callable[[Lab, Cell], Facts]
    columns: tuple[Column, ...]
    findings: Callable[[Sequence[Row], Sequence[Row]], Sequence[str]]
    picture: Picture
    version: int = 1

    @property
    def facts(self) -> ExperimentFacts:
        """What a list shows of it."""
        tasks = {scale: settings.get("task") for scale, settings in self.scales.items()}
        return ExperimentFacts(self.name, self.title, self.question, self.source, tasks)

    @property
    def needs_task(self) -> bool:
        """Whether it is measured on data."""
        return self.scales["quick"].get("task") is not None


def pairs(seeds: int) -> list[tuple[int, int]]:
    """Return pairs of the networks 0 … seeds − 1: each with the next one, the last with the first.

    Every network is in as many pairs as any other, and n networks make n pairs (two make one).
    """
    if seeds == 2:  # noqa: PLR2004
        return [(0, 1)]
    return [(seed, (seed + 1) % seeds) for seed in range(seeds)]
