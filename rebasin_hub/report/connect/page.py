"""One self-contained HTML page that shows a record of connectivity, without any script."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from importlib.resources import files

from rebasin_hub.record.connect import ConnectRecord, TrajectoryRecord
from rebasin_hub.report.connect.drawing import STYLE, heat_map, simplex_map, step_chart
from rebasin_hub.report.connect.parts import (
    NUMBERINGS,
    cells,
    curves,
    drawn_treatment,
    extent,
    pairs,
)
from rebasin_hub.report.figures import duration, figure, number, percent
from rebasin_hub.report.html.markup import Html, joined, tag
from rebasin_hub.report.html.results import section

__all__ = ["html_page"]

LINES = {"naive": "naive as-is", "last": "aligned as-is", "own": "aligned recomputed"}
"""The classes that give a numbering its colour and its dashes."""


def html_page(record: ConnectRecord | TrajectoryRecord) -> str:
    """Return a page that shows a record; it loads nothing and runs nothing."""
    style = files("rebasin_hub.report.html").joinpath("assets", "style.css").read_text("utf-8")
    style += STYLE
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = joined(
        tag("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="generator", content=record.tool),
        tag("title", f"Connectivity of {', '.join(name for _, name in _models(record))}"),
        Html(f"<style>{style}</style>"),
    )
    if isinstance(record, ConnectRecord):
        shown = [_matrices(record), _barriers(record), _simplices(record)]
    else:
        shown = [_charts(record), _steps(record)]
    notes = tag("ul", *(tag("li", note) for note in record.notes))
    body = joined(
        _header(record),
        tag(
            "main",
            *shown,
            _permutations(record),
            _measured(record),
            section("notes", "Notes", notes) if record.notes else Html(""),
        ),
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


def _models(record: ConnectRecord | TrajectoryRecord) -> list[tuple[str, str]]:
    if isinstance(record, ConnectRecord):
        return [(letter, model.name) for letter, model in record.models.items()]
    first, last = record.steps[0], record.steps[-1]
    return [
        ("A", f"{first.a.name} … {last.a.name}"),
        ("B", f"{first.b.name} … {last.b.name}"),
    ]


def _header(record: ConnectRecord | TrajectoryRecord) -> Html:
    first, *others = re.split(r"(?<=\.) (?=[A-Z])", record.verdict, maxsplit=1)
    models = [
        tag("li", tag("b", letter), " ", tag("span", name, class_="name"))
        for letter, name in _models(record)
    ]
    return tag(
        "header",
        tag("p", f"rebasin-hub · connectivity on {record.task.name}", class_="eyebrow"),
        tag("h1", first, id="verdict"),
        *(tag("p", other, class_="more") for other in others),
        tag("ul", *models, class_="models"),
    )


def _matrices(record: ConnectRecord) -> Html:
    """Return a heat map for each strategy on each split."""
    treatment, names = drawn_treatment(record), list(record.models)
    parts = []
    for split in record.task.splits:
        found = cells(record, split, treatment)
        top = extent(pair.entezari.loss.value for pair in found.values())
        maps = [
            heat_map(
                names,
                {pair: found[pair, strategy].entezari.loss.value for pair in pairs(record)},
                top,
                f"{strategy}, {split}",
            )
            for strategy in record.strategies
        ]
        parts.append(tag("div", *maps, class_="maps"))
    told = (
        f"Loss barriers ({treatment}) between every two models: as they are numbered; with a "
        "permutation for each pair; and with one permutation for each model, found through the "
        "first model or for all together. One colour scale holds for each row."
    )
    return section("matrices", "Between every two models", tag("p", told), *parts)


def _barriers(record: ConnectRecord) -> Html:
    tables = []
    for split in record.task.splits:
        rows = []
        for treatment in record.treatments:
            found = cells(record, split, treatment)
            rows += [
                (
                    f"{'–'.join(pair)}, {treatment}",
                    *(figure(found[pair, s].entezari.loss) for s in record.strategies),
                )
                for pair in pairs(record)
            ]
            means = {
                s.strategy: figure(s.mean)
                for s in record.summaries
                if (s.split, s.treatment) == (split, treatment)
            }
            rows.append((f"mean, {treatment}", *(means[s] for s in record.strategies)))
        tables.append(_table(f"Loss barriers on “{split}”", ("", *record.strategies), rows))
    told = (
        "Entezari: the largest rise of the loss above the straight line between both ends' losses. "
        "In brackets, the 95 % bootstrap interval over samples."
    )
    return section("barriers", "Barriers", tag("p", told), *tables)


def _simplices(record: ConnectRecord) -> Html:
    if not record.simplices:
        return Html("")
    parts = []
    for split, models in dict.fromkeys((s.split, s.models) for s in record.simplices):
        here = [s for s in record.simplices if (s.split, s.models) == (split, models)]
        known = [loss for one in here for loss in one.loss if loss is not None]
        low, top = (min(known), max(known)) if known else (0.0, 1.0)
        maps = [simplex_map(one, low, top, f"{one.strategy}, {split}") for one in here]
        parts.append(tag("div", *maps, class_="maps"))
    told = (
        "Losses of weighted means of three models, as is: a corner is a model. The barrier is the "
        "largest rise above the same mean of the models' own losses."
    )
    return section("simplices", "Between three models", tag("p", told), *parts)


def _charts(record: TrajectoryRecord) -> Html:
    treatment = drawn_treatment(record)
    parts = []
    for split in record.task.splits:
        columns = {
            NUMBERINGS[numbering]: (
                LINES[numbering],
                [curve.entezari.loss.value for curve in lines],
            )
            for numbering, lines in curves(record, split, treatment).items()
        }
        parts.append(tag("h3", f"Loss barrier on “{split}”, {treatment}"))
        parts.append(step_chart(columns, f"loss barrier on {split} over steps"))
    told = "The barrier between both trainings at each step, with B in three numberings."
    return section("steps-chart", "Step by step", tag("p", told), *parts)


def _steps(record: TrajectoryRecord) -> Html:
    tables = []
    for split in record.task.splits:
        for treatment in record.treatments:
            found = curves(record, split, treatment)
            rows = [
                (str(step), *(figure(lines[step].entezari.loss) for lines in found.values()))
                for step in range(len(record.steps))
            ]
            head = ("step", *(NUMBERINGS[numbering] for numbering in found))
            tables.append(_table(f"Loss barriers on “{split}”, {treatment}", head, rows))
    masks = [(step.step, step.masks) for step in record.steps if step.masks is not None]
    if masks:
        head = ("step", "pruned in A", "in B", "in the mean", "masks overlap")
        rows = [
            (
                str(step),
                percent(found.sparsity_a),
                percent(found.sparsity_b),
                f"{percent(found.merged['naive'])} → {percent(found.merged['last'])}",
                f"{percent(found.overlap['naive'])} → {percent(found.overlap['last'])}",
            )
            for step, found in masks
        ]
        tables.append(_table("Masks, naive → by the last step's permutation", head, rows))
    return section("steps", "Figures", *tables)


def _permutations(record: ConnectRecord | TrajectoryRecord) -> Html:
    rows = [
        (
            f"{one.model} to {one.to}, {one.strategy}",
            one.method,
            f"{number(one.start_cosine)} → {number(one.cosine)}",
            f"{one.moved:,} of {one.units:,}",
            one.file or "–",
        )
        for one in record.permutations
    ]
    head = ("", "method", "cosine of all weights", "units moved", "file")
    table = _table("What brings each model to another one's numbering", head, rows)
    return section("permutations", "Permutations", table)


def _measured(record: ConnectRecord | TrajectoryRecord) -> Html:
    entries = [
        ("Architecture", record.spec),
        ("Task", record.task.name),
        ("Loss", record.task.loss),
        *(
            (
                f"Split “{name}”",
                f"{split.count:,} of {split.available:,} samples of {split.source}, "
                f"SHA-256 {split.digest}",
            )
            for name, split in record.task.splits.items()
        ),
        ("Measured", f"{record.created}, in {duration(record.seconds)} on {record.device}"),
        ("Program", record.tool),
        ("Versions", ", ".join(f"{k} {v}" for k, v in record.versions.items())),
        ("Command", record.command),
    ]
    listed = tag("dl", *(joined(tag("dt", key), tag("dd", value)) for key, value in entries))
    return section("measured", "What was measured", listed)


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    columns = tag("tr", *(tag("th", text, scope="col") if text else tag("td") for text in head))
    body = [
        tag("tr", tag("th", first, scope="row"), *(tag("td", value) for value in values))
        for first, *values in rows
    ]
    table = tag("table", tag("caption", caption), tag("thead", columns), tag("tbody", *body))
    return tag("div", table, class_="wide", role="region", tabindex="0", aria_label=caption)
