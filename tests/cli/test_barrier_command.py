"""barrier and tasks: the program as one types it."""

import itertools
import json
import re
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from safetensors.numpy import save_file

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

SCHEMA = Path(__file__).parents[2] / "schemas" / "rebasin.schema.json"
FAST = ("--limit", "60", "--points", "5", "--treatments", "calibrated")


def classifier(seed, width=24, pixels=64, classes=10):
    rng = np.random.default_rng(seed)
    sizes = (pixels, width, width, classes)
    return {
        f"layers.{i}.{kind}": (rng.normal(size=shape) * 0.3).astype(np.float32)
        for i, (n, m) in enumerate(itertools.pairwise(sizes))
        for kind, shape in (("weight", (m, n)), ("bias", (m,)))
    }


@pytest.fixture
def pair(run, tmp_path):
    for seed, name in enumerate("abc"):
        save_file(classifier(seed), tmp_path / f"{name}.safetensors")
    return "a.safetensors", "b.safetensors"


def test_a_line_prints_its_verdict_and_columns(run, pair):
    done = run("barrier", *pair, *FAST)
    assert re.search(r"model A +a\.safetensors \([0-9a-f]{12}\)", done.out)
    assert re.search(r"^aligned +calibrated", done.out, re.MULTILINE)
    assert re.search(r"^(Alignment|There was).* on 'test'", done.out, re.MULTILINE)


def test_json_follows_the_schema_that_is_shipped(run, pair):
    record = run("barrier", *pair, *FAST, "--json").json()
    jsonschema.validate(record, json.loads(SCHEMA.read_text()))
    assert record["command"].startswith("rebasin-hub barrier a.safetensors b.safetensors")
    assert len(record["lambdas"]) == 5
    assert record["task"]["splits"]["test"]["count"] == 60


def test_a_folder_gets_the_record_the_report_and_the_permutations(run, pair, tmp_path):
    run("barrier", *pair, *FAST, "-o", "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"rebasin.json", "report.html", "b-to-a.safetensors"} <= names
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    run("apply", "out/b-to-a.safetensors", "b.safetensors", "-o", "moved.safetensors")
    again = run("barrier", *pair, *FAST, "-o", "out", code=1)
    assert "has rebasin.json already" in again.err
    run("barrier", *pair, *FAST, "-o", "out", "--force")


def test_a_plane_takes_three(run, pair, tmp_path):
    fast = ("--limit", "30", "--points", "4")
    run("barrier", *pair, "c.safetensors", "--plane", *fast, "-o", "plane")
    record = json.loads((tmp_path / "plane" / "rebasin.json").read_text())
    assert record["kind"] == "plane"
    assert len(record["planes"][0]["loss"]) == 4
    done = run("barrier", *pair, "--plane", code=2)
    assert "--plane takes three" in done.err
    assert "a line takes two" in run("barrier", *pair, "c.safetensors", code=2).err


def test_a_dry_run_measures_nothing(run, pair):
    done = run("barrier", *pair, "--dry-run", "--limit", "60")
    assert "would run" in done.out
    assert "12,000 forward passes" in done.out


def test_tasks_are_listed(run):
    listed = run("tasks", "--json").json()
    assert {"digits", "mnist", "text", "onnx"} <= {task["name"] for task in listed}
    shown = run("tasks").out
    assert all(task["example"] in shown for task in listed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--task", "mnst"), "did you mean 'mnist'"),
        (("--task", "mnist"), "needs data: give --data"),
        (("--task", "mnist", "--data", "nowhere"), "nowhere: is not there"),
        (("--data", "a.safetensors"), "brings its data along"),
        (("--treatments", "as-is,fixed"), "there is no treatment 'fixed'"),
        (("--treatments", "recomputed"), "no layer keeps running statistics"),
        (("--permutations", "a.safetensors"), "is no permutation file"),
        (("--set", "sise=8"), "did you mean 'size'"),
        (("--device", "cuda:99"), "cuda:99"),
    ],
)
def test_bad_input_gets_one_clear_error(run, pair, arguments, message):
    done = run("barrier", *pair, *arguments, code=1)
    assert message in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    ("odd", "message"),
    [({"pixels": 63}, "63"), ({"classes": 7}, "7"), ({"width": 25}, "25")],
)
def test_models_that_do_not_fit_are_refused_before_anything_runs(run, pair, tmp_path, odd, message):
    save_file(classifier(3, **odd), tmp_path / "odd.safetensors")
    done = run("barrier", "odd.safetensors", "a.safetensors", *FAST, code=1)
    assert message in done.err


def test_a_setting_of_no_form_is_wrong_usage(run, pair):
    assert "KEY=VALUE" in run("barrier", *pair, "--set", "mean", code=2).err
