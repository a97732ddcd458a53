"""verify, digest, inspect, merge, spec: what the program says of models."""

from pathlib import Path

import numpy as np
import pytest
from cli_models import mlp, renumber_mlp
from safetensors.numpy import load_file, save_file

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"


def relation(done):
    return done.json()["relation"]


def test_verify_tells_five_relations_apart(run, models):
    tensors = mlp(0)
    save_file(tensors, models / "same.safetensors")
    save_file(renumber_mlp(tensors, seed=4), models / "renumbered.safetensors")
    half = {n: t.astype(np.float16) for n, t in renumber_mlp(tensors, seed=4).items()}
    save_file(half, models / "rounded.safetensors")
    rng = np.random.default_rng(3)
    tuned = {n: t + 0.1 * rng.normal(size=t.shape).astype(np.float32) for n, t in tensors.items()}
    save_file(renumber_mlp(tuned, seed=4), models / "tuned.safetensors")
    for name, code, expected in (
        ("same", 0, "identical"),
        ("renumbered", 0, "renumbered"),
        ("rounded", 1, "rounded"),
        ("tuned", 1, "related"),
        ("b", 1, "unrelated"),
    ):
        done = run("verify", "a.safetensors", f"{name}.safetensors", "--json", code=code)
        assert relation(done) == expected, name
    found = run("verify", "a.safetensors", "tuned.safetensors", "--json", code=1).json()
    assert found["aligned"]["relative"] < 0.15 < found["as_stored"]["relative"]


def test_a_plain_digest_takes_no_spec_and_tells_renumbered_copies_apart(run, models):
    tensors = mlp(0)
    save_file(renumber_mlp(tensors, seed=4), models / "renumbered.safetensors")
    np.savez(models / "same.npz", **tensors)
    save_file({"unknown": np.ones(3, np.float32)}, models / "odd.safetensors")
    names = ["a.safetensors", "renumbered.safetensors", "same.npz", "odd.safetensors"]
    of = {
        name: line.split()[0]
        for name, line in zip(names, run("digest", "--plain", *names).out.splitlines(), strict=True)
    }
    assert of["same.npz"] == of["a.safetensors"] != of["renumbered.safetensors"]
    assert len(set(of.values())) == 3
    both = run("digest", "a.safetensors", "--json").json()[0]
    assert run("digest", "--plain", "a.safetensors", "--json").json()[0]["digest"] == both["digest"]
    assert of["a.safetensors"] == both["digest"] != both["canonical"]
    done = run("digest", "--plain", "--spec", "mlp", "a.safetensors", code=1)
    assert "--plain takes no spec; leave out --spec and --size, or --plain" in done.err


def test_verify_says_so_in_words(run, models):
    save_file(renumber_mlp(mlp(0), seed=4), models / "renumbered.safetensors")
    done = run("verify", "a.safetensors", "renumbered.safetensors")
    assert "the same model, renumbered: both compute the same function" in done.out


def test_merge_with_a_renumbered_copy_gives_the_model_back(run, models):
    save_file(renumber_mlp(mlp(0), seed=5), models / "copy.safetensors")
    run("merge", "a.safetensors", "copy.safetensors", "-o", "m.safetensors", "--weights", "0.3,0.7")
    assert (
        run("verify", "a.safetensors", "m.safetensors", "--json").json()["relation"] == "identical"
    )
    run("merge", "a.safetensors", "copy.safetensors", "-o", "n.safetensors", "--no-align")
    done = run("verify", "a.safetensors", "n.safetensors", "--json", code=1)
    assert done.json()["relation"] != "identical"


def test_merge_of_three_is_the_weighted_mean_of_the_aligned(run, models):
    save_file(mlp(2), models / "c.safetensors")
    for name in "bc":
        run("canonicalize", f"{name}.safetensors", "--reference", "a.safetensors")
    run(
        "merge", "a.safetensors", "b.safetensors", "c.safetensors", "-o", "m.safetensors",
        "--weights", "2,1,1", "--dtype", "F64",
    )  # fmt: skip
    merged = load_file(models / "m.safetensors")
    parts = [
        load_file(models / n)
        for n in ("a.safetensors", "b.canonical.safetensors", "c.canonical.safetensors")
    ]
    for name, value in merged.items():
        assert value.dtype == np.float64
        mean = 0.5 * parts[0][name] + 0.25 * parts[1][name] + 0.25 * parts[2][name]
        assert np.allclose(value, mean, rtol=0, atol=1e-6)


