"""`align-many`: files for all members, what is said of them, and what is refused."""

import numpy as np
import pytest
from cli_models import mlp, renumber_mlp
from safetensors.numpy import load_file, save_file

from rebasin_hub.permfile import PermutationFile

ABC = ("a.safetensors", "b.safetensors", "c.safetensors")
STRATEGIES = ("reference", "hierarchical", "merge-many", "universe", "to-reference")


@pytest.fixture
def three(models):
    save_file(mlp(2), models / "c.safetensors")
    return models


@pytest.fixture
def copies(tmp_path):
    """Write a.safetensors and two renumbered copies of it."""
    save_file(mlp(0), tmp_path / "a.safetensors")
    for seed, name in enumerate("bc"):
        save_file(renumber_mlp(mlp(0), seed=seed), tmp_path / f"{name}.safetensors")
    return tmp_path


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_files_bring_renumbered_copies_together(run, copies, strategy):
    said = run("align-many", *ABC, "-o", "p", "--strategy", strategy, "--json").json()
    assert files(copies / "p") == list(ABC)
    first = load_file(copies / "a.safetensors")
    for name in ABC:
        run("apply", f"p/{name}", name, "-o", f"new-{name}")
        moved = load_file(copies / f"new-{name}")
        assert all(moved[key].tobytes() == first[key].tobytes() for key in first)
    assert said["cycle_error"] == 0
    assert said["distances"][0] > said["distances"][-1] == 0
    assert [member["cosine"] for member in said["members"]] == pytest.approx([1, 1, 1])
    assert all(member["start_cosine"] < 0.9 for member in said["members"])
    assert said["members"][0]["moved"] == 0 < said["members"][1]["moved"]


def test_a_universe_says_what_each_round_gained(run, three):
    said = run("align-many", *ABC, "-o", "p").out
    shown = run("align-many", *ABC, "--json").json()
    assert shown["strategy"] == "universe"
    assert sorted(shown["distances"], reverse=True) == shown["distances"]
    assert all(m["cosine"] > m["start_cosine"] for m in shown["members"])
    assert "0.0 % of the units" in said
    assert "3 permutation files" in said
    assert f"{shown['members'][1]['cosine']:.4f}" in said
    details = PermutationFile.load(three / "p" / "b.safetensors")
    assert details.method == "weight, universe"
    assert details.details["reference"] == PermutationFile.load(three / "p" / ABC[0]).source


def test_pairs_have_a_file_each_and_a_cycle_error(run, three):
    said = run("align-many", *ABC, "-o", "p", "--strategy", "pairwise", "--json").json()
    names = ["b-to-a.safetensors", "c-to-a.safetensors", "c-to-b.safetensors"]
    assert files(three / "p") == names
    assert said["cycle_error"] > 0
    assert said["members"] == []
    alone = run("align", "c.safetensors", "b.safetensors", "-o", "cb.safetensors", "--json").json()
    pair = next(p for p in said["pairs"] if p["output"] == "p/c-to-b.safetensors")
    assert pair["alignment"]["cosine"] == alone["alignment"]["cosine"]
    one, other = (PermutationFile.load(three / n) for n in ("cb.safetensors", f"p/{names[2]}"))
    assert all(np.array_equal(one.element[k], other.element[k]) for k in one.element)
    assert (one.source, one.result) == (other.source, other.result)
    assert one.details == other.details
    shown = run("align-many", *ABC, "--strategy", "pairwise").out
    assert f"{100 * said['cycle_error']:.1f} % of the units" in shown


def test_the_same_command_gives_the_same_bytes(run, three):
    for name in ("one", "two"):
        run("align-many", *ABC, "-o", name, "--seed", 3, "--method", "frank-wolfe:starts=random")
    for name in ABC:
        assert (three / "one" / name).read_bytes() == (three / "two" / name).read_bytes()


def test_models_of_one_name_have_files_of_their_own(run, three):
    (three / "inner").mkdir()
    save_file(mlp(5), three / "inner" / "a.safetensors")
    run("align-many", "a.safetensors", "inner/a.safetensors", "b.safetensors", "-o", "p")
    assert files(three / "p") == ["a-2.safetensors", "a.safetensors", "b.safetensors"]


def test_a_folder_of_permutation_files_is_replaced_only_by_force(run, three):
    run("align-many", *ABC, "-o", "p", "--strategy", "pairwise")
    assert "exists already" in run("align-many", *ABC, "-o", "p", code=1).err
    run("align-many", *ABC, "-o", "p", "--force")
    assert files(three / "p") == list(ABC)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (".", "holds an input, which is never changed"),
        ("notes", "notes.txt in it is no permutation file"),
        ("a.safetensors", "is a file; name a folder"),
        ("nowhere/p", "does not exist; create it first"),
    ],
)
def test_folders_that_hold_anything_else_are_left_alone(run, three, output, said):
    (three / "notes").mkdir()
    (three / "notes" / "notes.txt").write_text("mine")
    before = {path: path.read_bytes() for path in three.rglob("*") if path.is_file()}
    assert said in run("align-many", *ABC, "-o", output, "--force", code=1).err
    assert before == {path: path.read_bytes() for path in three.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--strategy", "univers"),
            "is none of reference, hierarchical, merge-many",
        ),
        (("--method", "wait"), "method 'wait' is none of"),
        (("--method", "activation"), "needs a task"),
    ],
)
def test_senseless_requests_end_with_one_sentence(run, three, arguments, said):
    done = run("align-many", *ABC, "-o", "p", *arguments, code=1)
    assert said in done.err
    assert not (three / "p").exists()


def test_one_model_and_models_of_other_shapes_are_refused(run, three):
    assert "two models or more" in run("align-many", "a.safetensors", code=1).err
    save_file({k: v[:1] for k, v in mlp(0).items()}, three / "other.safetensors")
    done = run("align-many", "a.safetensors", "other.safetensors", code=1)
    assert "do not have the same tensors" in done.err


@pytest.mark.parametrize("spread", [("--workers", "1"), ("--workers", "2"), ("--engine", "local")])
def test_workers_find_the_same_to_the_byte(run, three, spread):
    command = ("align-many", *ABC, "--strategy", "pairwise")
    alone = run(*command, "-o", "p", "--json").json()
    shared = run(*command, "-o", "q", *spread, "--json").json()
    for file in files(three / "p"):
        assert (three / "q" / file).read_bytes() == (three / "p" / file).read_bytes()
    assert files(three / "q") == files(three / "p")
    for pairs in (alone["pairs"], shared["pairs"]):
        for pair in pairs:
            del pair["output"]
    assert shared["pairs"] == alone["pairs"]
    assert shared["cycle_error"] == alone["cycle_error"]


def test_what_a_worker_refuses_ends_with_one_sentence(run, three):
    weights = mlp(0)
    next(iter(weights.values()))[:] = np.nan
    save_file(weights, three / "nan.safetensors")
    pairs = ("align-many", *ABC, "nan.safetensors", "--strategy", "pairwise", "-o", "p")
    alone = run(*pairs, code=1).err
    assert run(*pairs, "--workers", "2", code=1).err == alone
    assert alone.startswith("error: ")
    assert not (three / "p").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--strategy", "universe", "--workers", "2"), "every step of 'universe' builds on"),
        (("--strategy", "pairwise", "--engine", "rai"), "engine 'rai' is none of auto, serial"),
    ],
)
def test_work_that_cannot_be_spread_is_refused(run, three, arguments, said):
    assert said in run("align-many", *ABC, *arguments, code=1).err
