"""Measure connectivity, from checkpoints to a record on disk."""

from __future__ import annotations

import time
from math import comb
from pathlib import Path

from rebasin_hub.barrier import grid
from rebasin_hub.pipeline.barrier.measure import Measurer
from rebasin_hub.pipeline.barrier.points import Points
from rebasin_hub.pipeline.barrier.setting import Setting
from rebasin_hub.pipeline.connect.ahead import measure_ahead
from rebasin_hub.pipeline.connect.figures import negligible
from rebasin_hub.pipeline.connect.matrix import (
    connectivity_of,
    ends_of,
    measure_matrix,
    summaries_of,
)
from rebasin_hub.pipeline.connect.members import Source, notes_of, open_members, sources_of
from rebasin_hub.pipeline.connect.numberings import Searcher, cycle_error, find_numberings
from rebasin_hub.pipeline.connect.outputs import check_folder, write_record
from rebasin_hub.pipeline.connect.places import Places
from rebasin_hub.pipeline.connect.request import (
    ConnectPlan,
    ConnectRequest,
    TrajectoryPlan,
    TrajectoryRequest,
)
from rebasin_hub.pipeline.connect.setting import common_facts, facts_of, set_up, whole
from rebasin_hub.pipeline.connect.simplex import (
    edges_of,
    has_simplices,
    measure_simplices,
    simplex_grid,
    triples,
)
from rebasin_hub.pipeline.connect.trajectory import find_steps, measure_steps, step_records
from rebasin_hub.pipeline.connect.verdict import verdict_of_models, verdict_of_steps
from rebasin_hub.pipeline.progress import Progress
from rebasin_hub.record.connect import ConnectRecord, TrajectoryRecord
from rebasin_hub.workers import Workers

__all__ = ["connect_models", "connect_trajectories"]


def connect_models(
    request: ConnectRequest,
    output: Path | None = None,
    *,
    command: str = "",
    force: bool = False,
    dry_run: bool = False,
    workers: Workers | None = None,
    progress: Progress | None = None,
) -> ConnectPlan | ConnectRecord:
    """Measure weak and strong linear connectivity of models, modulo permutation.

    Weakly connected: for every pair some permutation removes the barrier. Strongly: one permutation
    for each model removes it in all pairs at once.

    Args:
        request: the models, the task, and how.
        output: a folder for the record and the permutation files. An interrupted measurement with
            the same folder goes on where it was.
        command: what stands in the record as the way to repeat it.
        force: replace an earlier record in the folder.
        dry_run: only return the plan; no model is run.
        workers: who aligns the pairs of models and measures the lines between them; by default
            this process, one after another.
        progress: told of each stage.

    Raises:
        InputError: a checkpoint, the spec, the task or its data cannot be used.
        OutputError: the folder has a record already or cannot be written.

    Source: Sharma et al. 2024 (arXiv:2404.06498).

    """
    started = time.monotonic()
    request.check()
    check_folder(output, force=force)
    with open_members(
        sources_of(request.models), request.choice, progress, read=not dry_run
    ) as members:
        setting = set_up(request, members)
        plan = _plan(request, setting, members[0].model.binding.spec.name, notes_of(members))
        if dry_run:
            return plan
        points = Points(output, facts_of(request, members, setting), force=force)
        searcher = Searcher(request, (setting.task, setting.network), points, progress, workers)
        numberings = find_numberings(members, request.measured, searcher)
        places = Places(members, _measurer(setting, points, whole(progress, plan.passes)))
        if has_simplices(request):
            places.wanted = edges_of(request, numberings, places)
        if workers is not None:
            measure_ahead(request, numberings, places, workers, progress)
        cells = list(measure_matrix(request, numberings, places))
        simplices = (
            list(measure_simplices(request, numberings, places)) if has_simplices(request) else []
        )
        summaries = summaries_of(cells, request.tolerance)
        seconds = time.monotonic() - started
        record = ConnectRecord.model_validate(
            common_facts(request, members, setting, command=command, seconds=seconds)
            | {
                "models": {member.label: member.record for member in members},
                "strategies": list(request.measured),
                "lambdas": list(grid(request.points)),
                "ends": ends_of(cells),
                "pairs": [cell.record for cell in cells],
                "summaries": summaries,
                "connectivity": connectivity_of(cells, summaries),
                "simplices": simplices,
                "cycle_error": {
                    strategy: cycle_error(numberings, strategy)
                    for strategy in request.measured
                    if strategy != "naive"
                },
                "permutations": numberings.records(),
                "verdict": "",
            }
        )
        record = record.model_copy(update={"verdict": verdict_of_models(record)})
        if output is not None:
            record = write_record(record, output, numberings.brought, force=force)
        points.clear()
        return record


