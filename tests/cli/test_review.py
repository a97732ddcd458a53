"""Cases that once went wrong."""

import json
import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from cli_models import gpt2, mlp, renumber_mlp
from safetensors import safe_open
from safetensors.numpy import load_file, save_file


def test_two_outputs_never_share_a_file(run, models):
    both = ["-o", "x.safetensors", "--permutations", "x.safetensors"]
    done = run("canonicalize", "a.safetensors", *both, "--force", code=1)
    assert "is the other output" in done.err
    assert not (models / "x.safetensors").exists()


@pytest.mark.parametrize(
    ("output", "message"), [("nodir/p.safetensors", "does not exist"), (".", "is a directory")]
)
def test_permutation_files_are_refused_before_the_search(run, models, output, message):
    for command in (
        ["align", "b.safetensors", "a.safetensors", "-o", output],
        ["canonicalize", "a.safetensors", "--permutations", output],
    ):
        assert message in run(*command, code=1).err
    assert sorted(p.name for p in models.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_a_size_cannot_contradict_config(run, gpt2_folder):
    done = run("canonicalize", gpt2_folder(), "--size", "head=2", "--spec", "gpt2", code=1)
    assert "'head' was given as 2, but is 3 (n_head in config.json)" in done.err


def integers(sign):
    tensors = {n: np.round(t * 10).astype(np.int8) for n, t in mlp(0).items()}
    tensors["fc2.weight"] = sign * tensors["fc2.weight"]
    return tensors


def test_integer_models_are_compared_too(run, models):
    save_file(integers(1), models / "one.safetensors")
    save_file(integers(-1), models / "other.safetensors")
    done = run("verify", "one.safetensors", "other.safetensors", "--json", code=1).json()
    assert done["relation"] not in {"identical", "renumbered", "rounded"}
    assert done["as_stored"]["other"] == ["fc2.weight"]
    assert done["as_stored"]["equal"] < 1


def test_what_cannot_be_aligned_is_not_called_different(run, models):
    for name, seed in (("one", 0), ("other", 0)):
        tensors = mlp(seed)
        tensors["fc1.weight"][0, 0] = np.nan
        tensors["fc2.bias"][0] += name == "other"
        save_file(tensors, models / f"{name}.safetensors")
    done = run("verify", "one.safetensors", "other.safetensors", "--json", code=1).json()
    assert done["relation"] == "unknown"
    assert done["as_stored"]["largest"] is None
    assert run("verify", "one.safetensors", "one.safetensors", "--json").json()["as_stored"][
        "equal"
    ] == pytest.approx(1)


def test_a_file_that_was_changed_is_not_applied(run, models):
    run("canonicalize", "a.safetensors", "--permutations", "p.safetensors")
    with safe_open(models / "p.safetensors", "np") as file:
        metadata = file.metadata()
    tensors = load_file(models / "p.safetensors")
    tensors["hidden[1]"] = tensors["hidden[1]"][::-1].copy()
    save_file(tensors, models / "q.safetensors", metadata)
    done = run("apply", "q.safetensors", "a.safetensors", "-o", "out.safetensors", code=1)
    assert "the file was changed, and nothing was written" in done.err
    assert not (models / "out.safetensors").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"parents": "[" * 100_000}, "no table of permutations"),
        ({"parents": '{"hidden[1]": "x", "hidden[2]": null}'}, "depends on 'x'"),
        ({"parents": '{"hidden[1]": null}'}, "'hidden[2]' stands in the metadata or among"),
        ({"version": "9"}, "of version '9'"),
        ({"spec": None}, "its metadata lacks spec"),
    ],
)
def test_damaged_permutation_files_are_named(run, models, change, message):
    run("canonicalize", "a.safetensors", "--permutations", "p.safetensors")
    with safe_open(models / "p.safetensors", "np") as file:
        metadata = {k: v for k, v in {**file.metadata(), **change}.items() if v is not None}
    save_file(load_file(models / "p.safetensors"), models / "q.safetensors", metadata)
    done = run("inspect", "q.safetensors", code=1)
    assert message in done.err
    assert "q.safetensors" in done.err


def test_names_are_shown_as_they_are(run, models):
    name = "[red]x :100: \x1b[2J.safetensors"
    save_file({"[/x]y": np.ones(2, np.float32)}, models / name, {"note": "a\x1b[31mb"})
    done = run("inspect", name, "--tensors")
    assert "[red]x :100: \\x1b[2J.safetensors" in done.out
    assert "[/x]y" in done.out
    assert "\x1b" not in done.out
    done = run("canonicalize", name, code=1)
    assert "\x1b" not in done.err


