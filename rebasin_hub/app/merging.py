"""`rebasin-hub merge`: models on the command line, or a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rebasin_hub.app.options import (
    Batch,
    Data,
    Device,
    DryRun,
    Force,
    Json,
    Limit,
    MaxMemory,
    Restarts,
    Settings,
    Sizes,
    SpecOption,
    bound_of,
    choice_of,
    floats,
    stored_type,
    task_options,
)

if TYPE_CHECKING:
    from rebasin_hub.pipeline.matching import Matching
    from rebasin_hub.pipeline.merging import Recipe
    from rebasin_hub.pipeline.models import Choice

__all__ = ["EXAMPLE", "merge"]

EXAMPLE = "Example: `rebasin-hub merge a.safetensors b.safetensors -o merged.safetensors`"
FREE = {"models", "output", "device", "max_memory", "no_digests", "force", "dry_run", "json"}
"""What a recipe does not say."""


def merge(
    context: typer.Context,
    models: Annotated[
        list[Path],
        typer.Argument(help="Two checkpoints or more, or a recipe (.yaml).", metavar="MODEL…"),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write.", metavar="OUT")],
    weights: Annotated[
        str | None,
        typer.Option(help="One for each model, such as 0.7,0.3; equal ones by default."),
    ] = None,
    method: Annotated[str, typer.Option(help="linear or slerp.")] = "linear",
    dtype: Annotated[
        str | None,
        typer.Option(help="Stored type of the result, such as BF16; the first model's by default."),
    ] = None,
    no_align: Annotated[
        bool, typer.Option("--no-align", help="Merge the models as they are numbered.")
    ] = False,
    align_method: Annotated[str, typer.Option(help="How to align, as of `align`.")] = "weight",
    strategy: Annotated[
        str,
        typer.Option(
            help="What to align three models or more to: `reference` (each to the first), "
            "`hierarchical` (a tree of pairs), `merge-many` (each to the mean of the others) or "
            "`universe` (all together, by Frank-Wolfe)."
        ),
    ] = "reference",
    task: Annotated[
        str | None,
        typer.Option(help="What to measure the merge on; see `rebasin-hub tasks`.", metavar="TASK"),
    ] = None,
    data: Data = None,
    limit: Limit = None,
    batch: Batch = None,
    settings: Settings = None,
    select_weight: Annotated[
        bool,
        typer.Option(
            "--select-weight", help="Take the weight with the least loss on the task, of 25."
        ),
    ] = False,
    select_layer_weights: Annotated[
        bool,
        typer.Option(
            "--select-layer-weights",
            help="Take a weight for each layer, by gradient descent on the task's loss (layer-wise "
            "λ); on average they stay those of --weights.",
        ),
    ] = False,
    repair: Annotated[
        str | None,
        typer.Option(
            help="`recompute` the merged network's running statistics on the task's data, or "
            "`repair` each channel's mean and deviation.",
            metavar="HOW",
        ),
    ] = None,
    spec: SpecOption = None,
    size: Sizes = None,
    device: Device = "auto",
    restarts: Restarts = None,
    seed: Annotated[int, typer.Option(help="Seed of everything random.", min=0)] = 0,
    max_memory: MaxMemory = None,
    no_digests: Annotated[
        bool,
        typer.Option(
            "--no-digests",
            help="Do not hash the models: the result then tells their names alone, and is there "
            "sooner.",
        ),
    ] = False,
    force: Force = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Average models, brought into one numbering before.

    A recipe has mergekit's keys where they mean the same (docs/merging.md).
    """
    from rebasin_hub.pipeline.locate import locate
    from rebasin_hub.pipeline.matching import Matching
    from rebasin_hub.pipeline.merging import Measured, Recipe
    from rebasin_hub.pipeline.merging import merge as run
    from rebasin_hub.report import progress_bar, show

    if len(models) == 1 and models[0].suffix.lower() in {".yaml", ".yml"}:
        _refuse_beside_recipe(context)
        paths, recipe, choice, matching = _read(models[0], device)
    else:
        options = task_options(data, limit, batch, settings)
        paths, choice = models, choice_of(spec, size)
        matching = Matching(align_method, device, seed, restarts)
        recipe = Recipe(
            method=method,
            weights=floats(weights),
            dtype=stored_type(dtype),
            align=not no_align,
            strategy=strategy,
            measured=None if task is None else Measured(task, options),
            select_weight=select_weight,
            select_layer_weights=select_layer_weights,
            repair=repair,
        )
    with progress_bar(quiet=dry_run) as progress:
        result = run(
            locate(paths, choice),
            output,
            recipe,
            choice=choice,
            matching=matching,
            force=force,
            dry_run=dry_run,
            digests=not no_digests,
            bound=bound_of(max_memory),
            progress=progress,
        )
    show(result, json=json)


def _refuse_beside_recipe(context: typer.Context) -> None:
    """Refuse options that say what the recipe says.

    Raises:
        typer.BadParameter: naming the first one.

    """
    for name in context.params:
        source = context.get_parameter_source(name)
        if name not in FREE and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                f"--{name.replace('_', '-')} stands in the recipe; change it there"
            )


def _read(path: Path, device: str) -> tuple[list[Path], Recipe, Choice, Matching]:
    from rebasin_hub.pipeline.matching import Matching
    from rebasin_hub.pipeline.merging import Measured, Recipe
    from rebasin_hub.pipeline.models import Choice
    from rebasin_hub.recipefile import load_recipe
    from rebasin_hub.tasks import Options

    read = load_recipe(path)
    measured = None
    if read.task is not None:
        batch = {} if read.task.batch is None else {"batch": read.task.batch}
        options = Options(data=read.data, limit=read.task.limit, settings=read.task.set, **batch)
        measured = Measured(read.task.name, options)
    recipe = Recipe(
        method=read.method,
        weights=read.weighting,
        dtype=read.dtype,
        align=read.align is not None,
        strategy=read.align.strategy if read.align is not None else "reference",
        measured=measured,
        select_weight=read.select_weight,
        select_layer_weights=read.select_layer_weights,
        repair=read.repair,
    )
    found = read.align
    matching = (
        Matching(device=device)
        if found is None
        else Matching(found.method, device, found.seed, found.restarts)
    )
    return list(read.models), recipe, Choice(read.spec, read.sizes), matching
