"""connect: the program as one types it."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_barrier_command import classifier

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

FAST = ("--limit", "30", "--points", "3", "--resolution", "2", "--treatments", "as-is")


@pytest.fixture
def models(run, tmp_path):
    for seed, name in enumerate("abc"):
        save_file(classifier(seed, width=8), tmp_path / f"{name}.safetensors")
    return "a.safetensors", "b.safetensors", "c.safetensors"


@pytest.fixture
def trainings(run, tmp_path):
    for seed, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for step in (2, 10):
            weights = classifier(10 * seed + step, width=8)
            masks = {n: np.abs(x) > 0.1 for n, x in weights.items() if x.ndim > 1}
            save_file(weights, tmp_path / name / f"step-{step}.safetensors")
            save_file(masks, tmp_path / name / f"step-{step}.mask.safetensors")
    return "a", "b"


def test_models_print_the_matrix_and_a_verdict(run, models):
    done = run("connect", *models, *FAST)
    assert re.search(r"model C +c\.safetensors \([0-9a-f]{12}\)", done.out)
    assert re.search(r"^pair +treatment +naive +pairwise +reference +universe", done.out, re.M)
    assert re.search(r"^B–C +as is", done.out, re.M)
    assert re.search(r"^A, B, C +reference +test", done.out, re.M)
    assert re.search(r"^(Not weakly|Weakly) connected", done.out, re.M)


def test_json_is_the_record_and_keeps_the_command(run, models):
    record = run("connect", *models, *FAST, "--json", "--no-simplex").json()
    assert record["command"].startswith("rebasin-hub connect a.safetensors b.safetensors")
    assert (record["rebasin"], record["kind"]) == (1, "connect")
    assert record["simplices"] == []


def test_strategies_can_be_chosen(run, models):
    record = run("connect", *models, *FAST, "--strategies", "reference", "--json").json()
    assert record["strategies"] == ["naive", "pairwise", "reference"]


def test_a_folder_gets_record_report_and_permutations(run, models, tmp_path):
    run("connect", *models, *FAST, "-o", "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"connect.json", "connect.html", "universe-c-to-a.safetensors"} <= names
    run(
        *("apply", "out/pairwise-c-to-b.safetensors", "c.safetensors"),
        *("-o", "moved.safetensors"),
    )
    again = run("connect", *models, *FAST, "-o", "out", code=1)
    assert "has connect.json already" in again.err
    run("connect", *models, *FAST, "-o", "out", "--force")


def test_trajectories_of_two_folders(run, trainings, tmp_path):
    done = run("connect", "--trajectory", *trainings, *FAST, "-o", "out")
    assert re.search(r"model A +step-2\.safetensors … step-10\.safetensors, 2 steps", done.out)
    assert re.search(r"^(Not s|S)imultaneously connected", done.out, re.M)
    record = json.loads((tmp_path / "out" / "connect.json").read_text())
    assert record["kind"] == "trajectory"
    assert {c["numbering"] for c in record["curves"]} == {"naive", "last", "own"}
    assert (tmp_path / "out" / "connect.html").exists()


def test_trajectories_of_repeated_options_and_their_masks(run, trainings):
    steps = [
        part
        for name in trainings
        for step in (2, 10)
        for part in (f"--step-{name}", f"{name}/step-{step}.safetensors")
    ]
    masks = ("--masks", "a", "--masks", "b")
    record = run("connect", "--trajectory", *steps, *masks, *FAST, "--no-own", "--json").json()
    assert {c["numbering"] for c in record["curves"]} == {"naive", "last"}
    assert all(0 < step["masks"]["sparsity_a"] < 1 for step in record["steps"])


def test_dry_runs_measure_nothing(run, models, trainings):
    shown = run("connect", *models, *FAST, "--dry-run").out
    assert "3 pairs of 3 points each, 1 simplices" in shown
    assert "forward passes" in shown
    shown = run("connect", "--trajectory", *trainings, *FAST, "--dry-run").out
    assert "2 steps of 3 points each" in shown


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("a.safetensors",), "takes two models or more", 2),
        ((), "takes two models or more", 2),
        (("a.safetensors", "b.safetensors", "--strategies", "pairs"), "no strategy 'pairs'", 1),
        (("a.safetensors", "b.safetensors", "--simplex"), "a simplex takes three models", 1),
        (("a.safetensors", "b.safetensors", "--masks", "a.safetensors"), "--trajectory", 2),
        (("a.safetensors", "b.safetensors", "--method", "wieght"), "'wieght'", 1),
        (("a.safetensors", "nowhere.safetensors"), "nowhere.safetensors", 1),
        (("--trajectory", "a.safetensors"), "takes two folders or lists", 2),
        (("--trajectory", "a.safetensors", "b.safetensors", "--masks", "a"), "1 times", 2),
        (
            ("--trajectory", "--step-a", "a.safetensors", "a.safetensors"),
            "or --step-a and --step-b",
            2,
        ),
        (("--trajectory", "--step-a", "a.safetensors"), "1 and 0 checkpoints", 1),
    ],
)
def test_bad_input_gets_one_clear_error(run, models, arguments, message, code):
    done = run("connect", *arguments, code=code)
    assert message in " ".join(done.err.replace("│", " ").split())
    assert "Traceback" not in done.err
    assert done.out == ""


def test_models_of_other_sizes_are_refused(run, models, tmp_path):
    save_file(classifier(3, width=9), tmp_path / "odd.safetensors")
    done = run("connect", *models, "odd.safetensors", *FAST, code=1)
    assert "is 8 against 9" in done.err
