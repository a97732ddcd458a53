"""`rebasin-hub registry …`: named versions of models, aliases, lineage, and upkeep."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rebasin_hub.app.options import (
    Device,
    Force,
    Json,
    ModelPath,
    Restarts,
    Seed,
    Sizes,
    SpecOption,
    choice_of,
)

if TYPE_CHECKING:
    from rebasin_hub.registry import Parent
    from rebasin_hub.registry.registry import Registry

__all__ = ["group"]

group = typer.Typer(rich_markup_mode="markdown")
"""Its help stands where it is named, in the package."""

Place = Annotated[
    Path | None,
    typer.Option(
        "--registry",
        help="The registry's folder; $REBASIN_REGISTRY or the user's data folder by default.",
        metavar="DIR",
    ),
]
Ref = Annotated[str, typer.Argument(help="NAME, NAME@ALIAS or NAME:3.", metavar="VERSION")]


class ParentType(StrEnum):
    """How a version came from a parent."""

    CANONICALIZED_FROM = "canonicalized-from"
    ALIGNED_TO = "aligned-to"
    MERGED_FROM = "merged-from"
    CONVERTED_FROM = "converted-from"
    FINE_TUNED_FROM = "fine-tuned-from"


def _open(place: Path | None) -> Registry:
    from rebasin_hub.registry import Registry

    return Registry(place)


@group.command("add", epilog="Example: `rebasin-hub registry add model.safetensors resnet`")
def add(
    model: ModelPath,
    name: Annotated[str, typer.Argument(help="The model's name.", metavar="NAME")],
    store: Annotated[
        bool, typer.Option("--store", help="Copy it into the store; equal tensors are kept once.")
    ] = False,
    link: Annotated[
        bool,
        typer.Option("--link", help="Keep it by reflink or hard link: no second copy on the disk."),
    ] = False,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact", help="Keep only the permutation and the difference to a stored version."
        ),
    ] = False,
    base: Annotated[
        str | None,
        typer.Option(help="The version to keep the difference to.", metavar="VERSION"),
    ] = None,
    parent: Annotated[
        list[str] | None,
        typer.Option(
            help="What it was made from, such as fine-tuned-from=base:1 or "
            "merged-from=hf://org/name@revision.",
            metavar="TYPE=VERSION",
        ),
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="A free text.", metavar="KEY[=VALUE]")
    ] = None,
    artefact: Annotated[
        list[Path] | None,
        typer.Option(
            help="A small file to keep with it: a permutation file, a record.", metavar="FILE"
        ),
    ] = None,
    alias: Annotated[
        list[str] | None, typer.Option(help="An alias to point to it.", metavar="ALIAS")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Where it came from, in words; its path by default.")
    ] = None,
    spec: SpecOption = None,
    size: Sizes = None,
    device: Device = "auto",
    restarts: Restarts = None,
    seed: Seed = 0,
    registry: Place = None,
    json: Json = False,
) -> None:
    """Register a checkpoint as the next version of a model, in place unless told otherwise."""
    from dataclasses import replace

    from rebasin_hub.pipeline.locate import locate
    from rebasin_hub.pipeline.matching import Matching
    from rebasin_hub.pipeline.registry import Adding
    from rebasin_hub.pipeline.registry import add as run
    from rebasin_hub.registry import Kept
    from rebasin_hub.registry.names import check_alias
    from rebasin_hub.report import progress_bar, show

    if store + link + (compact or base is not None) > 1:
        raise typer.BadParameter("choose one of --store, --link and --compact")
    keep = Kept.STORED if store else Kept.LINKED if link else Kept.IN_PLACE
    adding = Adding(
        keep=Kept.COMPACT if compact or base is not None else keep,
        base=base,
        source=source,
        parents=_parents(parent),
        tags={key: value or "" for key, value in _tags(tag).items()},
        artefacts=artefact or (),
    )
    (path,) = locate([model], alike=False)
    if path != model and source is None:
        adding = replace(adding, source=str(model))
    aliases = [check_alias(one) for one in alias or ()]
    with _open(registry) as opened, progress_bar() as progress:
        added = run(
            opened,
            path,
            name,
            adding,
            choice=choice_of(spec, size),
            matching=Matching("weight", device, seed, restarts),
            progress=progress,
        )
        for one in aliases:
            opened.alias(added.version.reference, one)
    show(added, json=json)


def _parents(entries: list[str] | None) -> list[Parent]:
    """Read `type=version` entries."""
    from rebasin_hub.registry import Parent, ParentKind

    parents = []
    for entry in entries or ():
        kind, equals, model = entry.partition("=")
        if not (equals and model) or kind not in {k.value for k in ParentKind}:
            known = ", ".join(k.value for k in ParentKind)
            raise typer.BadParameter(f"'{entry}' is not TYPE=VERSION with a type of {known}")
        parents.append(Parent(ParentKind(kind), model))
    return parents


def _tags(entries: list[str] | None) -> dict[str, str | None]:
    """Read `key=value` entries; a key alone has an empty value."""
    return {key: value for key, _, value in (entry.partition("=") for entry in entries or ())}


@group.command("list", epilog="Example: `rebasin-hub registry list resnet`")
def list_(
    name: Annotated[
        str | None, typer.Argument(help="List this model's versions.", metavar="NAME")
    ] = None,
    registry: Place = None,
    json: Json = False,
) -> None:
    """List all models, or the versions of one."""
    from rebasin_hub.report import show

    with _open(registry) as opened:
        show(opened.models() if name is None else opened.versions(name), json=json)


@group.command("show", epilog="Example: `rebasin-hub registry show resnet@champion`")
def show_(version: Ref, registry: Place = None, json: Json = False) -> None:
    """Show everything that is known of a version."""
    from rebasin_hub.report import show

    with _open(registry) as opened:
        show(opened.show(version), json=json)


@group.command("path", epilog="Example: `rebasin-hub registry path resnet@champion`")
def path(version: Ref, registry: Place = None) -> None:
    """Print a path that a version can be opened from, restored from the store if needed."""
    with _open(registry) as opened:
        typer.echo(str(opened.resolve(version)))


@group.command("alias", epilog="Example: `rebasin-hub registry alias resnet:3 champion`")
def alias(
    version: Ref,
    alias: Annotated[str, typer.Argument(help="The alias.", metavar="ALIAS")],
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete the alias; its history stays.")
    ] = False,
    registry: Place = None,
    json: Json = False,
) -> None:
    """Let an alias point to a version."""
    from rebasin_hub.registry import Reference
    from rebasin_hub.report import show

    with _open(registry) as opened:
        if delete:
            name = Reference.parse(version).name
            opened.delete_alias(name, alias)
            show(opened.history(name, alias), json=json)
        else:
            show(opened.alias(version, alias), json=json)


@group.command("rollback", epilog="Example: `rebasin-hub registry rollback resnet@champion`")
def rollback(
    alias: Annotated[str, typer.Argument(help="The alias to move back.", metavar="NAME@ALIAS")],
    registry: Place = None,
    json: Json = False,
) -> None:
    """Let an alias point to where it pointed before; again goes further back."""
    from rebasin_hub.report import show

    name, moved = _aliased(alias)
    with _open(registry) as opened:
        show(opened.rollback(name, moved), json=json)


def _aliased(text: str) -> tuple[str, str]:
    from rebasin_hub.registry import Reference

    reference = Reference.parse(text)
    if reference.alias is None:
        raise typer.BadParameter(f"'{text}' is not NAME@ALIAS")
    return reference.name, reference.alias


@group.command("history", epilog="Example: `rebasin-hub registry history resnet@champion`")
def history(
    alias: Annotated[
        str, typer.Argument(help="A model, or one of its aliases.", metavar="NAME[@ALIAS]")
    ],
    registry: Place = None,
    json: Json = False,
) -> None:
    """Show where aliases have pointed, oldest first."""
    from rebasin_hub.registry import Reference
    from rebasin_hub.report import show

    reference = Reference.parse(alias)
    with _open(registry) as opened:
        show(opened.history(reference.name, reference.alias), json=json)


@group.command("tag", epilog="Example: `rebasin-hub registry tag resnet:3 data=cifar10`")
def tag(
    version: Ref,
    tags: Annotated[list[str], typer.Argument(help="Free texts to set.", metavar="KEY[=VALUE]…")],
    remove: Annotated[bool, typer.Option("--remove", help="Take tags of these keys away.")] = False,
    registry: Place = None,
    json: Json = False,
) -> None:
    """Set or remove tags of a version."""
    from rebasin_hub.report import show

    wanted = {key: None if remove else value for key, value in _tags(tags).items()}
    with _open(registry) as opened:
        show([opened.tag(version, wanted)], json=json)


@group.command(
    "metric", epilog="Example: `rebasin-hub registry metric merged:1 --record rebasin.json`"
)
def metric(
    version: Ref,
    name: Annotated[str | None, typer.Argument(help="What was measured.", metavar="NAME")] = None,
    value: Annotated[float | None, typer.Argument(help="The number.", metavar="VALUE")] = None,
    task: Annotated[str, typer.Option(help="What it was measured on.")] = "",
    record: Annotated[
        Path | None,
        typer.Option(help="Take the barriers of a record, and keep it.", metavar="FILE"),
    ] = None,
    registry: Place = None,
    json: Json = False,
) -> None:
    """Note a measured number of a version, or the barriers of a record."""
    from rebasin_hub.pipeline.registry import add_record
    from rebasin_hub.registry import Metric
    from rebasin_hub.report import show

    if (record is None) == (name is None or value is None) or (record and name):
        raise typer.BadParameter("give NAME and VALUE, or --record FILE")
    with _open(registry) as opened:
        if record is not None:
            found = add_record(opened, version, record)
        else:
            found = opened.metric(version, [Metric(name or "", value, task, "", None, "")])
    show(list(found), json=json)


@group.command("link", epilog="Example: `rebasin-hub registry link tuned:2 fine-tuned-from base:1`")
def link(
    version: Ref,
    kind: Annotated[
        ParentType, typer.Argument(help="How it came from its parent.", metavar="TYPE")
    ],
    parent: Annotated[
        str, typer.Argument(help="A version, or hf://org/name@revision.", metavar="PARENT")
    ],
    registry: Place = None,
    json: Json = False,
) -> None:
    """Note a parent of a version that is registered already."""
    from rebasin_hub.registry import Parent, ParentKind
    from rebasin_hub.report import show

    with _open(registry) as opened:
        opened.link(version, [Parent(ParentKind(kind.value), parent)])
        show(opened.lineage(version), json=json)


@group.command("lineage", epilog="Example: `rebasin-hub registry lineage merged:1`")
def lineage(
    version: Ref,
    dot: Annotated[bool, typer.Option("--dot", help="Print a Graphviz graph.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(help="Write a page with a drawing of it, which needs no other file."),
    ] = None,
    force: Force = False,
    registry: Place = None,
    json: Json = False,
) -> None:
    """Show what a version comes from, and what comes from it."""
    from rebasin_hub.report import show
    from rebasin_hub.report.lineage import dot_text, save_html

    with _open(registry) as opened:
        found = opened.lineage(version)
    if html is not None:
        save_html(found, html, force=force)
    if dot:
        typer.echo(dot_text(found), nl=False)
    else:
        show(found, json=json)


@group.command("which", epilog="Example: `rebasin-hub registry which model.safetensors`")
def which(
    model: ModelPath,
    spec: SpecOption = None,
    size: Sizes = None,
    registry: Place = None,
    json: Json = False,
) -> None:
    """Tell which version a checkpoint is, also when renumbered, re-sharded or converted.

    Exit code 0 if it is one, 1 if not.
    """
    from rebasin_hub.pipeline.locate import locate
    from rebasin_hub.pipeline.registry import which as run
    from rebasin_hub.report import progress_bar, show

    (path,) = locate([model], alike=False)
    with _open(registry) as opened, progress_bar() as progress:
        found = run(opened, path, choice=choice_of(spec, size), progress=progress)
    show(found, json=json)
    raise typer.Exit(0 if found.matches else 1)


@group.command("duplicates", epilog="Example: `rebasin-hub registry duplicates`")
def duplicates(registry: Place = None, json: Json = False) -> None:
    """List versions that are the same model up to renumbering."""
    from rebasin_hub.report import show

    with _open(registry) as opened:
        show(opened.duplicates(), json=json)


@group.command(
    "set-reference", epilog="Example: `rebasin-hub registry set-reference resnet@champion`"
)
def set_reference(
    version: Annotated[
        str | None,
        typer.Argument(help="NAME, NAME@ALIAS or NAME:3; lists all without.", metavar="VERSION"),
    ] = None,
    registry: Place = None,
    json: Json = False,
) -> None:
    """Make a version the one that `canonicalize` aligns models of its architecture to."""
    from rebasin_hub.report import show

    with _open(registry) as opened:
        show(opened.references() if version is None else [opened.set_reference(version)], json=json)


@group.command("store", epilog="Example: `rebasin-hub registry store resnet:1`")
def store(version: Ref, registry: Place = None, json: Json = False) -> None:
    """Copy a version's files into the store, where nothing can change them."""
    from rebasin_hub.report import show

    with _open(registry) as opened:
        show([opened.move_into_store(version)], json=json)


