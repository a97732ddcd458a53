"""canonicalize, align, apply, compose: from files to files."""

import numpy as np
import pytest
from cli_models import forward, mlp, renumber_mlp
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

X = np.random.default_rng(9).normal(size=(5, 6))


def test_canonical_copies_are_the_same_file_and_the_same_function(run, models):
    save_file(renumber_mlp(mlp(0), seed=5), models / "copy.safetensors", {"format": "pt"})
    run("canonicalize", "a.safetensors")
    run("canonicalize", "copy.safetensors")
    first = (models / "a.canonical.safetensors").read_bytes()
    assert first == (models / "copy.canonical.safetensors").read_bytes()
    assert first != (models / "a.safetensors").read_bytes()
    there = forward(load_file(models / "a.canonical.safetensors"), X)
    assert np.allclose(there, forward(mlp(0), X), rtol=0, atol=1e-12)
    run("canonicalize", "a.canonical.safetensors", "-o", "again.safetensors")
    assert first == (models / "again.safetensors").read_bytes()


def test_canonical_order_puts_the_largest_units_first(run, models):
    run("canonicalize", "a.safetensors")
    tensors = load_file(models / "a.canonical.safetensors")
    sizes = (
        (tensors["fc1.weight"] ** 2).sum(1)
        + tensors["fc1.bias"] ** 2
        + (tensors["fc2.weight"] ** 2).sum(0)
    )
    assert (np.diff(sizes) <= 1e-4).all()


def test_a_reference_lends_its_numbering(run, models):
    save_file(renumber_mlp(mlp(0), seed=5), models / "copy.safetensors", {"format": "pt"})
    done = run(
        "canonicalize", "copy.safetensors", "--reference", "a.safetensors", "--json",
        "--permutations", "p.safetensors",
    ).json()  # fmt: skip
    assert (models / "copy.canonical.safetensors").read_bytes() == (
        models / "a.safetensors"
    ).read_bytes()
    assert done["alignment"]["cosine"] == pytest.approx(1)
    assert done["proven"] == 6
    run("apply", "p.safetensors", "copy.safetensors", "-o", "applied.safetensors")
    assert (models / "applied.safetensors").read_bytes() == (models / "a.safetensors").read_bytes()


def test_apply_and_its_inverse_lead_back(run, models):
    run("align", "b.safetensors", "a.safetensors", "-o", "p.safetensors")
    run("apply", "p.safetensors", "b.safetensors", "-o", "there.safetensors")
    run("apply", "p.safetensors", "there.safetensors", "-o", "back.safetensors", "--invert")
    assert (models / "back.safetensors").read_bytes() == (models / "b.safetensors").read_bytes()
    moved = forward(load_file(models / "there.safetensors"), X)
    assert np.allclose(moved, forward(mlp(1), X), rtol=0, atol=1e-12)


def test_composed_files_do_what_one_after_the_other_does(run, models):
    run("align", "b.safetensors", "a.safetensors", "-o", "p.safetensors")
    run("apply", "p.safetensors", "b.safetensors", "-o", "b2.safetensors")
    run("canonicalize", "b2.safetensors", "--permutations", "q.safetensors")
    run("compose", "p.safetensors", "q.safetensors", "-o", "qp.safetensors")
    run("apply", "qp.safetensors", "b.safetensors", "-o", "b3.safetensors")
    assert (models / "b3.safetensors").read_bytes() == (
        models / "b2.canonical.safetensors"
    ).read_bytes()
    refused = run("compose", "q.safetensors", "p.safetensors", "-o", "no.safetensors", code=1)
    assert "the earlier permutation file leads to model" in refused.err
    assert not (models / "no.safetensors").exists()


