"""Measure the lines of all pairs by workers, before the record asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from secrets import token_hex

from rebasin_hub.permute import Element
from rebasin_hub.pipeline.barrier.measure import Measurer
from rebasin_hub.pipeline.barrier.points import Measured, Points
from rebasin_hub.pipeline.connect.matrix import pair_jobs
from rebasin_hub.pipeline.connect.members import open_members, sources_of
from rebasin_hub.pipeline.connect.numberings import Numberings
from rebasin_hub.pipeline.connect.places import Places
from rebasin_hub.pipeline.connect.request import ConnectRequest
from rebasin_hub.pipeline.connect.setting import set_up
from rebasin_hub.pipeline.progress import Progress, stage
from rebasin_hub.record.connect import Strategy
from rebasin_hub.workers import Kept, Workers

__all__ = ["measure_ahead"]


@dataclass(frozen=True)
class _Run:
    """What all pairs share; `mark` tells runs apart, for files may have changed since another."""

    request: ConnectRequest
    mark: str = field(default_factory=partial(token_hex, 8))


@dataclass(frozen=True, eq=False)
class _Pair:
    """The lines between two models; points in `known` are left out."""

    run: _Run
    numbers: tuple[int, int]
    elements: Mapping[Strategy, Sequence[Element]]
    known: frozenset[str]

    def __str__(self) -> str:
        first, second = (self.run.request.models[number] for number in self.numbers)
        return f"{first} to {second}"


def measure_ahead(
    request: ConnectRequest,
    numberings: Numberings,
    places: Places,
    workers: Workers,
    progress: Progress | None,
) -> None:
    """Have workers measure every pair's lines, and keep the points where `places` finds them.

    Raises:
        RebasinError: a pair cannot be measured; the points of those before it are kept.

    """
    measurer, jobs, run = places.measurer, [], _Run(request)
    for numbers in combinations(range(len(numberings.members)), 2):
        elements = {s: numberings.elements(s, numbers) for s in request.measured}
        lines = pair_jobs(request, places, numbers, elements).values()
        names = {job.name for line in lines for column in line.values() for job in column}
        known = frozenset(name for name in names if measurer.points.load(name) is not None)
        if known < names:
            jobs.append(_Pair(run, numbers, elements, known))
    try:
        for _, found in workers.run(_measure, jobs, progress=stage(progress, "measuring lines")):
            for name, point in found.items():
                measurer.points.save(name, point)
                if measurer.points.load(name) is None:  # there is no folder to read it from
                    measurer.known[name] = point
    finally:
        _opened.close()


def _open(run: _Run, stack: ExitStack) -> Places:
    request = run.request
    sources = sources_of(request.models)
    members = stack.enter_context(open_members(sources, request.choice, None, read=False))
    setting = set_up(request, members)
    nowhere = Points(None, {}, force=False)
    return Places(
        members, Measurer(setting.network, setting.treatments, setting.task.splits, nowhere)
    )


_opened = Kept(_open)


def _measure(pair: _Pair) -> dict[str, Mapping[str, Measured]]:
    places = _opened.of(pair.run)
    lines = pair_jobs(pair.run.request, places, pair.numbers, pair.elements).values()
    every = [job for line in lines for column in line.values() for job in column]
    found = places.measurer.run([job for job in every if job.name not in pair.known])
    places.forget(every)
    return found
