"""The page of an experiment, as Markdown."""

from __future__ import annotations

import json
from collections.abc import Sequence

from rebasin_hub.experiments.experiment import Column
from rebasin_hub.experiments.result import ExperimentResult
from rebasin_hub.experiments.words import cell_text

__all__ = ["MARK", "page_of", "table_of"]

MARK = "<!-- Written by `rebasin-hub experiment run"
"""How every page begins: a page that begins otherwise is somebody's own."""


def page_of(result: ExperimentResult) -> str:
    """Return the page: question, findings, table, protocol, and how to repeat it."""
    return (
        "\n\n".join(
            [
                f"{MARK} {result.experiment}`; its figures are not to be edited. -->",
                f"# {result.title}",
                result.question,
                *result.findings,
                table_of(result).rstrip(),
                "## How it was measured",
                f"{result.protocol} ({result.source})",
                _circumstances(result),
                f"```console\n$ {result.command}\n```",
                "Settings:",
                f"```json\n{_settings(result)}\n```",
            ]
        ).replace("\n\n\n", "\n\n")
        + "\n"
    )


def table_of(result: ExperimentResult) -> str:
    """Return the table: means with their range over the rows of each place."""
    columns: Sequence[Column] = result.columns
    lines = [
        "| " + " | ".join(column.head for column in columns) + " |",
        "|" + "|".join(" --- " if column.key else " ---: " for column in columns) + "|",
    ]
    for row in result.table:
        lines.append("| " + " | ".join(cell_text(row, column) for column in columns) + " |")
    return "\n".join(lines) + "\n"


def _circumstances(result: ExperimentResult) -> str:
    machine, versions = result.machine, result.versions
    data = ""
    if result.task is not None:
        counts = ", ".join(f"{n:,} images to {s}" for s, n in result.data["counts"].items())
        data = f" on `{result.task}` ({counts})"
    most = max(int(row["rows"]) for row in result.table)
    behind = f", up to {most} measurements a line (mean, and range in brackets)" if most > 1 else ""
    return (
        f"Measured on {result.date[:10]} at the scale `{result.scale}`{data}{behind}, in "
        f"{_duration(result.seconds)} with training, on {result.device} of a "
        f"{machine['architecture']} machine with {machine['cores']} cores; "
        + ", ".join(f"{name} {version}" for name, version in versions.items())
        + "."
    )


def _settings(result: ExperimentResult) -> str:
    """Return JSON with a setting a line."""
    lines = (f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in result.settings.items())
    return "{\n" + ",\n".join(lines) + "\n}"


def _duration(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004
        return f"{seconds:.0f} seconds"
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"  # noqa: PLR2004
