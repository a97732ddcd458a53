"""The page, the picture and the text of records of connectivity."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser

import pytest
from connect_nets import save, trained
from pydantic import ValidationError
from rich.console import Console

from rebasin_hub.errors import InputError, OutputError
from rebasin_hub.pipeline.connect import (
    ConnectRequest,
    TrajectoryRequest,
    connect_models,
    connect_trajectories,
)
from rebasin_hub.record.connect import ConnectRecord
from rebasin_hub.record.connectfiles import load_connect, save_connect
from rebasin_hub.report.connect import save_connect_report
from rebasin_hub.report.connect.page import html_page
from rebasin_hub.report.render import render
from rebasin_hub.tasks import Options

HOSTILE = "</script><img src=x onerror=alert(1)>\u202e"


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return tuple(save(folder, name, trained(seed, 2)) for seed, name in enumerate("abcd"))


@pytest.fixture(scope="module")
def records(paths):
    common = {"options": Options(limit=40, settings={"split": "test"}), "points": 3}
    models = ConnectRequest(paths[:3], resolution=4, **common)
    steps = TrajectoryRequest(paths[:2], paths[2:], **common)
    return {"models": connect_models(models), "steps": connect_trajectories(steps)}


class Tags(HTMLParser):
    """Checks that every tag is closed in its turn, and keeps what it saw."""

    VOID = frozenset({"meta"})

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on"), (tag, name, value)
            assert name not in {"style", "src"}, (tag, name, value)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def tags_of(record) -> list[str]:
    parser = Tags()
    parser.feed(html_page(record))
    parser.close()
    assert parser.open == []
    return parser.seen


def test_a_page_of_models_has_a_matrix_for_each_numbering_and_the_simplices(records):
    record = records["models"]
    seen = tags_of(record)
    assert seen.count("figure") == 4 + 3
    assert seen.count("rect") == 4 * 6
    assert seen.count("polygon") == 3 * 16  # 4 intervals make 16 triangles
    assert "script" not in seen
    page = html_page(record)
    for pair in record.pairs:
        assert f"{pair.entezari.loss.value:.4f}" in page
    assert record.verdict.split(". ")[0] in page.replace("&#x27;", "'").replace("&amp;", "&")


def test_a_page_of_steps_has_a_line_for_each_numbering(records):
    seen = tags_of(records["steps"])
    assert seen.count("polyline") == 3
    assert seen.count("circle") == 3 * 2


def test_a_page_loads_nothing_and_runs_nothing(records):
    for record in records.values():
        page = html_page(record)
        assert "default-src 'none'; style-src 'sha256-" in page
        assert "http" not in page.replace("http-equiv", "")
        assert not re.search(r"url\(|@import", page)


def test_names_are_never_markup(records):
    record = records["models"]
    hostile = record.model_copy(
        update={
            "models": {
                letter: model.model_copy(update={"name": HOSTILE})
                for letter, model in record.models.items()
            },
            "command": HOSTILE,
            "notes": [HOSTILE],
        }
    )
    assert "img" not in tags_of(hostile)
    assert "\u202e" not in html_page(hostile)


def test_files_are_written_once(records, tmp_path):
    for name, record in records.items():
        folder = tmp_path / name
        folder.mkdir()
        save_connect_report(record, folder)
        assert (folder / "connect.html").read_text() == html_page(record)
        assert (folder / "connect.png").read_bytes().startswith(b"\x89PNG")
        with pytest.raises(OutputError, match="exists already"):
            save_connect_report(record, folder)
        save_connect_report(record, folder, force=True)


def shown(record) -> str:
    console = Console(width=200, file=io.StringIO(), soft_wrap=True)
    render(record, console)
    return console.file.getvalue()


def test_text_has_the_matrix_the_simplices_and_the_verdict(records):
    record = records["models"]
    text = shown(record)
    for pair in record.pairs:
        assert f"{pair.entezari.loss.value:.4f} [" in text
    assert "naive" in text
    assert "universe" in text
    assert f"cycle error  {100 * record.cycle_error['pairwise']:.1f} %" in text
    assert record.verdict in text


def test_text_of_steps_has_a_row_for_each(records):
    record = records["steps"]
    text = shown(record)
    assert re.search(r"^1 +\d\.\d{4} +\d\.\d{4}", text, re.MULTILINE)
    assert record.verdict in text


def test_load_after_save_is_the_identity(records, tmp_path):
    for name, record in records.items():
        save_connect(record, tmp_path / f"{name}.json")
        assert load_connect(tmp_path / f"{name}.json") == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lambdas": [0.0, 1.0]}, "has not one value for each of the lambdas"),
        ({"models": {}}, "is not one of them"),
        ({"extra": 1}, "Extra inputs"),
        ({"rebasin": 2}, "Input should be 1"),
    ],
)
def test_what_is_no_record_is_refused(records, tmp_path, change, message):
    document = {**records["models"].model_dump(mode="json"), **change}
    with pytest.raises(ValidationError, match=message):
        ConnectRecord.model_validate(document, strict=False)
    path = tmp_path / "connect.json"
    path.write_text("{}")
    with pytest.raises(InputError, match="is no record that `connect` wrote"):
        load_connect(path)


def test_losses_that_are_not_finite_are_shown_as_such(records):
    record = records["models"]
    first = record.pairs[0]
    unknown = first.entezari.loss.model_copy(update={"value": None, "low": None, "high": None})
    broken = first.model_copy(
        update={"entezari": first.entezari.model_copy(update={"loss": unknown})}
    )
    shown_record = record.model_copy(update={"pairs": [broken, *record.pairs[1:]]})
    assert "not finite" in shown(shown_record)
    assert "∞" in html_page(shown_record)
