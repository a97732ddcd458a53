"""The command line: each command parses its arguments, makes one pipeline call and one report.

Heavy modules are imported inside the commands, so that `--help` and `spec validate` start fast.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from rebasin_hub import __version__
from rebasin_hub.app.barrier import EXAMPLE as BARRIER_EXAMPLE
from rebasin_hub.app.barrier import barrier, tasks
from rebasin_hub.app.connect import EXAMPLE as CONNECT_EXAMPLE
from rebasin_hub.app.connect import connect
from rebasin_hub.app.convert import EXAMPLE as CONVERT_EXAMPLE
from rebasin_hub.app.convert import convert
from rebasin_hub.app.hub import (
    CARD_EXAMPLE,
    PULL_EXAMPLE,
    PUSH_EXAMPLE,
    card,
    hub_app,
    pull,
    push,
)
from rebasin_hub.app.lazy import lazy_group
from rebasin_hub.app.many import EXAMPLE as MANY_EXAMPLE
from rebasin_hub.app.many import align_many
from rebasin_hub.app.merging import EXAMPLE as MERGE_EXAMPLE
from rebasin_hub.app.merging import merge
from rebasin_hub.app.options import (
    AlignMemory,
    Batch,
    Data,
    Device,
    DryRun,
    Force,
    Json,
    MaxMemory,
    Method,
    ModelPath,
    Output,
    Restarts,
    Seconds,
    Seed,
    Settings,
    Sizes,
    SpecOption,
    Start,
    bound_of,
    choice_of,
    task_options,
)
from rebasin_hub.app.specs import spec_app
from rebasin_hub.errors import RebasinError, StoppedError

__all__ = ["app", "main"]

_RENUMBER = "Renumber and merge"
_COMPARE = "Compare"
_MEASURE = "Measure"
_KEEP = "Convert, keep and publish"
_SPECS = "Specs, and a first look"

app = typer.Typer(
    name="rebasin-hub",
    help=(
        "Re-base neural-network checkpoints up to the renumbering of their hidden units: "
        "canonicalize, align, merge, compare, and prove that the function is unchanged."
    ),
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(spec_app, name="spec", rich_help_panel=_SPECS)
app.add_typer(
    lazy_group(
        "rebasin_hub.app.registry",
        text="Keep versions of models on this machine: immutable and numbered, with movable "
        "aliases and their lineage, and found again by their weights. A version is named NAME (the "
        "newest), NAME@ALIAS or NAME:3.",
    ),
    name="registry",
    rich_help_panel=_KEEP,
)
app.add_typer(
    lazy_group(
        "rebasin_hub.app.experiment",
        text="Run the experiments of the field: training, measuring, a table, a picture and a "
        "page.",
    ),
    name="experiment",
    rich_help_panel=_MEASURE,
)
app.add_typer(hub_app, name="hub", rich_help_panel=_KEEP)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"rebasin-hub {__version__}")
        raise typer.Exit


@app.callback()
def common(
    _version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


@app.command(
    epilog="Example: `rebasin-hub canonicalize model.safetensors --reference base.safetensors`",
    rich_help_panel=_RENUMBER,
)
def canonicalize(
    model: ModelPath,
    output: Output = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="Take over the numbering of this checkpoint; by default of the one that "
            "`registry set-reference` set for the architecture, if any.",
            metavar="MODEL",
        ),
    ] = None,
    no_reference: Annotated[
        bool, typer.Option("--no-reference", help="Canonical order, whatever is set.")
    ] = False,
    permutations: Annotated[
        Path | None,
        typer.Option(help="Write the permutation file as well.", metavar="FILE"),
    ] = None,
    spec: SpecOption = None,
    size: Sizes = None,
    method: Method = "weight",
    device: Device = "auto",
    restarts: Restarts = None,
    seed: Seed = 0,
    max_memory: MaxMemory = None,
    force: Force = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Renumber a checkpoint to a reference, or into its own canonical order, and prove it.

    Without a reference, any renumbered copy of a model comes out byte for byte the same, largest
    units first. The output stands beside the input as NAME.canonical… unless -o says otherwise.
    """
    from rebasin_hub.pipeline.canonicalize import canonicalize as run
    from rebasin_hub.pipeline.locate import locate, output_beside
    from rebasin_hub.pipeline.matching import Matching
    from rebasin_hub.pipeline.registry import reference_for
    from rebasin_hub.report import progress_bar, show

    if reference is not None and no_reference:
        raise typer.BadParameter("--reference and --no-reference exclude one another")
    choice, output = choice_of(spec, size), output or output_beside(model)
    path, *target = locate([model, *([reference] if reference else [])], choice)
    with progress_bar(quiet=dry_run) as progress:
        result = run(
            path,
            output,
            reference=target[0] if target else None,
            reference_for=None if no_reference else reference_for,
            choice=choice,
            matching=Matching(method, device, seed, restarts),
            permutations=permutations,
            force=force,
            dry_run=dry_run,
            bound=bound_of(max_memory),
            progress=progress,
        )
    show(result, json=json)


