"""`rebasin-hub align-many`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rebasin_hub.app.options import (
    Batch,
    Data,
    Device,
    EngineOption,
    Force,
    Json,
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

__all__ = ["EXAMPLE", "align_many"]

EXAMPLE = (
    "Example: `rebasin-hub align-many a.safetensors b.safetensors c.safetensors -o permutations`"
)


def align_many(
    models: Annotated[
        list[Path], typer.Argument(help="Two checkpoints or more.", metavar="MODEL…")
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A folder for the permutation files.", metavar="DIR"),
    ] = None,
    strategy: Annotated[
        str,
        typer.Option(
            help="`reference` (each to the first), `hierarchical` (a tree of pairs), `merge-many` "
            "(each to the mean of the others), `universe` (all together, by Frank-Wolfe), or "
            "`pairwise` (every pair on its own)."
        ),
    ] = "universe",
    method: Method = "weight",
    task: Annotated[
        str | None,
        typer.Option(
            help="What the networks compute on, for methods that look at it; `rebasin-hub tasks` "
            "lists what there is."
        ),
    ] = None,
    data: Data = None,
    batch: Batch = None,
    settings: Settings = None,
    seconds: Seconds = None,
    spec: SpecOption = None,
    size: Sizes = None,
    device: Device = "auto",
    restarts: Restarts = None,
    seed: Seed = 0,
    workers: WorkersOption = None,
    engine: EngineOption = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Find the permutations that bring many models together, a small file for each.

    All come into the numbering of the first; the error of the way round any three is measured.
    """
    from rebasin_hub.pipeline.aligning_many import align_together
    from rebasin_hub.pipeline.locate import locate
    from rebasin_hub.pipeline.matching import Matching
    from rebasin_hub.report import progress_bar, show

    choice = choice_of(spec, size)
    matching = Matching(
        method,
        device,
        seed,
        restarts,
        seconds=seconds,
        task=task,
        options=task_options(data, None, batch, settings, seed),
    )
    with progress_bar() as progress:
        result = align_together(
            locate(models, choice),
            output,
            strategy=strategy,
            choice=choice,
            matching=matching,
            force=force,
            workers=workers_of(workers, engine),
            progress=progress,
        )
    show(result, json=json)
