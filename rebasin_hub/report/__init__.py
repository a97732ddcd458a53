"""Results for people (text on stdout) and for programs (one JSON document)."""

from __future__ import annotations

import importlib
import json as jsonlib
import os
import sys
from pathlib import Path

from rich.console import Console

from rebasin_hub.errors import MissingExtraError
from rebasin_hub.pipeline.barrier.outputs import PICTURE, REPORT
from rebasin_hub.pipeline.inspect import Inspection
from rebasin_hub.record import Record
from rebasin_hub.report.documents import to_json
from rebasin_hub.report.models import tensor_table
from rebasin_hub.report.progress import progress_bar
from rebasin_hub.report.render import render

__all__ = ["progress_bar", "save_report", "show", "to_json"]

PIPE_WIDTH = 200
RENDERERS = (
    "barrier",
    "connect",
    "convert",
    "experiment",
    "hub",
    "infer",
    "many",
    "merging",
    "methods",
    "models",
    "registry",
    "specs",
)
"""The modules that register how a result is printed."""


def show(result: object, *, json: bool = False, tensors: bool = False) -> None:
    """Print a result on stdout, as text or as one JSON document."""
    if json:
        sys.stdout.write(jsonlib.dumps(to_json(result), indent=2) + "\n")
        return
    # A pipe has no width: tables keep their lines whole there.
    for module in RENDERERS:
        importlib.import_module(f"rebasin_hub.report.{module}")
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    console = Console(highlight=False, soft_wrap=True, emoji=False, width=width)
    render(result, console)
    if tensors and isinstance(result, Inspection):
        console.print(tensor_table(result))


def save_report(record: Record, folder: Path, *, force: bool = False) -> None:
    """Write the interactive page and the picture of a record into its folder.

    Without matplotlib there is no picture, which stderr is told; the page has it all.

    Raises:
        OutputError: a file exists and `force` is not set, or it cannot be written.

    """
    from rebasin_hub.plot import save_record
    from rebasin_hub.report.html import save_html

    save_html(record, folder / REPORT, force=force)
    try:
        save_record(record, folder / PICTURE, force=force)
    except MissingExtraError as missing:
        sys.stderr.write(f"note: {folder / PICTURE} was not drawn: {missing}\n")
