"""Results for people (text on stdout) and for programs (one JSON document)."""

from __future__ import annotations

import json as jsonlib
import os
import sys

from rich.console import Console

from rebasin_hub.pipeline.inspect import Inspection
from rebasin_hub.report.documents import to_json
from rebasin_hub.report.progress import progress_bar
from rebasin_hub.report.text import render, tensor_table

__all__ = ["progress_bar", "show", "to_json"]

PIPE_WIDTH = 200


def show(result: object, *, json: bool = False, tensors: bool = False) -> None:
    """Print a result on stdout, as text or as one JSON document."""
    if json:
        sys.stdout.write(jsonlib.dumps(to_json(result), indent=2) + "\n")
        return
    # A pipe has no width: tables keep their lines whole there.
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
    console = Console(highlight=False, soft_wrap=True, emoji=False, width=width)
    render(result, console)
    if tensors and isinstance(result, Inspection):
        console.print(tensor_table(result))