@app.command(
    epilog="Example: `rebasin-hub align b.safetensors a.safetensors -o b-to-a.safetensors "
    "--max-memory 4GB`",
    rich_help_panel=_RENUMBER,
)
def align(
    model: ModelPath,
    reference: Annotated[
        Path, typer.Argument(help="The checkpoint to align to.", metavar="REFERENCE")
    ],
    output: Output = None,
    method: Method = "weight",
    task: Annotated[
        str | None,
        typer.Option(
            help="What the network computes on, for methods that look at it; `rebasin-hub tasks` "
            "lists what there is."
        ),
    ] = None,
    data: Data = None,
    batch: Batch = None,
    settings: Settings = None,
    start: Start = None,
    seconds: Seconds = None,
    spec: SpecOption = None,
    size: Sizes = None,
    device: Device = "auto",
    restarts: Restarts = None,
    seed: Seed = 0,
    max_memory: AlignMemory = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Find the permutations that bring MODEL to REFERENCE, and write them to a small file.

    By weight matching, or by any other method of the field. A search that fails or is interrupted
    leaves the best that it had found beside the output.
    """
    from rebasin_hub.pipeline.locate import locate
    from rebasin_hub.pipeline.matching import Matching, align_models
    from rebasin_hub.report import progress_bar, show

    choice = choice_of(spec, size)
    path, target = locate([model, reference], choice)
    matching = Matching(
        method,
        device,
        seed,
        restarts,
        start=start,
        seconds=seconds,
        task=task,
        options=task_options(data, None, batch, settings, seed),
        bound=bound_of(max_memory),
    )
    with progress_bar() as progress:
        result = align_models(
            path,
            target,
            output,
            choice=choice,
            matching=matching,
            force=force,
            progress=progress,
        )
    show(result, json=json)


@app.command(
    epilog="Example: `rebasin-hub apply b-to-a.safetensors b.safetensors -o b2.safetensors`",
    rich_help_panel=_RENUMBER,
)
def apply(
    permutations: Annotated[
        Path, typer.Argument(help="A permutation file.", metavar="PERMUTATIONS")
    ],
    model: ModelPath,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write.", metavar="OUT")],
    invert: Annotated[bool, typer.Option("--invert", help="Go the way back.")] = False,
    other_model: Annotated[
        bool,
        typer.Option(
            "--other-model",
            help="Renumber a checkpoint that the file was not made for, such as an earlier one of "
            "the same training run.",
        ),
    ] = False,
    spec: SpecOption = None,
    size: Sizes = None,
    max_memory: MaxMemory = None,
    force: Force = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Renumber MODEL by a permutation file."""
    from rebasin_hub.pipeline.apply import apply_file
    from rebasin_hub.pipeline.locate import locate
    from rebasin_hub.report import progress_bar, show

    choice = choice_of(spec, size)
    (path,) = locate([model], choice)
    with progress_bar(quiet=dry_run) as progress:
        result = apply_file(
            permutations,
            path,
            output,
            invert=invert,
            other_model=other_model,
            choice=choice,
            force=force,
            dry_run=dry_run,
            bound=bound_of(max_memory),
            progress=progress,
        )
    show(result, json=json)


@app.command(
    epilog="Example: `rebasin-hub compose c-to-b.safetensors b-to-a.safetensors -o ca.safetensors`",
    rich_help_panel=_RENUMBER,
)
def compose(
    first: Annotated[Path, typer.Argument(help="The file that is applied first.", metavar="FIRST")],
    second: Annotated[
        Path, typer.Argument(help="The file that is applied next.", metavar="SECOND")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write.", metavar="OUT")],
    force: Force = False,
    json: Json = False,
) -> None:
    """Join two permutation files that follow one another into one."""
    from rebasin_hub.pipeline.apply import compose_files
    from rebasin_hub.pipeline.inspect import inspect_file
    from rebasin_hub.report import show

    compose_files(first, second, output, force=force)
    show(inspect_file(output), json=json)


app.command(epilog=MERGE_EXAMPLE, rich_help_panel=_RENUMBER)(merge)
app.command(name="align-many", epilog=MANY_EXAMPLE, rich_help_panel=_RENUMBER)(align_many)


@app.command(
    epilog="Example: `rebasin-hub verify model.safetensors model.canonical.safetensors`",
    rich_help_panel=_COMPARE,
)
def verify(
    a: Annotated[Path, typer.Argument(help="A checkpoint.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="Another one.", metavar="B")],
    spec: SpecOption = None,
    size: Sizes = None,
    method: Method = "weight",
    device: Device = "auto",
    restarts: Restarts = None,
    seed: Seed = 0,
    json: Json = False,
) -> None:
    """Tell whether two checkpoints are the same up to renumbering, and how far apart otherwise.

    Exit code 0 if they are the same model, 1 if not.
    """
    from rebasin_hub.pipeline.compare import verify as run
    from rebasin_hub.pipeline.locate import locate
    from rebasin_hub.pipeline.matching import Matching
    from rebasin_hub.report import progress_bar, show

    choice = choice_of(spec, size)
    paths = locate([a, b], choice)
    with progress_bar() as progress:
        result = run(
            *paths,
            choice=choice,
            matching=Matching(method, device, seed, restarts),
            progress=progress,
        )
    show(result, json=json)
    raise typer.Exit(0 if result.same else 1)


@app.command(
    epilog="Example: `rebasin-hub digest model.safetensors model.canonical.safetensors`",
    rich_help_panel=_COMPARE,
)
def digest(
    models: Annotated[list[Path], typer.Argument(help="Checkpoints.", metavar="MODEL…")],
    spec: SpecOption = None,
    size: Sizes = None,
    plain: Annotated[
        bool,
        typer.Option("--plain", help="Of the weights as they are numbered; takes no spec."),
    ] = False,
    max_memory: MaxMemory = None,
    json: Json = False,
) -> None:
    """Print the canonical digest of checkpoints: equal for renumbered copies of one model.

    With --plain, renumbered copies differ, and any checkpoint that can be read has one. Formats,
    shards and metadata make no difference to either.
    """
    from rebasin_hub.errors import InputError
    from rebasin_hub.pipeline.inspect import Digests, PlainDigest, digests, stored_digest
    from rebasin_hub.pipeline.locate import locate
    from rebasin_hub.report import progress_bar, show

    if plain and (spec is not None or size):
        raise InputError("--plain takes no spec; leave out --spec and --size, or --plain")
    choice, bound = choice_of(spec, size), bound_of(max_memory)
    found: list[Digests | PlainDigest] = []
    for path in locate(models, choice, alike=False):
        with progress_bar() as progress:
            if plain:
                found.append(stored_digest(path, bound=bound, progress=progress))
            else:
                found.append(digests(path, choice=choice, bound=bound, progress=progress))
        if not json:
            show(found[-1])
    if json:
        show(found, json=True)


@app.command(
    epilog="Example: `rebasin-hub inspect model.safetensors`",
    rich_help_panel=_COMPARE,
)
def inspect(
    file: Annotated[
        Path, typer.Argument(help="A checkpoint or a permutation file.", metavar="FILE")
    ],
    spec: SpecOption = None,
    size: Sizes = None,
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
    json: Json = False,
) -> None:
    """Show what a checkpoint or a permutation file holds, from its header alone."""
    from dataclasses import replace

    from rebasin_hub.pipeline.inspect import inspect_file
    from rebasin_hub.pipeline.locate import headers
    from rebasin_hub.report import show

    with headers(file) as path:
        seen = replace(inspect_file(path, choice=choice_of(spec, size)), path=file)
    show(seen, json=json, tensors=tensors)


app.command(epilog=BARRIER_EXAMPLE, rich_help_panel=_MEASURE)(barrier)
app.command(epilog=CONNECT_EXAMPLE, rich_help_panel=_MEASURE)(connect)
app.command(epilog="Example: `rebasin-hub tasks`", rich_help_panel=_MEASURE)(tasks)


@app.command(epilog="Example: `rebasin-hub methods`", rich_help_panel=_MEASURE)
def methods(json: Json = False) -> None:
    """List the methods of aligning, with their settings."""
    from rebasin_hub.align import METHODS
    from rebasin_hub.align.method import MethodKind
    from rebasin_hub.report import show

    show([MethodKind.of(name, method) for name, method in METHODS.items()], json=json)


app.command(epilog=CONVERT_EXAMPLE, rich_help_panel=_KEEP)(convert)
app.command(epilog=PUSH_EXAMPLE, rich_help_panel=_KEEP)(push)
app.command(epilog=PULL_EXAMPLE, rich_help_panel=_KEEP)(pull)
app.command(epilog=CARD_EXAMPLE, rich_help_panel=_KEEP)(card)


@app.command(epilog="Example: `rebasin-hub demo -o demo`", rich_help_panel=_SPECS)
def demo(
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Where to put the files.", metavar="DIR")
    ] = Path("demo"),
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Train two small networks on digits, align and merge them, and show what it does."""
    from rebasin_hub.demo import run_demo

    run_demo(output, seed=seed, force=force)


def main() -> None:
    """Run the program; known errors give one message and exit code 1, others a log and 3."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of any encoding can be shown
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except RebasinError as error:
        _fail(f"error: {error}", 130 if isinstance(error, StoppedError) else 1)
    except OSError as error:
        # Files are dealt with where they are read and written: this is standard output that is
        # closed or has a full disk behind it. Python would flush it once more and complain.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        _fail(f"error: {error.filename or 'the output'}: {error.strerror}", 1)
    except Exception as error:  # noqa: BLE001
        from rebasin_hub.crash import write_log

        _fail(
            f"unexpected failure: {type(error).__name__}: {error}\n"
            f"This is a defect of rebasin-hub. The details are in {write_log(error)}",
            3,
        )


def _fail(message: str, code: int) -> NoReturn:
    """Print a message without control characters on stderr, and stop."""
    plain = "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in message)
    typer.secho(plain, fg=typer.colors.RED, err=True)
    sys.exit(code)
