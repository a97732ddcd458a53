"""What an experiment found, and what it is going to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rebasin_hub.experiments.experiment import Column, Row, Settings

__all__ = ["ExperimentPlan", "ExperimentResult"]


@dataclass(frozen=True)
class ExperimentPlan:
    """What a run will do: how many cells there are, and how many of them are measured already."""

    experiment: str
    title: str
    scale: str
    task: str | None
    settings: Settings
    cells: int
    measured: int
    device: str
    output: Path


@dataclass(frozen=True)
class ExperimentResult:
    """What an experiment found, with all that is needed to repeat it.

    `rows` are the cells with their figures; `table` their means with `_low` and `_high`; `seconds`
    is the time that measuring took, training included, over all sessions. `files` are the paths
    that were written.
    """

    experiment: str
    title: str
    question: str
    protocol: str
    source: str
    scale: str
    task: str | None
    data: Mapping[str, Any]
    settings: Settings
    columns: tuple[Column, ...]
    rows: Sequence[Row]
    table: Sequence[Row]
    findings: Sequence[str]
    date: str
    seconds: float
    device: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str
    files: Mapping[str, Path] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return plain JSON values, as they are stored."""
        return {**asdict(self), "files": {key: str(path) for key, path in self.files.items()}}
