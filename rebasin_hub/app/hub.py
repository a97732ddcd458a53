"""`rebasin-hub push`, `pull`, `card` and `hub audit`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rebasin_hub.app.options import (
    Batch,
    Data,
    Device,
    Force,
    Json,
    Limit,
    ModelPath,
    Settings,
    Sizes,
    SpecOption,
    choice_of,
    task_options,
)

__all__ = ["CARD_EXAMPLE", "PULL_EXAMPLE", "PUSH_EXAMPLE", "card", "hub_app", "pull", "push"]

PUSH_EXAMPLE = "Example: `rebasin-hub push merged org/merged --dry-run`"
PULL_EXAMPLE = "Example: `rebasin-hub pull org/merged -o merged`"
CARD_EXAMPLE = "Example: `rebasin-hub card merged org/merged > README.md`"

hub_app = typer.Typer(
    help="Check what is published on the Hugging Face Hub.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)

Repo = Annotated[str, typer.Argument(help="Where on the Hub.", metavar="ORG/NAME")]
Name = Annotated[str, typer.Argument(help="A published model.", metavar="ORG/NAME[@REVISION]")]
PermutationOnly = Annotated[
    bool,
    typer.Option(
        "--permutation-only",
        help="MODEL is a permutation file; publish it with a card that tells how to apply it.",
    ),
]
Permutations = Annotated[
    Path | None,
    typer.Option(help="The permutation file that led to MODEL, to go along.", metavar="FILE"),
]
RecordFile = Annotated[
    Path | None,
    typer.Option(
        "--record",
        help="What `barrier -o DIR` wrote; the rebasin.json beside MODEL by default.",
        metavar="DIR",
    ),
]
Recipe = Annotated[
    Path | None, typer.Option(help="The recipe of the merge, to go along.", metavar="FILE")
]
BaseModel = Annotated[
    list[str] | None,
    typer.Option(
        help="A model on the Hub that went in, such as org/name@revision; once for each, in the "
        "order in which they were given to `merge`, where the merge does not say so itself.",
        metavar="NAME",
    ),
]
LicenseOption = Annotated[
    str | None,
    typer.Option(
        "--license", help="The license, such as apache-2.0; that of the base models by default."
    ),
]


def push(
    model: ModelPath,
    repo: Repo,
    permutation_only: PermutationOnly = False,
    permutations: Permutations = None,
    record: RecordFile = None,
    recipe: Recipe = None,
    base_model: BaseModel = None,
    license_: LicenseOption = None,
    revision: Annotated[
        str, typer.Option(help="The branch to commit to.", metavar="BRANCH")
    ] = "main",
    create_pr: Annotated[
        bool, typer.Option("--create-pr", help="Propose it in a pull request.")
    ] = False,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository a private one.")
    ] = False,
    message: Annotated[str | None, typer.Option("-m", "--message", help="Of the commit.")] = None,
    spec: SpecOption = None,
    size: Sizes = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the card and the files; send nothing.")
    ] = False,
    json: Json = False,
) -> None:
    """Publish a model on the Hugging Face Hub in one commit, with a card and its digests.

    The card names the base models at their commits, their license, the recipe, and what was
    measured. A second try sends only what is not there yet.
    """
    from rebasin_hub.pipeline.hub import Publication
    from rebasin_hub.pipeline.hub import push as run
    from rebasin_hub.report import progress_bar, show

    publication = Publication(
        model,
        repo,
        permutation_only=permutation_only,
        permutations=permutations,
        record=record,
        recipe=recipe,
        bases=tuple(base_model or ()),
        license=license_,
        branch=revision,
        pull_request=create_pr,
        private=private,
        message=message,
    )
    with progress_bar(quiet=dry_run) as progress:
        result = run(publication, choice=choice_of(spec, size), dry_run=dry_run, progress=progress)
    show(result, json=json)


def card(
    model: ModelPath,
    repo: Repo,
    permutation_only: PermutationOnly = False,
    permutations: Permutations = None,
    record: RecordFile = None,
    recipe: Recipe = None,
    base_model: BaseModel = None,
    license_: LicenseOption = None,
    spec: SpecOption = None,
    size: Sizes = None,
) -> None:
    """Print the card that `push` would publish."""
    from rebasin_hub.pipeline.hub import Publication, written_card

    publication = Publication(
        model,
        repo,
        permutation_only=permutation_only,
        permutations=permutations,
        record=record,
        recipe=recipe,
        bases=tuple(base_model or ()),
        license=license_,
    )
    typer.echo(written_card(publication, choice=choice_of(spec, size)), nl=False)


def pull(
    model: Name,
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write.", metavar="OUT")],
    spec: SpecOption = None,
    size: Sizes = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Fetch a published model and check every digest of it.

    Where only permutations are published, their base model is fetched at its pinned commit, and
    renumbered by them.
    """
    from rebasin_hub.pipeline.hub import pull as run
    from rebasin_hub.report import progress_bar, show

    with progress_bar() as progress:
        result = run(model, output, choice=choice_of(spec, size), force=force, progress=progress)
    show(result, json=json)


@hub_app.command("audit", epilog="Example: `rebasin-hub hub audit org/merged --task digits`")
def audit(
    model: Name,
    task: Annotated[
        str | None,
        typer.Option(
            help="Measure the barrier again on this; see `rebasin-hub tasks`.", metavar="TASK"
        ),
    ] = None,
    data: Data = None,
    limit: Limit = None,
    batch: Batch = None,
    settings: Settings = None,
    spec: SpecOption = None,
    size: Sizes = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Download a published model and compute anew what it claims.

    Digests of all files and of the weights, what its permutations lead to, and with --task the
    barrier, which has to lie in the published interval. Exit code 1 if a claim does not hold.
    """
    from rebasin_hub.pipeline.hub import audit as run
    from rebasin_hub.report import progress_bar, show

    with progress_bar() as progress:
        result = run(
            model,
            task=task,
            options=task_options(data, limit, batch, settings),
            choice=choice_of(spec, size),
            device=device,
            progress=progress,
        )
    show(result, json=json)
    raise typer.Exit(0 if result.holds else 1)
