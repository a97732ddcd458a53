"""`rebasin-hub spec …`: list, show, validate, prove, detect, infer, schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rebasin_hub.app.infer import EXAMPLE as INFER_EXAMPLE
from rebasin_hub.app.infer import infer
from rebasin_hub.app.options import Json, ModelPath, Seed, Sizes, sizes_of

__all__ = ["spec_app"]

spec_app = typer.Typer(
    help="Permutation specs: which axes are renumbered together, found, checked and proven.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)
spec_app.command("infer", epilog=INFER_EXAMPLE)(infer)

NameOrFile = Annotated[
    str, typer.Argument(help="A shipped spec's name or a YAML file.", metavar="SPEC")
]


@spec_app.command("list", epilog="Example: `rebasin-hub spec list`")
def list_specs(json: Json = False) -> None:
    """List the specs that come with the program."""
    from rebasin_hub.pipeline.specs import listed
    from rebasin_hub.report import show

    show(listed(), json=json)


@spec_app.command("show", epilog="Example: `rebasin-hub spec show llama`")
def show_spec(spec: NameOrFile) -> None:
    """Print a spec as it is written."""
    from rebasin_hub.specfile import spec_path

    typer.echo(spec_path(spec).read_text(encoding="utf-8"), nl=False)


@spec_app.command("validate", epilog="Example: `rebasin-hub spec validate specs/*.yaml`")
def validate(
    files: Annotated[list[Path], typer.Argument(help="YAML files.", metavar="FILE…")],
    json: Json = False,
) -> None:
    """Check spec files, and print every problem with its file and line.

    Exit code 1 if there is one. This is what the pre-commit hook runs.
    """
    from rebasin_hub.specfile import validate_files

    problems = validate_files(files)
    if json:
        from rebasin_hub.report import show

        show(problems, json=True)
    else:
        for problem in problems:
            typer.echo(str(problem))
        if not problems:
            typer.echo(f"{len(files)} spec{'s' * (len(files) != 1)} valid")
    raise typer.Exit(1 if problems else 0)


@spec_app.command("prove", epilog="Example: `rebasin-hub spec prove llama`")
def prove(
    spec: NameOrFile,
    seed: Seed = 0,
    trials: Annotated[int, typer.Option(help="Random elements of each permutation.", min=1)] = 3,
    model: Annotated[
        str | None,
        typer.Option(
            help="A Python function that returns a model and its inputs, instead of the spec's "
            "own examples.",
            metavar="FILE.py:FUNCTION",
        ),
    ] = None,
    size: Sizes = None,
    json: Json = False,
) -> None:
    """Prove a spec on a small randomized model: its permutations must not change the function.

    Each permutation is tried alone with random elements, and against it a broken copy of the spec
    that must change the function. Exit code 1 if the spec is wrong.
    """
    from rebasin_hub.prove import prove_spec
    from rebasin_hub.prove.builder import load_builder
    from rebasin_hub.report import progress_bar, show
    from rebasin_hub.specfile import find_spec

    with progress_bar() as progress:
        result = prove_spec(
            find_spec(spec),
            model=load_builder(model) if model is not None else None,
            sizes=sizes_of(size),
            seed=seed,
            trials=trials,
            progress=progress,
        )
    show(result, json=json)
    raise typer.Exit(0 if result.holds else 1)


@spec_app.command("detect", epilog="Example: `rebasin-hub spec detect model.safetensors`")
def detect(model: ModelPath, size: Sizes = None, json: Json = False) -> None:
    """Find the spec that describes a checkpoint, from its header alone."""
    from rebasin_hub.pipeline.locate import headers
    from rebasin_hub.pipeline.models import Choice
    from rebasin_hub.pipeline.specs import detected
    from rebasin_hub.report import show

    with headers(model) as path:
        found = detected(path, Choice(None, sizes_of(size)))
    show(found, json=json)


@spec_app.command("schema", epilog="Example: `rebasin-hub spec schema > schema.json`")
def schema() -> None:
    """Print the JSON Schema of spec files, for editors."""
    from rebasin_hub.specfile.schema import schema_text

    typer.echo(schema_text(), nl=False)