def test_a_merge_is_planned_before_anything_is_read(run, models):
    plan = run(
        "merge", "a.safetensors", "b.safetensors", "-o", "m.safetensors", "--dry-run", "--json"
    ).json()
    assert plan["weights"] == [0.5, 0.5]
    assert plan["read_bytes"] == 2 * plan["write_bytes"]
    assert not (models / "m.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "ties"], "unknown merge method 'ties'; there are linear, slerp"),
        (["--weights", "1"], "2 models take 2 weights, and not 1"),
        (["--weights", "1,-1"], "must not be negative"),
        (["--dtype", "I8"], "cannot merge into 'I8'"),
        (["--align-method", "magic"], "method 'magic' is none of"),
    ],
)
def test_bad_recipes_are_refused_before_the_work(run, models, options, message):
    done = run("merge", "a.safetensors", "b.safetensors", "-o", "m.safetensors", *options, code=1)
    assert message in done.err
    assert not (models / "m.safetensors").exists()


def test_inspect_shows_files_of_both_kinds(run, models):
    seen = run("inspect", "a.safetensors", "--json").json()
    assert seen["spec"] == "mlp"
    assert seen["parameters"] == sum(t.size for t in mlp(0).values())
    assert seen["tensors"]["fc1.weight"] == {"dtype": "F32", "shape": [8, 6]}
    assert "fc1.weight" in run("inspect", "a.safetensors", "--tensors").out
    run("align", "b.safetensors", "a.safetensors", "-o", "p.safetensors")
    seen = run("inspect", "p.safetensors", "--json").json()
    assert seen["sizes"] == {"hidden[1]": 8, "hidden[2]": 7}
    assert seen["details"]["seed"] == "0"


def test_spec_commands(run, models, tmp_path):
    assert {"mlp", "llama"} <= {s["name"] for s in run("spec", "list", "--json").json()}
    text = run("spec", "show", "mlp").out
    assert "hidden[<layer]" in text
    assert run("spec", "detect", "a.safetensors", "--json").json()["spec"] == "mlp"
    (tmp_path / "good.yaml").write_text(text)
    assert "1 spec valid" in run("spec", "validate", "good.yaml").out
    (tmp_path / "bad.yaml").write_text(text.replace("hidden[<layer]", "hiden[<layer]"))
    bad = run("spec", "validate", "good.yaml", "bad.yaml", code=1)
    assert "did you mean 'hidden'?" in bad.out
    assert bad.out.startswith("bad.yaml:")
    assert '"$id"' in run("spec", "schema").out
    assert "did you mean 'llama'?" in run("spec", "show", "lama", code=1).err


def test_a_proof_is_shown_and_a_wrong_spec_fails_it(run, tmp_path):
    pytest.importorskip("torch")
    assert run("spec", "prove", "mlp", "--json").json()
    broken = run("spec", "show", "mlp").out.replace("hidden hidden[<layer]", "hidden _")
    (tmp_path / "broken.yaml").write_text(broken)
    run("spec", "prove", "broken.yaml", code=1)


def test_a_model_of_the_users_own_proves_a_spec(run, tmp_path):
    pytest.importorskip("torch")
    spec = EXAMPLES / "sceptr.yaml"
    builder = f"{EXAMPLES / 'sceptr_model.py'}:build"
    done = run("spec", "prove", spec, "--model", builder, "--size", "head=3", "--json").json()
    assert done["holds"]
    assert done["examples"][0]["deviation"] < 1e-12
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    for model, message in (
        ("nowhere.py:build", "nowhere.py: does not exist"),
        ("nowhere:build", "names no Python file and function"),
        (builder.replace(":build", ":biuld"), "has no function 'biuld'"),
        ("broken.py:build", "cannot be run: ModuleNotFoundError"),
    ):
        assert message in run("spec", "prove", spec, "--model", model, code=1).err