def connect_trajectories(
    request: TrajectoryRequest,
    output: Path | None = None,
    *,
    command: str = "",
    force: bool = False,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> TrajectoryPlan | TrajectoryRecord:
    """Measure two trainings step by step, B renumbered by the permutation of the last step.

    Arguments and errors are those of `connect_models`.

    Source: Sharma et al. 2024 (arXiv:2404.06498).

    """
    started = time.monotonic()
    request.check()
    check_folder(output, force=force)
    with open_members(_steps(request), request.choice, progress, read=not dry_run) as members:
        setting = set_up(request, members)
        plan = _step_plan(request, setting, members[0].model.binding.spec.name, notes_of(members))
        if dry_run:
            return plan
        points = Points(output, facts_of(request, members, setting), force=force)
        searcher = Searcher(request, (setting.task, setting.network), points, progress)
        steps = find_steps(request, members, searcher)
        places = Places(members, _measurer(setting, points, whole(progress, plan.passes)))
        curves = list(measure_steps(request, steps, places))
        seconds = time.monotonic() - started
        record = TrajectoryRecord.model_validate(
            common_facts(request, members, setting, command=command, seconds=seconds)
            | {
                "lambdas": list(grid(request.points)),
                "steps": step_records(steps),
                "curves": curves,
                "permutations": steps.records(),
                "verdict": "",
            }
        )
        split = next(iter(record.task.splits))
        left = [
            negligible(
                curve.entezari.loss.value,
                ((curve.loss[0] or 0.0) + (curve.loss[-1] or 0.0)) / 2,
                request.tolerance,
            )
            for curve in curves
            if (curve.split, curve.numbering, curve.treatment) == (split, "last", "as is")
        ]
        record = record.model_copy(update={"verdict": verdict_of_steps(record, left)})
        if output is not None:
            record = write_record(record, output, steps.brought, force=force)
        points.clear()
        return record


def _steps(request: TrajectoryRequest) -> list[Source]:
    """Return the checkpoints of A, named A0 and so on, and then those of B."""
    sources = []
    for letter, paths, masks in (
        ("A", request.a, request.masks_a),
        ("B", request.b, request.masks_b),
    ):
        for step, path in enumerate(paths):
            sources.append(Source(f"{letter}{step}", path, masks[step] if masks else None))
    return sources


def _measurer(setting: Setting, points: Points, progress: Progress | None) -> Measurer:
    return Measurer(setting.network, setting.treatments, setting.task.splits, points, progress)


def _plan(
    request: ConnectRequest, setting: Setting, spec: str, notes: tuple[str, ...]
) -> ConnectPlan:
    count = len(request.models)
    pairs = comb(count, 2)
    simplices = len(triples(count)) if has_simplices(request) else 0
    columns = len(setting.treatments.run)
    # The ends of all lines are the models themselves; a simplex's corners and maybe its edges too.
    inner = pairs * (request.points - 2) * len(request.measured) + count
    joint = sum(strategy != "pairwise" for strategy in request.measured)
    inside = simplices * (len(simplex_grid(request.resolution)) - 3) * joint
    samples = sum(split.count for split in setting.task.splits.values())
    return ConnectPlan(
        models=request.models,
        spec=spec,
        task=setting.task.name,
        splits=setting.task.splits,
        strategies=request.measured,
        pairs=pairs,
        simplices=simplices,
        points=request.points,
        treatments=setting.treatments.names,
        passes=(inner * columns + inside) * samples,
        device=setting.network.device_name,
        notes=(*notes, *setting.notes),
    )


def _step_plan(
    request: TrajectoryRequest, setting: Setting, spec: str, notes: tuple[str, ...]
) -> TrajectoryPlan:
    numberings = 3 if request.own else 2
    states = len(request.a) * (numberings * (request.points - 2) + 2)
    samples = sum(split.count for split in setting.task.splits.values())
    return TrajectoryPlan(
        a=request.a,
        b=request.b,
        spec=spec,
        task=setting.task.name,
        splits=setting.task.splits,
        points=request.points,
        treatments=setting.treatments.names,
        passes=states * len(setting.treatments.run) * samples,
        device=setting.network.device_name,
        notes=(*notes, *setting.notes),
    )
