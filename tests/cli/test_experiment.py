"""`experiment list` and `experiment run`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rebasin_hub.experiments import EXPERIMENTS, catalogue

sys.path.append(str(Path(__file__).parents[1] / "experiments"))
from tiny import tiny


@pytest.fixture
def measured(monkeypatch):
    found = []
    monkeypatch.setattr(catalogue, "EXPERIMENTS", {"tiny": tiny(found)})
    return found


def test_the_list_has_every_question(run) -> None:
    shown = run("experiment", "list").out
    for one in EXPERIMENTS.values():
        assert one.name in shown
        assert one.title in shown
    listed = run("experiment", "list", "--json").json()
    assert [one["name"] for one in listed] == list(EXPERIMENTS)
    assert next(one for one in listed if one["name"] == "width")["tasks"]["paper"] == "cifar10"


def test_a_run_shows_its_findings_and_where_they_are(run, measured, tmp_path) -> None:
    command = ("experiment", "run", "tiny", "-o", "out", "--device", "cpu")
    done = run(*command, "--docs", "docs")
    assert "6 rows, 9.5 at last." in done.out
    assert "4.500 (4.000 – 5.000)" in done.out
    assert [line.split("]")[0] for line in done.err.splitlines()] == [f"[{n}/6" for n in range(6)]
    page = (tmp_path / "docs" / "tiny.md").read_text(encoding="utf-8")
    assert "$ rebasin-hub experiment run tiny -o out --device cpu --docs docs" in page
    found = run(*command, "--json").json()
    assert found["table"][0]["y"] == 1.5
    assert found["files"]["json"] == str(next(Path("out").glob("tiny-*.json")))
    assert len(measured) == 6
    run(*command, "--force")
    assert len(measured) == 12


def test_a_dry_run_says_what_would_be_measured(run, measured, tmp_path) -> None:
    done = run("experiment", "run", "tiny", "--dry-run", "--seeds", "4", "--device", "cpu")
    assert "12 of 12 cells" in done.out
    assert done.err == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("breadth",), "there is no experiment 'breadth'; there are tiny"),
        (("tiny", "--scale", "huge"), "there is no scale 'huge'"),
        (("tiny", "--task", "digits"), "needs no data; leave out --task"),
    ],
)
def test_what_cannot_be_run_is_a_known_error(run, measured, arguments, message) -> None:
    assert message in run("experiment", "run", *arguments, code=1).err


def test_a_paper_scale_without_its_data_says_what_to_give(run) -> None:
    done = run("experiment", "run", "width", "--scale", "paper", code=1)
    assert "the task 'cifar10' needs --data" in done.err
