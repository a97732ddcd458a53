"""The task, the network and the treatments of a measurement, and what is recorded of them."""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from rebasin_hub import __version__
from rebasin_hub.pipeline.barrier.ends import LETTERS, Aligned, Ends
from rebasin_hub.pipeline.barrier.outputs import file_digest
from rebasin_hub.pipeline.barrier.request import BarrierPlan, Request
from rebasin_hub.pipeline.barrier.treat import Treatments, treatments_of
from rebasin_hub.record import Record
from rebasin_hub.record.model import SplitRecord, TaskRecord
from rebasin_hub.tasks import Network, Task
from rebasin_hub.tasks.find import find_task

__all__ = ["Setting", "facts_of", "set_up"]

LIBRARIES = ("numpy", "torch", "transformers", "onnxruntime")


@dataclass(frozen=True, eq=False)
class Setting:
    """What models are measured on, and by which network."""

    task: Task
    network: Network
    treatments: Treatments

    @property
    def notes(self) -> tuple[str, ...]:
        """What limits a result."""
        return (*self.task.notes, *self.network.notes, *self.treatments.notes)

    def task_record(self) -> TaskRecord:
        """Return the task as a record names it."""
        return TaskRecord(
            name=self.task.name,
            loss=self.task.loss_name,
            error=self.task.error_name,
            splits={
                name: SplitRecord(
                    count=split.count,
                    available=split.available,
                    digest=split.digest,
                    source=split.source,
                )
                for name, split in self.task.splits.items()
            },
            settings=dict(self.task.settings),
        )

    def plan(self, request: Request, ends: Ends) -> BarrierPlan:
        """Return what a measurement will do."""
        states = request.points ** (2 if request.is_plane else 1) * (2 if request.align else 1)
        treatments = 1 if request.is_plane else len(self.treatments.run)
        samples = sum(split.count for split in self.task.splits.values())
        return BarrierPlan(
            models=request.models,
            spec=ends.first.binding.spec.name,
            task=self.task.name,
            splits=self.task.splits,
            points=request.points,
            treatments=self.treatments.names,
            passes=states * treatments * samples,
            device=self.network.device_name,
            notes=(*ends.notes, *self.notes),
        )

    def record(
        self,
        ends: Ends,
        aligned: Sequence[Aligned],
        *,
        command: str,
        seconds: float,
        measured: Mapping[str, Any],
    ) -> Record:
        """Return the record of what was measured, without a verdict yet.

        Args:
            ends: the models.
            aligned: all but the first, or nothing.
            command: as it can be typed again.
            seconds: that it took.
            measured: what only a line, or only a plane, has.

        """
        facts: dict[str, object] = {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "tool": f"rebasin-hub {__version__}",
            "command": command,
            "models": ends.records,
            "spec": ends.first.binding.spec.name,
            "spec_digest": ends.first.spec_digest,
            "alignments": {
                letter: one.record for letter, one in zip(LETTERS[1:], aligned, strict=False)
            },
            "task": self.task_record(),
            "verdict": "",
            "notes": list(dict.fromkeys((*ends.notes, *self.notes))),
            "device": self.network.device_name,
            "versions": versions(),
            "seconds": round(seconds, 3),
        }
        return Record.model_validate({**facts, **measured})


def set_up(request: Request, ends: Ends) -> Setting:
    """Find the task and build its network for the models of a request.

    Raises:
        InputError: there is no such task, its data cannot be used, or the models do not fit it.
        MissingExtraError: a package that it needs is not installed.

    """
    task = find_task(request.task, request.options)
    network = task.network(ends.first.subject, request.matching.device)
    treatments = treatments_of(
        network,
        request.treatments,
        samples=request.samples,
        seed=request.seed,
    )
    return Setting(task, network, treatments)


def facts_of(request: Request, ends: Ends, setting: Setting) -> dict[str, object]:
    """Return whatever decides the scores of a point, as JSON values."""
    matching = request.matching
    stored = request.permutations
    return {
        "models": ends.digests,
        "spec": ends.first.spec_digest,
        "align": [
            request.align,
            matching.method,
            matching.seed,
            matching.restarts,
            matching.seconds,
            None if matching.start is None else file_digest(matching.start),
        ],
        "permutations": None if stored is None else file_digest(stored),
        "task": setting.task_record().model_dump(),
        "batch": request.options.batch,
        "samples": request.samples,
        "seed": request.seed,
        "device": setting.network.device_name,
        "versions": versions(),
        "tool": __version__,
    }


def versions() -> dict[str, str]:
    """Return the versions of the libraries that a result depends on, as far as they are in use."""
    loaded = {name: metadata.version(name) for name in LIBRARIES if name in sys.modules}
    return {"python": platform.python_version(), **loaded}