@group.command(
    "relocate", epilog="Example: `rebasin-hub registry relocate resnet:1 /new/model.safetensors`"
)
def relocate(version: Ref, model: ModelPath, registry: Place = None, json: Json = False) -> None:
    """Tell where the files of a version lie that was registered in place and moved."""
    from rebasin_hub.report import show

    with _open(registry) as opened:
        show([opened.relocate(version, model)], json=json)


@group.command("rm", epilog="Example: `rebasin-hub registry rm resnet:2`")
def rm(
    version: Ref,
    undo: Annotated[bool, typer.Option("--undo", help="Bring it back, until gc has run.")] = False,
    registry: Place = None,
    json: Json = False,
) -> None:
    """Remove a version; its number is not given again, and its files go with the next gc."""
    from rebasin_hub.errors import InputError
    from rebasin_hub.registry import Reference
    from rebasin_hub.report import show

    if Reference.parse(version).number is None:
        raise InputError(f"'{version}': name the version to remove by its number, as NAME:3")
    with _open(registry) as opened:
        show([opened.rm(version, undo=undo)], json=json)


@group.command("verify", epilog="Example: `rebasin-hub registry verify`")
def verify(
    quick: Annotated[
        bool, typer.Option("--quick", help="Trust sizes and times; read no content.")
    ] = False,
    registry: Place = None,
    json: Json = False,
) -> None:
    """Check the database, every object, and every file that is registered in place.

    Exit code 1 if anything is wrong.
    """
    from rebasin_hub.report import progress_bar, show

    with _open(registry) as opened, progress_bar() as progress:
        tell = None if progress is None else lambda done, of: progress("verifying", done, of)
        found = opened.verify(quick=quick, progress=tell)
    show(found, json=json)
    raise typer.Exit(0 if found.sound else 1)


