"""`rebasin-hub experiment …`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rebasin_hub.app.options import (
    Data,
    Device,
    EngineOption,
    Json,
    WorkersOption,
    workers_of,
)

if TYPE_CHECKING:
    from rebasin_hub.pipeline.progress import Progress

__all__ = ["group"]

group = typer.Typer(rich_markup_mode="markdown")
"""Its help stands where it is named, in the package."""


@group.command("list", epilog="Example: `rebasin-hub experiment list`")
def list_experiments(json: Json = False) -> None:
    """List the experiments with their questions."""
    from rebasin_hub.experiments import EXPERIMENTS
    from rebasin_hub.report import show

    show([one.facts for one in EXPERIMENTS.values()], json=json)


@group.command(epilog="Example: `rebasin-hub experiment run width -o experiments`")
def run(
    name: Annotated[
        str, typer.Argument(help="An experiment of `experiment list`.", metavar="NAME")
    ],
    scale: Annotated[
        str,
        typer.Option(help="quick: minutes on two cores; paper: hours on a GPU, as published."),
    ] = "quick",
    task: Annotated[
        str | None,
        typer.Option(
            help="Images instead of the scale's own: digits, mnist, fashion-mnist, cifar10 or "
            "another image task; all but digits take --data."
        ),
    ] = None,
    data: Data = None,
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="A folder for figures, pictures and networks. An interrupted run with the same "
            "folder goes on where it was.",
            metavar="DIR",
        ),
    ] = Path("experiments"),
    docs: Annotated[
        Path | None,
        typer.Option(help="Write the page NAME.md into this folder as well.", metavar="DIR"),
    ] = None,
    device: Device = "auto",
    seeds: Annotated[
        int | None, typer.Option(help="Networks of each kind; as the scale says by default.", min=2)
    ] = None,
    workers: WorkersOption = None,
    engine: EngineOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="Measure again; trained networks are kept.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be measured, and train nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Train what an experiment needs, measure it, and say what was found.

    What is measured is kept cell by cell: after Ctrl-C the same command goes on.
    """
    from rebasin_hub.experiments import run_experiment
    from rebasin_hub.report import show

    with _progress(quiet=dry_run) as progress:
        result = run_experiment(
            name,
            scale=scale,
            task=task,
            data=data,
            output=output,
            docs=docs,
            device=device,
            seeds=seeds,
            force=force,
            dry_run=dry_run,
            workers=workers_of(workers, engine),
            command=shlex.join(["rebasin-hub", *sys.argv[1:]]),
            progress=progress,
        )
    show(result, json=json)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Progress | None]:
    """Yield a bar where stderr is a terminal, and a line for each cell elsewhere."""
    from rebasin_hub.report import progress_bar

    with progress_bar(quiet=quiet) as bar:
        yield bar if bar is not None or quiet else _lines()


def _lines() -> Progress:
    """Return a callback that writes a line to stderr whenever another cell is done."""
    last = -1

    def tell(stage: str, done: int, total: int) -> None:
        nonlocal last
        if done != last:
            typer.echo(f"[{done}/{total}] {stage}", err=True)
            last = done

    return tell
