"""Measure cells; each is kept, so that a run goes on where it was stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from rebasin_hub import __version__
from rebasin_hub.errors import RebasinError
from rebasin_hub.experiments.data import make_folder
from rebasin_hub.experiments.experiment import Cell, Experiment
from rebasin_hub.experiments.lab import Lab
from rebasin_hub.formats import new_file
from rebasin_hub.training.store import digest_of_settings
from rebasin_hub.workers import Workers

__all__ = ["Cells", "Tell", "label"]

Tell: TypeAlias = Callable[[Cell, int, str], None]

HIDDEN = frozenset({"images", "network", "recipe", "snapshots", "task"})
"""What a label leaves out: it is the same for most cells."""


@dataclass(frozen=True, eq=False)
class Cells:
    """The cells of one run, and where their figures are kept.

    `circumstances` are what decides figures beside a cell: the data and the kind of device.
    """

    experiment: Experiment
    cells: Sequence[Cell]
    folder: Path
    circumstances: Mapping[str, Any]

    def path(self, cell: Cell) -> Path:
        """Return the file that the figures of a cell are kept in."""
        experiment = self.experiment
        facts = {
            "experiment": experiment.name,
            "version": [experiment.version, __version__],
            **self.circumstances,
            "cell": cell,
        }
        return self.folder / "cells" / f"{experiment.name}-{digest_of_settings(facts)[:16]}.json"

    @property
    def measured(self) -> int:
        """How many cells are measured already."""
        return sum(self.path(cell).exists() for cell in self.cells)

    def run(self, lab: Lab, tell: Tell, *, force: bool) -> tuple[list[dict[str, Any]], float]:
        """Return the rows of all cells, and the seconds that measuring took in all.

        Args:
            lab: where cells are measured.
            tell: told the cell, how many are done, and what is being done.
            force: measure again what is kept.

        Raises:
            RebasinError: a cell cannot be measured, with its place; what was measured is kept.

        """
        kept = []
        for number, cell in enumerate(self.cells):
            here = replace(lab, tell=partial(tell, cell, number))
            kept.append(self.one(here, cell, force=force))
        return self._rows(kept)

    def spread(
        self, lab: Lab, workers: Workers, tell: Tell, *, force: bool
    ) -> tuple[list[dict[str, Any]], float]:
        """Measure cells by workers; what `run` takes, returns and raises.

        The worker keeps the figures of a cell, as soon as it has them. Cells may share networks:
        who is the second to want one waits until the first has trained it.

        Raises:
            RebasinError: also for a cell that has lost its worker too many times.

        """
        plain = replace(lab, tell=_tell_nobody)
        jobs = [_CellJob(replace(self, cells=[cell]), plain, force) for cell in self.cells]
        kept: list[dict[str, Any]] = [{} for _ in jobs]
        for done, (number, made) in enumerate(workers.run(_measure, jobs), 1):
            kept[number] = made
            tell(self.cells[number], done, "measured")
        return self._rows(kept)

    def _rows(self, kept: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], float]:
        rows = [{**cell, **one["facts"]} for cell, one in zip(self.cells, kept, strict=True)]
        return rows, sum(float(one["seconds"]) for one in kept)

    def one(self, lab: Lab, cell: Cell, *, force: bool) -> dict[str, Any]:
        """Return what is kept of a cell, measured now or earlier; see `run`."""
        path = self.path(cell)
        if not force and (known := _known(path)) is not None:
            return known
        started = time.monotonic()
        try:
            facts = dict(self.experiment.measure(lab, cell))
        except RebasinError as problem:
            raise RebasinError(f"{self.experiment.name}, {label(cell)}: {problem}") from problem
        made = {
            "cell": dict(cell),
            "facts": facts,
            "seconds": round(time.monotonic() - started, 2),
        }
        make_folder(path.parent)
        with new_file(path, force=True) as file:
            file.put((json.dumps(made, indent=1, allow_nan=False) + "\n").encode())
        return made


@dataclass(frozen=True, eq=False)
class _CellJob:
    """One cell to measure, which `cells` has alone."""

    cells: Cells
    lab: Lab
    force: bool

    def __str__(self) -> str:
        return f"{self.cells.experiment.name}, {label(self.cells.cells[0])}"


def _measure(job: _CellJob) -> dict[str, Any]:
    return job.cells.one(job.lab, job.cells.cells[0], force=job.force)


def _tell_nobody(_stage: str) -> None:
    """Take the place of a callback, which no other process could call."""


def _known(path: Path) -> dict[str, Any] | None:
    """Return what is kept; nothing if it is not there or damaged, for it can be measured anew."""
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if {"facts", "seconds"} <= found.keys() else None


def label(cell: Cell) -> str:
    """Say in a few words which cell it is."""
    plain = {key: value for key, value in cell.items() if key not in HIDDEN}
    return ", ".join(
        f"{key} {' and '.join(map(str, value)) if isinstance(value, list | tuple) else value}"
        for key, value in plain.items()
    )
