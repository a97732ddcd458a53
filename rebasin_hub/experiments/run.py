"""Run an experiment: from its settings to figures, a picture and a page."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebasin_hub import __version__
from rebasin_hub.errors import InputError
from rebasin_hub.experiments.catalogue import find_experiment
from rebasin_hub.experiments.cells import Cells, Tell, label
from rebasin_hub.experiments.data import DataFacts, facts_of, make_folder
from rebasin_hub.experiments.experiment import SCALES, Cell, Experiment, Settings
from rebasin_hub.experiments.lab import Lab
from rebasin_hub.experiments.outputs import write_page, write_result
from rebasin_hub.experiments.result import ExperimentPlan, ExperimentResult
from rebasin_hub.experiments.summary import summarize
from rebasin_hub.workers import Workers

if TYPE_CHECKING:
    from rebasin_hub.pipeline.progress import Progress

__all__ = ["run_experiment"]

FOLDER = Path("experiments")
PACKAGES = ("numpy", "scipy", "torch", "scikit-learn")


def run_experiment(
    name: str,
    *,
    scale: str = "quick",
    task: str | None = None,
    data: Path | None = None,
    output: Path = FOLDER,
    docs: Path | None = None,
    device: str = "auto",
    seeds: int | None = None,
    force: bool = False,
    dry_run: bool = False,
    workers: Workers | None = None,
    command: str = "",
    progress: Progress | None = None,
) -> ExperimentResult | ExperimentPlan:
    """Measure every cell of an experiment, and write what was found.

    Args:
        name: of `EXPERIMENTS`.
        scale: `quick` takes minutes on two cores, `paper` hours on a GPU.
        task: the data to take instead of the scale's own, as `--task` of the barrier.
        data: its folder or file, where it needs one.
        output: the folder for figures and pictures, cells and networks. An interrupted run with
            the same folder goes on where it was; networks serve all experiments.
        docs: a folder for a page of Markdown, `NAME.md`.
        device: auto, cpu, cuda, cuda:N or mps.
        seeds: networks of each kind instead of the scale's own number.
        force: measure all cells again; networks are kept, for the same settings give the same.
        dry_run: only return the plan.
        workers: who measures the cells; by default this process, one after another.
        command: what stands in the result as the way to repeat it.
        progress: told what is being done, and how many cells are done of all.

    Raises:
        InputError: there is no such experiment, scale, task or device, or its data cannot be used.
        MissingExtraError: torch, scikit-learn or matplotlib is not installed.
        OutputError: a folder cannot be written.
        RebasinError: a cell cannot be measured; those before it are kept.

    """
    experiment = find_experiment(name)
    settings = _settings(experiment, scale, task, data, seeds)
    facts = facts_of(settings["task"], data) if experiment.needs_task else None
    setup = _Setup(experiment, scale, settings, facts, _device(device))
    cells = Cells(experiment, experiment.cells(settings), output, setup.circumstances)
    if dry_run:
        return setup.plan(output, len(cells.cells), 0 if force else cells.measured)
    make_folder(output)
    lab = setup.lab(output, data, device)
    if workers is None:
        rows, seconds = cells.run(lab, _teller(cells, progress), force=force)
    else:
        rows, seconds = cells.spread(lab, workers, _teller(cells, progress), force=force)
    result = write_result(setup.result(rows, seconds, command), experiment, output)
    return result if docs is None else write_page(result, docs)


@dataclass(frozen=True, eq=False)
class _Setup:
    """An experiment with its settings, its data if it needs any, and its device."""

    experiment: Experiment
    scale: str
    settings: Settings
    data: DataFacts | None
    device: str

    @property
    def task(self) -> str | None:
        found: str | None = self.settings.get("task")
        return found

    @property
    def circumstances(self) -> dict[str, Any]:
        """What decides figures beside a cell."""
        return {
            "task": self.task,
            "data": dict(self.data.digests) if self.data else None,
            "device": self.device.partition(":")[0],
        }

    def lab(self, folder: Path, data: Path | None, device: str) -> Lab:
        if self.data is None:
            return Lab(folder, device=device)
        shape, classes = self.data.shape, self.data.classes
        return Lab(folder, self.settings["task"], data, shape, classes, device)

    def plan(self, output: Path, cells: int, measured: int) -> ExperimentPlan:
        return ExperimentPlan(
            experiment=self.experiment.name,
            title=self.experiment.title,
            scale=self.scale,
            task=self.task,
            settings=self.settings,
            cells=cells,
            measured=measured,
            device=self.device,
            output=output,
        )

    def result(self, rows: list[dict[str, Any]], seconds: float, command: str) -> ExperimentResult:
        one, data = self.experiment, self.data
        table = summarize(rows, one.columns)
        return ExperimentResult(
            experiment=one.name,
            title=one.title,
            question=one.question,
            protocol=one.protocol,
            source=one.source,
            scale=self.scale,
            task=self.task,
            data={} if data is None else {"counts": data.counts, "digests": data.digests},
            settings=self.settings,
            columns=one.columns,
            rows=rows,
            table=table,
            findings=one.findings(rows, table),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            seconds=round(seconds, 1),
            device=_described(self.device),
            machine=_machine(),
            versions=_versions(),
            command=command,
        )


def _settings(
    experiment: Experiment, scale: str, task: str | None, data: Path | None, seeds: int | None
) -> Settings:
    if scale not in SCALES:
        raise InputError(f"there is no scale '{scale}'; there are {' and '.join(SCALES)}")
    settings = dict(experiment.scales[scale])
    if not experiment.needs_task and (task is not None or data is not None):
        raise InputError(f"the experiment '{experiment.name}' needs no data; leave out --task")
    if task is not None:
        settings["task"] = task
    if seeds is not None:
        if seeds < 2 or "seeds" not in settings:  # noqa: PLR2004
            raise InputError(f"seeds is {seeds}; '{experiment.name}' " + _wanted(settings))
        settings["seeds"] = seeds
    return settings


def _wanted(settings: Settings) -> str:
    return "takes 2 or more" if "seeds" in settings else "trains no networks; leave it out"


def _device(device: str) -> str:
    """Return the device that is meant, such as cuda for auto."""
    from rebasin_hub.align.backend import select

    return select(device).device or "cpu"


def _teller(cells: Cells, progress: Progress | None) -> Tell:
    def tell(cell: Cell, number: int, stage: str) -> None:
        if progress is not None:
            progress(f"{label(cell)}: {stage}", number, len(cells.cells))

    return tell


def _described(device: str) -> str:
    if not device.startswith("cuda"):
        return device
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})"


def _machine() -> dict[str, Any]:
    return {
        "system": platform.system(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
    }


def _versions() -> dict[str, str]:
    found = {"rebasin-hub": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