def test_permutation_files_refuse_other_models(run, models):
    run("align", "b.safetensors", "a.safetensors", "-o", "p.safetensors")
    refused = run("apply", "p.safetensors", "a.safetensors", "-o", "no.safetensors", code=1)
    assert "was made for model" in refused.err
    assert "--other-model" in refused.err
    run("apply", "p.safetensors", "a.safetensors", "-o", "yes.safetensors", "--other-model")
    save_file(mlp(2, (6, 9, 7, 3)), models / "wide.safetensors")
    refused = run(
        "apply", "p.safetensors", "wide.safetensors", "-o", "no.safetensors", "--other-model",
        code=1,
    )  # fmt: skip
    assert "'hidden[1]' is of size 8 in the file and of size 9 in wide.safetensors" in refused.err
    refused = run("apply", "a.safetensors", "a.safetensors", "-o", "no.safetensors", code=1)
    assert "a.safetensors is no permutation file" in refused.err
    assert not (models / "no.safetensors").exists()


def test_the_same_seed_gives_the_same_bytes(run, models):
    for name in ("p", "q"):
        run("align", "b.safetensors", "a.safetensors", "-o", f"{name}.safetensors", "--seed", 3)
    assert (models / "p.safetensors").read_bytes() == (models / "q.safetensors").read_bytes()


def test_metadata_stays_and_dry_runs_write_nothing(run, models):
    before = sorted(models.iterdir())
    plan = run("canonicalize", "a.safetensors", "--dry-run", "--json").json()
    assert plan["spec"] == "mlp"
    assert plan["permutations"] == {"hidden[1]": 8, "hidden[2]": 7}
    assert sorted(models.iterdir()) == before
    run("canonicalize", "a.safetensors")
    with safe_open(models / "a.canonical.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_directories_keep_their_shards_and_side_files(run, gpt2_folder):
    folder = gpt2_folder()
    run("canonicalize", folder)
    out = folder.with_name("gpt2.canonical")
    assert {p.name for p in out.iterdir()} == {p.name for p in folder.iterdir()}
    for shard in folder.glob("*.safetensors"):
        assert load_file(out / shard.name).keys() == load_file(shard).keys()
    assert (out / "tokenizer.json").read_bytes() == b"{}"


def test_sharding_and_format_do_not_matter_to_the_digest(run, gpt2_folder, tmp_path):
    torch = pytest.importorskip("torch")
    folder = gpt2_folder()
    tensors = {}
    for shard in folder.glob("*.safetensors"):
        tensors |= load_file(shard)
    save_file(tensors, tmp_path / "one.safetensors", {"note": "other metadata"})
    wrapped = {f"module.{name}": torch.from_numpy(array) for name, array in tensors.items()}
    torch.save({"epoch": 3, "state_dict": wrapped}, tmp_path / "one.pt")
    size = ("--spec", "gpt2", "--size", "head=3")
    found = [
        run("digest", path, *size, "--json").json()[0]["canonical"]
        for path in (folder, "one.safetensors", "one.pt")
    ]
    assert len(set(found)) == 1
    tensors["wpe.weight"].view(np.uint32)[0, 0] ^= 1
    save_file(tensors, tmp_path / "flipped.safetensors")
    assert run("digest", "flipped.safetensors", *size, "--json").json()[0]["canonical"] not in found


def test_nan_and_infinity_are_moved_as_they_are(run, models):
    tensors = mlp(0)
    tensors["fc1.weight"][2, 3], tensors["fc2.bias"][0] = np.nan, np.inf
    tensors["fc1.weight"].view(np.uint32)[1, 1] = 0x7FC0BEEF
    save_file(tensors, models / "nan.safetensors")
    save_file(renumber_mlp(tensors, seed=2), models / "copy.safetensors")
    run("canonicalize", "nan.safetensors")
    run("canonicalize", "copy.safetensors")
    assert (models / "nan.canonical.safetensors").read_bytes() == (
        models / "copy.canonical.safetensors"
    ).read_bytes()
    refused = run(
        "canonicalize", "nan.safetensors", "--reference", "a.safetensors", "-o", "no.safetensors",
        code=1,
    )  # fmt: skip
    assert "fc1.weight of the model" in refused.err
    assert "without --reference needs none" in refused.err
    assert not (models / "no.safetensors").exists()
