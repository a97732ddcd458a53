"""`rebasin-hub barrier` and `rebasin-hub tasks`."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from rebasin_hub.app.options import (
    Batch,
    Data,
    Device,
    DryRun,
    Force,
    Json,
    Limit,
    Method,
    Restarts,
    Seconds,
    Seed,
    Settings,
    Sizes,
    SpecOption,
    Start,
    choice_of,
    task_options,
)

__all__ = ["EXAMPLE", "barrier", "tasks"]

EXAMPLE = (
    "Example: `rebasin-hub barrier a.safetensors b.safetensors --task mnist --data data/ -o report`"
)

PLANE_POINTS = 21


def barrier(
    models: Annotated[
        list[Path], typer.Argument(help="Two checkpoints; three with --plane.", metavar="A B [C]")
    ],
    task: Annotated[
        str,
        typer.Option(help="What to measure on; `rebasin-hub tasks` lists what there is."),
    ] = "digits",
    data: Data = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="A folder for the record, the report, the picture and the permutation file. "
            "An interrupted run with the same folder goes on where it was.",
            metavar="DIR",
        ),
    ] = None,
    plane: Annotated[
        bool, typer.Option("--plane", help="Draw the loss on the plane through three models.")
    ] = False,
    points: Annotated[
        int | None,
        typer.Option(help="Of the line (25), or along each axis of a plane (21).", min=3),
    ] = None,
    treatments: Annotated[
        str | None,
        typer.Option(
            help="Only these columns, such as `as is,repair`, of: as is, calibrated, recomputed, "
            "repair; all that the network allows by default."
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Samples that statistics are measured on.", min=1)
    ] = 5000,
    limit: Limit = None,
    batch: Batch = None,
    settings: Settings = None,
    permutations: Annotated[
        Path | None, typer.Option(help="Align B by this permutation file.", metavar="FILE")
    ] = None,
    no_align: Annotated[
        bool, typer.Option("--no-align", help="Measure the models as they are numbered.")
    ] = False,
    align_method: Method = "weight",
    start: Start = None,
    seconds: Seconds = None,
    spec: SpecOption = None,
    size: Sizes = None,
    device: Device = "auto",
    restarts: Restarts = None,
    seed: Seed = 0,
    force: Force = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Measure how much the loss rises on the straight line between two models.

    Naive and aligned side by side, as is and repaired, with both ends and their ensemble.
    """
    from rebasin_hub.barrier import POINTS
    from rebasin_hub.pipeline.barrier import Request, measure_barrier
    from rebasin_hub.pipeline.barrier.request import LINE, PLANE
    from rebasin_hub.pipeline.locate import locate
    from rebasin_hub.pipeline.matching import Matching
    from rebasin_hub.record import Record
    from rebasin_hub.report import progress_bar, save_report, show

    if len(models) != (PLANE if plane else LINE):
        raise typer.BadParameter(
            ("--plane takes three models" if plane else "a line takes two models, --plane three")
            + f", and not {len(models)}"
        )
    choice = choice_of(spec, size)
    request = Request(
        models=tuple(locate(models, choice)),
        task=task,
        options=task_options(data, limit, batch, settings, seed),
        choice=choice,
        matching=Matching(align_method, device, seed, restarts, start, seconds),
        permutations=permutations,
        align=not no_align,
        points=points or (PLANE_POINTS if plane else POINTS),
        treatments=_treatments(treatments),
        samples=samples,
        seed=seed,
    )
    with progress_bar(quiet=dry_run) as progress:
        result = measure_barrier(
            request,
            output,
            command=shlex.join(["rebasin-hub", *sys.argv[1:]]),
            force=force,
            dry_run=dry_run,
            progress=progress,
        )
    if output is not None and isinstance(result, Record):
        save_report(result, output, force=force)
    show(result, json=json)


def _treatments(text: str | None) -> tuple[str, ...] | None:
    """Read `as is,repair`; dashes do for spaces."""
    return None if text is None else tuple(p.strip().replace("-", " ") for p in text.split(","))


def tasks(json: Json = False) -> None:
    """List what barriers can be measured on."""
    from rebasin_hub.report import show
    from rebasin_hub.tasks.find import TASKS

    show(list(TASKS.values()), json=json)
