"""The task, the network and the treatments of a measurement, and what decides its scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from rebasin_hub import __version__
from rebasin_hub.pipeline.barrier.setting import Setting, versions
from rebasin_hub.pipeline.barrier.treat import Treat, Treatments, treatments_of
from rebasin_hub.pipeline.connect.members import Member, notes_of
from rebasin_hub.pipeline.connect.request import Measuring
from rebasin_hub.pipeline.progress import Progress
from rebasin_hub.record.model import Treatment
from rebasin_hub.tasks import Network
from rebasin_hub.tasks.find import find_task

__all__ = ["common_facts", "facts_of", "set_up", "whole"]

NO_REPAIR = (
    "points are not repaired, as no layer keeps running statistics; --treatments repair does so"
)


def set_up(request: Measuring, members: Sequence[Member]) -> Setting:
    """Find the task and build its network for the models of a request.

    Raises:
        InputError: there is no such task, its data cannot be used, or the models do not fit it.
        MissingExtraError: a package that it needs is not installed.

    """
    task = find_task(request.task, request.options)
    network = task.network(members[0].model.subject, request.matching.device)
    return Setting(task, network, _treatments(request, network))


def _treatments(request: Measuring, network: Network) -> Treatments:
    """Return the treatments that were asked for, or those that are worth their time.

    Without running statistics a repair is of little use, and it takes as long as everything else.
    """
    found = treatments_of(network, request.treatments, samples=request.samples, seed=request.seed)
    if request.treatments is not None or "recomputed" in found.names:
        return found
    names = tuple(name for name in found.names if name != "repair")
    run: dict[Treatment, Treat] = {
        name: treat for name, treat in found.run.items() if name != "repair"
    }
    told = (NO_REPAIR,) if "repair" in found.names else found.notes
    return replace(found, names=names, run=run, notes=told)


def facts_of(request: Measuring, members: Sequence[Member], setting: Setting) -> dict[str, object]:
    """Return whatever decides the score of a point, or a permutation, as JSON values."""
    matching = request.matching
    return {
        "models": {member.label: member.digest for member in members},
        "masks": {m.label: m.masks.digest for m in members if m.masks.stored is not None},
        "spec": members[0].model.spec_digest,
        "align": [matching.method, matching.seed, matching.restarts, matching.seconds],
        "task": setting.task_record().model_dump(),
        "batch": request.options.batch,
        "calibrated": "calibrated" in setting.treatments.names,
        "samples": request.samples,
        "seed": request.seed,
        "device": setting.network.device_name,
        "versions": versions(),
        "tool": __version__,
    }


def common_facts(
    request: Measuring,
    members: Sequence[Member],
    setting: Setting,
    *,
    command: str,
    seconds: float,
) -> dict[str, object]:
    """Return what both kinds of records have, but for permutations and verdict."""
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "tool": f"rebasin-hub {__version__}",
        "command": command,
        "spec": members[0].model.binding.spec.name,
        "spec_digest": members[0].model.spec_digest,
        "method": request.matching.method,
        "seed": request.matching.seed,
        "task": setting.task_record(),
        "treatments": list(setting.treatments.names),
        "tolerance": request.tolerance,
        "notes": list(dict.fromkeys((*notes_of(members), *setting.notes))),
        "device": setting.network.device_name,
        "versions": versions(),
        "seconds": round(seconds, 3),
    }


def whole(progress: Progress | None, passes: int) -> Progress | None:
    """Return a progress of scoring that counts to the end of all, not of the lines so far."""
    if progress is None:
        return None
    tell: Callable[[str, int, int], None] = progress
    return lambda stage, done, total: tell(stage, done, max(total, passes))
