"""`rebasin-hub connect`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rebasin_hub.app.options import (
    Batch,
    Data,
    Device,
    DryRun,
    EngineOption,
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
    WorkersOption,
    choice_of,
    task_options,
    workers_of,
)

if TYPE_CHECKING:
    from rebasin_hub.pipeline.connect import TrajectoryRequest

__all__ = ["EXAMPLE", "connect"]

EXAMPLE = (
    "Example: `rebasin-hub connect a.safetensors b.safetensors c.safetensors --task mnist "
    "--data data/ -o report`"
)
TRAJECTORIES = 2


def connect(
    models: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Two checkpoints or more, the first one being the reference; with --trajectory "
            "two folders of checkpoints, or text files that list them.",
            metavar="A B [C …]",
        ),
    ] = None,
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
            help="A folder for the record, the report, the picture and the permutation files. "
            "An interrupted run with the same folder goes on where it was.",
            metavar="DIR",
        ),
    ] = None,
    strategies: Annotated[
        str | None,
        typer.Option(
            help="Only these numberings, of: naive, pairwise, reference, universe; the first two "
            "are always measured."
        ),
    ] = None,
    points: Annotated[int, typer.Option(help="Of each line.", min=3)] = 25,
    simplex: Annotated[
        bool | None,
        typer.Option(
            "--simplex/--no-simplex",
            help="Measure the triangle between three models; by default where there are three.",
        ),
    ] = None,
    resolution: Annotated[
        int, typer.Option(help="Intervals along each edge of a triangle.", min=2)
    ] = 12,
    trajectory: Annotated[
        bool,
        typer.Option("--trajectory", help="Compare two trainings step by step."),
    ] = False,
    step_a: Annotated[
        list[Path] | None,
        typer.Option(help="A checkpoint of the first training; again for each step.", metavar="A"),
    ] = None,
    step_b: Annotated[
        list[Path] | None,
        typer.Option(help="A checkpoint of the second training; again for each.", metavar="B"),
    ] = None,
    masks: Annotated[
        list[Path] | None,
        typer.Option(
            help="Masks of pruned checkpoints, twice: a folder, a list or a file for each of the "
            "two trainings. By default weights that are zero are pruned.",
            metavar="MASKS",
        ),
    ] = None,
    own: Annotated[
        bool,
        typer.Option(
            "--own/--no-own", help="Measure each step with a permutation of its own as well."
        ),
    ] = True,
    tolerance: Annotated[
        float,
        typer.Option(
            help="A barrier of at most this share of the ends' mean loss is none.", min=0, max=1
        ),
    ] = 0.01,
    treatments: Annotated[
        str | None,
        typer.Option(
            help="Only these columns, such as `as is,repair`, of: as is, calibrated, recomputed, "
            "repair. By default the latter two only for networks with running statistics."
        ),
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Samples that statistics are measured on.", min=1)
    ] = 5000,
    limit: Limit = None,
    batch: Batch = None,
    settings: Settings = None,
    method: Method = "weight",
    seconds: Seconds = None,
    spec: SpecOption = None,
    size: Sizes = None,
    device: Device = "auto",
    restarts: Restarts = None,
    seed: Seed = 0,
    workers: WorkersOption = None,
    engine: EngineOption = None,
    force: Force = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Tell whether models are connected by straight lines without a barrier, once renumbered.

    Weakly: some permutation for each pair of models; strongly: one permutation for each model, for
    all pairs at once. With --trajectory: one permutation for all steps of a training.
    """
    from rebasin_hub.pipeline.connect import (
        STRATEGIES,
        ConnectRequest,
        connect_models,
        connect_trajectories,
    )
    from rebasin_hub.pipeline.locate import locate
    from rebasin_hub.pipeline.matching import Matching
    from rebasin_hub.record.connect import ConnectRecord, TrajectoryRecord
    from rebasin_hub.report import progress_bar, show
    from rebasin_hub.report.connect import save_connect_report

    choice = choice_of(spec, size)
    common: dict[str, Any] = {
        "task": task,
        "options": task_options(data, limit, batch, settings, seed),
        "choice": choice,
        "matching": Matching(method, device, seed, restarts, seconds=seconds),
        "points": points,
        "treatments": _words(treatments, dashes=True),
        "samples": samples,
        "seed": seed,
        "tolerance": tolerance,
    }
    told: dict[str, Any] = {
        "command": shlex.join(["rebasin-hub", *sys.argv[1:]]),
        "force": force,
        "dry_run": dry_run,
    }
    given = models or []
    spread = workers_of(workers, engine)
    result: object
    if trajectory:
        if spread is not None:
            raise typer.BadParameter("--workers and --engine share the pairs of many models alone")
        request = _trajectories(given, step_a, step_b, masks, {**common, "own": own})
        with progress_bar(quiet=dry_run) as progress:
            result = connect_trajectories(request, output, **told, progress=progress)
    else:
        _refuse_steps(step_a, step_b, masks)
        if len(given) < 2:  # noqa: PLR2004
            raise typer.BadParameter(f"connectivity takes two models or more, and not {len(given)}")
        asked = ConnectRequest(
            models=tuple(locate(given, choice)),
            strategies=_words(strategies) or STRATEGIES,
            simplex=simplex,
            resolution=resolution,
            **common,
        )
        with progress_bar(quiet=dry_run) as progress:
            result = connect_models(asked, output, **told, workers=spread, progress=progress)
    if output is not None and isinstance(result, ConnectRecord | TrajectoryRecord):
        save_connect_report(result, output, force=force)
    show(result, json=json)


def _trajectories(
    given: Sequence[Path],
    step_a: Sequence[Path] | None,
    step_b: Sequence[Path] | None,
    masks: Sequence[Path] | None,
    common: dict[str, Any],
) -> TrajectoryRequest:
    from rebasin_hub.pipeline.connect import TrajectoryRequest
    from rebasin_hub.pipeline.connect.listing import listed

    if step_a or step_b:
        if given:
            raise typer.BadParameter("give two folders or lists, or --step-a and --step-b")
        a, b = tuple(step_a or ()), tuple(step_b or ())
    else:
        if len(given) != TRAJECTORIES:
            raise typer.BadParameter(
                f"--trajectory takes two folders or lists of checkpoints, and not {len(given)}"
            )
        a, b = (listed(path) for path in given)
    if masks and len(masks) != TRAJECTORIES:
        raise typer.BadParameter(
            f"--masks was given {len(masks)} times; it takes one folder or list for each training"
        )
    masks_a, masks_b = (listed(path, masks=True) for path in masks) if masks else ((), ())
    return TrajectoryRequest(a=a, b=b, masks_a=masks_a, masks_b=masks_b, **common)


def _words(text: str | None, *, dashes: bool = False) -> tuple[str, ...] | None:
    """Read `as is,repair`; with `dashes` they do for spaces."""
    if text is None:
        return None
    words = (part.strip() for part in text.split(","))
    return tuple(word.replace("-", " ") if dashes else word for word in words)


def _refuse_steps(*options: Sequence[Path] | None) -> None:
    if any(options):
        raise typer.BadParameter("--step-a, --step-b and --masks belong to --trajectory")
