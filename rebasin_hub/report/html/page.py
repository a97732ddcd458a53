"""The page as a whole: head, sections, data and programs, in one file."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files
from pathlib import Path

from rebasin_hub.formats import new_file
from rebasin_hub.record import Record
from rebasin_hub.report.html.markup import Html, joined, tag
from rebasin_hub.report.html.measured import alignment_section, measured_section, notes_section
from rebasin_hub.report.html.results import (
    barriers_section,
    curves_section,
    matches_section,
    planes_section,
    verdict_header,
)

__all__ = ["html_report", "save_html"]

SCRIPTS = ("draw.js", "tooltip.js", "curves.js", "matches.js", "planes.js", "main.js")


def html_report(record: Record) -> str:
    """Return a page that shows a record and loads nothing from outside.

    Its Content-Security-Policy allows no request and no script or style but its own, by digest.
    Without scripts the verdict, the tables and the match of each permutation are there.
    """
    style = _asset("style.css")
    # One function around all: no name leaks, and strict mode holds for every part.
    script = "(() => {\n'use strict';\n" + "\n".join(map(_asset, SCRIPTS)) + "\n})();\n"
    policy = (
        f"default-src 'none'; style-src {_source(style)}; script-src {_source(script)}; "
        "img-src data:; base-uri 'none'; form-action 'none'"
    )
    head = joined(
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content=record.tool),
        tag("title", f"{record.kind.capitalize()}: {', '.join(_names(record))}"),
        Html(f"<style>{style}</style>"),
    )
    body = joined(
        verdict_header(record),
        tag(
            "main",
            curves_section(record),
            barriers_section(record),
            planes_section(record),
            matches_section(record),
            measured_section(record),
            alignment_section(record),
            notes_section(record),
        ),
        tag("div", id="tooltip", role="presentation", hidden=True),
        tag("div", id="spoken", class_="unseen", role="status", aria_live="polite"),
        Html(f'<script type="application/json" id="record">{_embedded(record)}</script>'),
        Html(f"<script>{script}</script>"),
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def save_html(record: Record, path: Path, *, force: bool = False) -> None:
    """Write the page of `html_report`.

    Raises:
        OutputError: `path` exists and `force` is not set, or it cannot be written.

    """
    with new_file(path, force=force) as file:
        file.put(html_report(record).encode())


def _names(record: Record) -> list[str]:
    return [f"{letter} {model.name}" for letter, model in record.models.items()]


def _asset(name: str) -> str:
    return files("rebasin_hub.report.html").joinpath("assets", name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """Name an inline script or style by its digest, for the policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _embedded(record: Record) -> str:
    r"""Return a record as JSON in which no character can end the script that holds it.

    Whatever HTML or JavaScript take for syntax is written as `\u....`, which JSON reads alike.
    """
    text = record.model_dump_json()
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