def program(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "rebasin_hub", *arguments], check=False, timeout=60, **options
    )


def test_any_encoding_of_the_terminal_will_do(models):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    for extra in ([], ["--json"]):
        done = program(
            "verify", "a.safetensors", "b.safetensors", *extra,
            cwd=models, env=environment, capture_output=True,
        )  # fmt: skip
        assert done.returncode == 1
        assert not done.stderr
        assert done.stdout.isascii()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
def test_a_full_pipe_is_a_known_error(models):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = program(
            "inspect", "a.safetensors", cwd=models, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_tied_and_untied_copies_are_one_model(run, tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {name: torch.from_numpy(array) for name, array in gpt2(0).items()}
    tied = {**tensors, "lm_head.weight": tensors["wte.weight"]}
    torch.save(tied, tmp_path / "tied.pt")
    torch.save({n: t.clone() for n, t in tied.items()}, tmp_path / "untied.pt")
    torch.save(tensors, tmp_path / "headless.pt")
    changed = {n: t.clone() for n, t in tied.items()}
    changed["lm_head.weight"][0, 0] += 1
    torch.save(changed, tmp_path / "changed.pt")
    options = ("--spec", "gpt2", "--size", "head=3", "--json")
    for other, relation in (("untied", "identical"), ("headless", "identical")):
        done = run("verify", "tied.pt", f"{other}.pt", *options)
        assert done.json()["relation"] == relation, other
    done = run("verify", "tied.pt", "changed.pt", *options, code=1)
    assert done.json()["relation"] != "identical"
    run("merge", "tied.pt", "headless.pt", "-o", "merged.pt", *options)
    assert run("verify", "tied.pt", "merged.pt", *options).json()["relation"] == "identical"


def test_missing_counters_do_not_stop_a_merge(run, tmp_path):
    torch = pytest.importorskip("torch")
    from rebasin_hub.zoo import CifarResNet, randomize

    models = []
    for seed in range(2):
        network = CifarResNet(1, shortcut="B")
        randomize(network, torch.Generator().manual_seed(seed))
        models.append({n: t.numpy() for n, t in network.state_dict().items()})
    without = {n: t for n, t in models[1].items() if "num_batches" not in n}
    save_file(models[0], tmp_path / "with.safetensors")
    save_file(without, tmp_path / "without.safetensors")
    for order in (["with", "without"], ["without", "with"]):
        files = [f"{name}.safetensors" for name in order]
        out = tmp_path / f"{order[0]}-first.safetensors"
        done = run("merge", *files, "-o", out)
        borrowed = "without.safetensors lacks bn1.num_batches_tracked"
        assert (borrowed in done.out) == (order[0] == "with")
        assert load_file(out).keys() == load_file(tmp_path / files[0]).keys()


def test_a_merge_says_what_a_cast_broke(run, models):
    tensors = mlp(0)
    tensors["fc1.bias"][0] = 70000
    save_file(tensors, models / "big.safetensors")
    done = run(
        "merge", "big.safetensors", "big.safetensors", "-o", "m.safetensors", "--dtype", "float16",
        "--no-align", "--json",
    ).json()  # fmt: skip
    assert any("fc1.bias" in note and "F16" in note for note in done["notes"])
    assert load_file(models / "m.safetensors")["fc1.bias"].dtype == np.float16


def test_nan_payloads_survive_a_merge_with_itself(run, models):
    tensors = {n: t.astype(ml_dtypes.bfloat16) for n, t in mlp(0).items()}
    tensors["fc1.weight"].view(np.uint16)[0, :3] = [0x7FC1, 0x7F85, 0xFFAB]
    save_file(tensors, models / "nan.safetensors")
    same = ["merge", "nan.safetensors", "nan.safetensors", "-o", "m.safetensors", "--no-align"]
    assert not run(*same).err
    merged, source = (load_file(models / f"{name}.safetensors") for name in ("m", "nan"))
    assert all(merged[name].tobytes() == source[name].tobytes() for name in source)


def test_digests_are_shown_as_they_are_made(run, models):
    (models / "bad.safetensors").write_bytes(b"no")
    done = run("digest", "a.safetensors", "bad.safetensors", code=1)
    assert "a.safetensors" in done.out
    assert json.loads(run("digest", "a.safetensors", "--json").out)[0]["exact"]


def test_a_renumbered_model_of_another_type_is_rounded(run, models):
    save_file(
        {n: t.astype(ml_dtypes.bfloat16) for n, t in renumber_mlp(mlp(0), seed=3).items()},
        models / "small.safetensors",
    )
    done = run("verify", "a.safetensors", "small.safetensors", "--json", code=1).json()
    assert done["relation"] == "rounded"
