"""`rebasin-hub spec infer`: a spec from a graph."""

from __future__ import annotations

from typing import Annotated

import typer

from rebasin_hub.app.options import Force, Json, Output, Seed

__all__ = ["EXAMPLE", "infer"]

EXAMPLE = "Example: `rebasin-hub spec infer model.onnx -o model.yaml`"


def infer(
    source: Annotated[
        str,
        typer.Argument(
            help="An .onnx file, a .pt2 of torch.export, a Hugging Face directory (its class and "
            "config.json; weights are not read), or FILE.py:FUNCTION that returns a module and "
            "its inputs.",
            metavar="SOURCE",
        ),
    ],
    output: Output = None,
    inputs: Annotated[
        list[str] | None,
        typer.Option(
            help="The shape of an input of an ONNX graph, such as image=1x3x224x224.",
            metavar="NAME=SHAPE",
        ),
    ] = None,
    no_certificate: Annotated[
        bool,
        typer.Option("--no-certificate", help="Do not run the model to try what was found."),
    ] = False,
    seed: Seed = 0,
    force: Force = False,
    json: Json = False,
) -> None:
    """Derive a spec from a computation graph, try every group on the running model, write YAML.

    Without -o the spec is printed behind the report. Exit code 1 if the certificate took anything
    out: the spec is right then, but a rule is wrong.
    """
    from rebasin_hub.pipeline.inferring import infer as run
    from rebasin_hub.report import progress_bar, show

    with progress_bar() as progress:
        result = run(
            source,
            output,
            shapes=dict(map(_shape, inputs or ())),
            certified=not no_certificate,
            seed=seed,
            force=force,
            progress=progress,
        )
    show(result, json=json)
    raise typer.Exit(1 if result.removed else 0)


def _shape(entry: str) -> tuple[str, tuple[int, ...]]:
    """Read `image=1x3x224x224`.

    Raises:
        typer.BadParameter: it is not of that form.

    """
    name, _, sizes = entry.rpartition("=")
    try:
        shape = tuple(int(size) for size in sizes.split("x"))
    except ValueError:
        shape = ()
    if not (name and shape and min(shape) > 0):
        raise typer.BadParameter(f"'{entry}' is not NAME=SHAPE, such as image=1x3x224x224")
    return name, shape
