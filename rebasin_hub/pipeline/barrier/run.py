"""Measure the loss between models, from checkpoints to a record on disk."""

from __future__ import annotations

import time
from pathlib import Path

from rebasin_hub.pipeline.barrier.ends import open_ends
from rebasin_hub.pipeline.barrier.line import measure_line
from rebasin_hub.pipeline.barrier.measure import Measurer
from rebasin_hub.pipeline.barrier.outputs import check_folder, write_record
from rebasin_hub.pipeline.barrier.plane import measure_plane
from rebasin_hub.pipeline.barrier.points import Points
from rebasin_hub.pipeline.barrier.request import BarrierPlan, Request
from rebasin_hub.pipeline.barrier.setting import facts_of, set_up
from rebasin_hub.pipeline.barrier.verdict import verdict_of
from rebasin_hub.pipeline.progress import Progress
from rebasin_hub.record import Record

__all__ = ["measure_barrier"]


def measure_barrier(
    request: Request,
    output: Path | None = None,
    *,
    command: str = "",
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> BarrierPlan | Record:
    """Measure the line between two models, or the plane through three.

    Args:
        request: the models, the task, and how.
        output: a folder for the record and the permutation files. An interrupted measurement with
            the same folder goes on where it was.
        command: what stands in the record as the way to repeat it.
        force: replace an earlier report in the folder.
        dry_run: only return the plan; no model is run.
        progress: told of each stage.

    Raises:
        InputError: a checkpoint, the spec, the task or its data cannot be used.
        OutputError: the folder has a report already or cannot be written.

    """
    started = time.monotonic()
    request.check()
    check_folder(output, force=force)
    with open_ends(request, progress, read=not dry_run) as ends:
        setting = set_up(request, ends)
        if dry_run:
            return setting.plan(request, ends)
        points = Points(output, facts_of(request, ends, setting), force=force)
        aligned = ends.align(request, points, progress, (setting.task, setting.network))
        measurer = Measurer(
            setting.network, setting.treatments, setting.task.splits, points, progress
        )
        if request.is_plane:
            measured = measure_plane(request.points, ends, aligned, measurer)
        else:
            measured = measure_line(request.points, request.seed, ends, aligned, measurer)
        seconds = time.monotonic() - started
        record = setting.record(ends, aligned, command=command, seconds=seconds, measured=measured)
        record = record.model_copy(update={"verdict": verdict_of(record)})
        if output is not None:
            record = write_record(record, output, aligned, force=force)
        points.clear()
        return record
