"""The command that converts checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rebasin_hub.app.options import (
    DryRun,
    Force,
    Json,
    MaxMemory,
    Sizes,
    SpecOption,
    bound_of,
    bytes_of,
    choice_of,
    stored_type,
)

__all__ = ["EXAMPLE", "convert"]

EXAMPLE = "Example: `rebasin-hub convert model.safetensors model.msgpack --layout flax`"
_TYPES = {"FLOAT8_E4M3FN": "F8_E4M3", "FLOAT8_E5M2": "F8_E5M2"}


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="A .safetensors, .pt, .pth, .bin, .ckpt, .onnx, .pt2, .npz, .msgpack or .gguf "
            "file, a Hugging Face directory, org/name[@revision] or hf://… on the Hub, or "
            "registry:name[@alias].",
            metavar="SRC",
        ),
    ],
    output: Annotated[
        Path,
        typer.Argument(
            help="What to write: its ending says in which format; without a known ending it is a "
            "Hugging Face directory.",
            metavar="DST",
        ),
    ],
    dtype: Annotated[
        str | None,
        typer.Option(help="Store floating numbers as float32, float16, bfloat16, float64, …"),
    ] = None,
    shard_size: Annotated[
        str | None, typer.Option(help="The largest shard of a directory.", metavar="5GB")
    ] = None,
    layout: Annotated[
        str | None,
        typer.Option(help="The layout to write, from a spec's `layouts`: flax, original, …"),
    ] = None,
    from_layout: Annotated[
        str | None, typer.Option(help="The layout that SRC is in; the spec's own by default.")
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option(help="The ONNX model whose weights to replace.", metavar="GRAPH.onnx"),
    ] = None,
    tie: Annotated[
        list[str] | None,
        typer.Option(help="Let A share the values of B, which must be equal.", metavar="A=B"),
    ] = None,
    untie: Annotated[
        list[str] | None,
        typer.Option(help="Write A with B's values, apart from it.", metavar="A=B"),
    ] = None,
    spec: SpecOption = None,
    size: Sizes = None,
    max_memory: MaxMemory = None,
    force: Force = False,
    dry_run: DryRun = False,
    json: Json = False,
) -> None:
    """Write a checkpoint in another format, element type, sharding or layout.

    What a cast to another element type lost is reported for each tensor.
    """
    from rebasin_hub.pipeline.convert import Wish
    from rebasin_hub.pipeline.convert import convert as run
    from rebasin_hub.pipeline.locate import locate
    from rebasin_hub.report import progress_bar, show

    kind = stored_type(dtype)
    wish = Wish(
        dtype=_TYPES.get(kind, kind) if kind is not None else None,
        shard_size=None if shard_size is None else bytes_of(shard_size),
        tie=pairs_of(tie),
        untie=pairs_of(untie),
        layout=layout,
        from_layout=from_layout,
        into=into,
        choice=choice_of(spec, size),
    )
    (path,) = locate([source], wish.choice, alike=False)
    with progress_bar(quiet=dry_run) as progress:
        result = run(
            path,
            output,
            wish,
            bound=bound_of(max_memory),
            force=force,
            dry_run=dry_run,
            progress=progress,
        )
    show(result, json=json)


def pairs_of(entries: list[str] | None) -> dict[str, str]:
    """Read `A=B` entries.

    Raises:
        typer.BadParameter: an entry is not of that form, or names A twice.

    """
    pairs: dict[str, str] = {}
    for entry in entries or ():
        name, equals, other = entry.partition("=")
        if not (name and equals and other) or name in pairs:
            raise typer.BadParameter(
                f"'{entry}' is not A=B, such as lm_head.weight=model.embed_tokens.weight, or "
                "names A twice"
            )
        pairs[name] = other
    return pairs