@group.command("gc", epilog="Example: `rebasin-hub registry gc --dry-run`")
def gc(
    grace: Annotated[
        float, typer.Option(help="Seconds that something must have been unused.", min=0)
    ] = 3600,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed.")] = False,
    registry: Place = None,
    json: Json = False,
) -> None:
    """Take away what no version needs: files of removed versions, leftovers, restored copies."""
    from rebasin_hub.report import show

    with _open(registry) as opened:
        show(opened.gc(grace=grace, dry_run=dry_run), json=json)


@group.command("export", epilog="Example: `rebasin-hub registry export resnet:3 -o r.tar`")
def export(
    versions: Annotated[list[str], typer.Argument(help="What to export.", metavar="VERSION…")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Where to write.", metavar="OUT")],
    force: Force = False,
    registry: Place = None,
    json: Json = False,
) -> None:
    """Write versions, and all that is known of them, to one archive."""
    from rebasin_hub.report import show

    with _open(registry) as opened:
        show(opened.export(versions, output, force=force), json=json)


@group.command("import", epilog="Example: `rebasin-hub registry import r.tar`")
def import_(
    archive: Annotated[Path, typer.Argument(help="What `export` wrote.", metavar="ARCHIVE")],
    prefix: Annotated[
        str | None, typer.Option(help="Put PREFIX/ before the models' names.")
    ] = None,
    registry: Place = None,
    json: Json = False,
) -> None:
    """Take over the versions of an archive, after checking every byte of it."""
    from rebasin_hub.report import show

    with _open(registry) as opened:
        show(opened.import_(archive, prefix=prefix), json=json)
