"""Options that several commands share."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rebasin_hub.pipeline.models import Choice
    from rebasin_hub.stream import Bound
    from rebasin_hub.tasks import Options
    from rebasin_hub.workers import Workers

__all__ = [
    "Batch",
    "Data",
    "Device",
    "DryRun",
    "EngineOption",
    "Force",
    "Json",
    "Limit",
    "MaxMemory",
    "Method",
    "ModelPath",
    "Output",
    "Restarts",
    "Seconds",
    "Seed",
    "Settings",
    "Sizes",
    "SpecOption",
    "Start",
    "WorkersOption",
    "bound_of",
    "bytes_of",
    "choice_of",
    "floats",
    "sizes_of",
    "stored_type",
    "task_options",
    "workers_of",
]

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_SIZE = re.compile(r"(\d{1,15})(\.\d{1,9})?\s*([KMGT]?)(i?)B?", re.IGNORECASE)

ModelPath = Annotated[
    Path,
    typer.Argument(
        help="A .safetensors, .pt, .pth, .bin, .ckpt, .onnx, .pt2, .npz, .msgpack or .gguf file, a "
        "Hugging Face directory, org/name[@revision] or hf://… on the Hub, or "
        "registry:name[@alias].",
        metavar="MODEL",
    ),
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="Where to write.", metavar="OUT")
]
SpecOption = Annotated[
    str | None,
    typer.Option(
        "--spec", help="A shipped spec's name or a YAML file; found by itself by default."
    ),
]
Sizes = Annotated[
    list[str] | None,
    typer.Option(
        "--size",
        help="A size that neither shapes nor config.json tell, such as head=12.",
        metavar="NAME=N",
    ),
]
Method = Annotated[
    str,
    typer.Option(
        help="How to align; `rebasin-hub methods` lists what there is. Settings follow a colon: "
        "`straight-through:rate=0.005,steps=200`.",
        metavar="METHOD",
    ),
]
Start = Annotated[
    Path | None,
    typer.Option(help="Search on from this permutation file.", metavar="FILE"),
]
Seconds = Annotated[
    float | None,
    typer.Option(help="End each search after this long, with the best it has.", min=0),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1, mps, or auto.")]
Restarts = Annotated[
    int | None,
    typer.Option(help="Searches from different starts, 3 by default; the best counts.", min=1),
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.", min=0)]
Force = Annotated[bool, typer.Option("--force", help="Replace an existing output.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; read no weights.")]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        help="Hold tensors of so many bytes at a time; a few of the largest by default.",
        metavar="2GB",
    ),
]
AlignMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory",
        help="Hold so many bytes of both models and of what is made of them, and read the rest "
        "again when it is needed; the result is the same. By default all, if that is at most half "
        "of the memory that is free.",
        metavar="2GB",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Data = Annotated[
    Path | None, typer.Option(help="The file or directory of a task's samples.", metavar="PATH")
]
Limit = Annotated[
    int | None, typer.Option(help="Measure this many samples of each split; all by default.", min=1)
]
Batch = Annotated[int | None, typer.Option(help="Samples of one forward pass.", min=1)]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="What only some tasks know, such as mean=0.1307; docs/barriers.md has them all.",
        metavar="KEY=VALUE",
    ),
]

WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        help="Spread the work over so many processes, each with one thread; this process does it "
        "by default.",
        metavar="N",
        min=1,
    ),
]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="What the workers are: `local` processes (by default), or tasks of a `ray` cluster "
        "(that of RAY_ADDRESS, or one of this machine), or of `ray://HOST:PORT`.",
        metavar="ENGINE",
    ),
]


def choice_of(spec: str | None, sizes: list[str] | None) -> Choice:
    """Return the choice of spec that `--spec` and `--size` make."""
    from rebasin_hub.pipeline.models import Choice

    return Choice(spec, sizes_of(sizes))


def bound_of(max_memory: str | None) -> Bound:
    """Return what `--max-memory` says.

    Raises:
        typer.BadParameter: it is no size.

    """
    from rebasin_hub.stream import Bound

    return Bound(None if max_memory is None else bytes_of(max_memory))


def bytes_of(text: str) -> int:
    """Read a size such as 5GB (of 10⁹ bytes), 500MB or 2GiB (of 2³⁰).

    Raises:
        typer.BadParameter: it is no such size.

    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"'{text}' is no size such as 5GB, 500MB or 2GiB")
    whole, part, unit, binary = match.groups()
    factor = _UNITS[unit.upper()]
    if binary:
        factor = 1 << 10 * list(_UNITS).index(unit.upper())
    size = round(float(whole + (part or "")) * factor)
    if size < 1:
        raise typer.BadParameter(f"'{text}' is no size; give a byte at least, such as 500MB")
    return size


def sizes_of(entries: list[str] | None) -> dict[str, int]:
    """Read `name=12` entries.

    Raises:
        typer.BadParameter: an entry is not of that form.

    """
    sizes = {}
    for entry in entries or ():
        name, _, number = entry.partition("=")
        if not (name and number.isascii() and number.isdigit() and 0 < int(number) < 2**31):
            raise typer.BadParameter(f"'{entry}' is not NAME=N with a positive N, such as head=12")
        sizes[name.strip()] = int(number)
    return sizes


def task_options(
    data: Path | None,
    limit: int | None,
    batch: int | None,
    settings: list[str] | None,
    seed: int = 0,
) -> Options:
    """Return what `--data`, `--limit`, `--batch`, `--set` and `--seed` say of a task.

    Raises:
        typer.BadParameter: a setting is not of the form KEY=VALUE.

    """
    from rebasin_hub.tasks import Options

    given: dict[str, Any] = {} if batch is None else {"batch": batch}
    return Options(data=data, limit=limit, seed=seed, settings=_settings(settings), **given)


def _settings(entries: list[str] | None) -> dict[str, object]:
    """Read `key=value` entries; values are numbers, true, false, lists of them in JSON, or text."""
    settings: dict[str, object] = {}
    for entry in entries or ():
        key, equals, value = entry.partition("=")
        if not (key.strip() and equals):
            raise typer.BadParameter(f"'{entry}' is not KEY=VALUE, such as mean=0.1307")
        try:
            settings[key.strip()] = json.loads(value)
        except ValueError:
            settings[key.strip()] = value
    return settings


def workers_of(workers: int | None, engine: str | None) -> Workers | None:
    """Return what `--workers` and `--engine` ask for; None where neither is given.

    Raises:
        InputError: there is no such engine, or not with so many workers.

    """
    if workers is None and engine is None:
        return None
    from rebasin_hub.workers import Workers

    return Workers("auto" if engine is None else engine, workers)


def stored_type(text: str | None) -> str | None:
    """Return the stored name of an element type that may be given as torch calls it."""
    torch_names = {"FLOAT64": "F64", "FLOAT32": "F32", "FLOAT16": "F16", "BFLOAT16": "BF16"}
    return None if text is None else torch_names.get(text.upper(), text.upper())


def floats(text: str | None) -> tuple[float, ...] | None:
    """Read `0.7,0.3`.

    Raises:
        typer.BadParameter: it is no list of numbers.

    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no list of numbers such as 0.7,0.3") from None
