"""Publish, and restore on another machine: from an empty home, by pull request, offline."""

import json
from pathlib import Path

import pytest
from hub_models import card_of, mlp, mlp_bytes, sharded
from safetensors.numpy import load_file, save_file

from rebasin_hub.hub.manifest import FILE
from rebasin_hub.pipeline.apply import apply_file
from rebasin_hub.pipeline.canonicalize import canonicalize
from rebasin_hub.pipeline.hub import audit, pull, resolve
from rebasin_hub.pipeline.inspect import digests
from rebasin_hub.pipeline.merging import merge


@pytest.fixture
def canonical(tmp_path):
    """A model in canonical order, and the permutation file that led to it."""
    folder = tmp_path / "made"
    folder.mkdir()
    save_file(mlp(0), folder / "a.safetensors", {"format": "pt"})
    permutations = folder / "p.safetensors"
    done = canonicalize(
        folder / "a.safetensors", folder / "a.canonical.safetensors", permutations=permutations
    )
    return done.output, permutations


def test_a_model_comes_back_on_another_machine(hub, machine, run, canonical):
    path, permutations = canonical
    run("push", path, "ada/mlp", "--permutations", permutations, "--license", "mit")
    machine.move("elsewhere")
    run("pull", "ada/mlp", "-o", "mlp")
    assert digests(Path("mlp/model.safetensors")).canonical == digests(path).canonical
    restored = load_file("mlp/model.safetensors")
    assert all((restored[n] == t).all() for n, t in load_file(path).items())
    assert audit("ada/mlp").holds
    assert hub.leaks == []


def test_one_commit_publishes_all_of_it(hub, machine, run, canonical):
    path, permutations = canonical
    run("push", path, "ada/mlp", "--permutations", permutations, "--license", "mit")
    assert len(hub.repos["ada/mlp"].commits) == 2  # the empty repository's, and this one
    assert set(hub.files("ada/mlp")) == {
        ".gitattributes",
        "README.md",
        "model.safetensors",
        "permutations.safetensors",
        FILE,
    }


def test_a_pull_request_leaves_main_alone(hub, machine, run, canonical):
    hub.put("bob/mlp", {"README.md": card_of("mit")}, author="bob")
    before = hub.state()["bob/mlp"]["main"]
    done = run("push", canonical[0], "bob/mlp", "--create-pr", "--license", "mit")
    assert "/discussions/1" in done.out
    assert hub.state()["bob/mlp"]["main"] == before
    machine.move("elsewhere")
    pull("bob/mlp@refs/pr/1", machine.home / "out")
    hub.merge("bob/mlp", 1)
    pull("bob/mlp", machine.home / "merged")
    assert audit("bob/mlp").holds


def test_what_was_fetched_once_is_there_offline(hub, machine, tmp_path, canonical):
    hub.put("ada/mlp", {"model.safetensors": canonical[0].read_bytes()})
    online = resolve("ada/mlp")
    machine.offline()
    hub.forget()
    assert resolve("ada/mlp") == online
    pull("ada/mlp", tmp_path / "out")
    assert hub.requests == []


def test_a_published_model_is_pulled_offline(hub, machine, run, tmp_path, canonical):
    run("push", canonical[0], "ada/mlp", "--license", "mit")
    machine.move("elsewhere")
    pull("ada/mlp", tmp_path / "online")
    machine.offline()
    pull("ada/mlp", tmp_path / "offline")
    assert audit("ada/mlp").holds


def test_shards_come_back_as_shards(hub, machine, run, tmp_path):
    folder = sharded(tmp_path / "sharded")
    run("push", folder, "lab/mlp", "--license", "mit")
    machine.move("elsewhere")
    pull("lab/mlp", tmp_path / "out")
    assert {p.name: p.read_bytes() for p in folder.iterdir()}.items() <= {
        p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()
    }.items()


def test_permutations_alone_restore_the_weights(hub, machine, run, tmp_path, canonical):
    path, permutations = canonical
    source = path.with_name("a.safetensors").read_bytes()
    commit = hub.put("bob/base", {"model.safetensors": source, "README.md": card_of("mit")})
    run("push", permutations, "ada/p", "--permutation-only", "--base-model", "bob/base")
    hub.put("bob/base", {"model.safetensors": mlp_bytes(5, tmp_path)})  # the branch moves on
    machine.move("elsewhere")
    done = pull("ada/p", tmp_path / "out")
    assert done.base.revision == commit
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == path.read_bytes()
    assert audit("ada/p").holds
    assert "model.safetensors" not in hub.files("ada/p")


def test_the_card_of_permutations_tells_how_to_apply_them(hub, machine, run, tmp_path, canonical):
    path, permutations = canonical
    hub.put("bob/base", {"model.safetensors": path.with_name("a.safetensors").read_bytes()})
    run(
        *("push", permutations, "ada/p", "--permutation-only"),
        *("--base-model", "bob/base", "--license", "mit"),
    )
    text = hub.files("ada/p")["README.md"].decode()
    command = next(line for line in text.splitlines() if line.startswith("rebasin-hub apply"))
    _, _, file, base, _, _ = command.split()
    apply_file(resolve(file), resolve(base), tmp_path / "by-hand")
    assert (tmp_path / "by-hand" / "model.safetensors").read_bytes() == path.read_bytes()


def test_a_merge_of_two_hub_models_names_them_at_their_commits(hub, machine, run, tmp_path):
    commits = [
        hub.put(
            f"bob/m{k}",
            {"model.safetensors": mlp_bytes(k, tmp_path), "README.md": card_of("apache-2.0")},
        )
        for k in (0, 1)
    ]
    names = [f"bob/m{k}" for k in (0, 1)]
    merge([resolve(name) for name in names], tmp_path / "merged")
    bases = [word for name in names for word in ("--base-model", name)]
    run("push", tmp_path / "merged", "ada/merged", *bases)
    card = hub.files("ada/merged")["README.md"].decode()
    assert "license: apache-2.0" in card
    assert "base_model_relation: merge" in card
    assert all(commit in card for commit in commits)
    assert audit("ada/merged").holds


def test_transformers_models_come_back(hub, machine, run, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        n_layer=2, n_head=2, n_embd=8, vocab_size=16, n_positions=8, bos_token_id=0, eos_token_id=0
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(tmp_path / "gpt2")
    done = canonicalize(tmp_path / "gpt2", tmp_path / "canonical")
    run("push", done.output, "lab/gpt2", "--license", "mit")
    assert "library_name: transformers" in hub.files("lab/gpt2")["README.md"].decode()
    machine.move("elsewhere")
    pull("lab/gpt2", tmp_path / "out")
    model = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "out")
    assert model.config.n_embd == 8
    assert audit("lab/gpt2").holds


# What does not match what was published


def test_changed_weights_are_not_pulled(hub, machine, run, tmp_path, canonical):
    run("push", canonical[0], "ada/mlp", "--license", "mit")
    hub.put("ada/mlp", {"model.safetensors": mlp_bytes(7, tmp_path)}, author="bob")
    done = run("pull", "ada/mlp", "-o", "out", code=1)
    assert "it was changed after that, and nothing was written" in done.err
    assert not (tmp_path / "work" / "out").exists()
    assert "refuted" in run("hub", "audit", "ada/mlp", code=1).out


def test_a_changed_promise_is_refuted(hub, machine, run, canonical):
    run("push", canonical[0], "ada/mlp", "--license", "mit")
    manifest = json.loads(hub.files("ada/mlp")[FILE])
    manifest["digest"] = "0" * 64
    hub.put("ada/mlp", {FILE: json.dumps(manifest).encode()})
    assert "1 of 2 claims do not hold" in run("hub", "audit", "ada/mlp", code=1).out
    run("pull", "ada/mlp", "-o", "out", code=1)


def test_a_manifest_cannot_lead_out_of_the_folder(hub, machine, run, canonical):
    run("push", canonical[0], "ada/mlp", "--license", "mit")
    manifest = json.loads(hub.files("ada/mlp")[FILE])
    manifest["files"]["../../escaped"] = "0" * 64
    hub.put("ada/mlp", {FILE: json.dumps(manifest).encode()})
    done = run("pull", "ada/mlp", "-o", "out", code=1)
    assert "lacks '../../escaped'" in done.err
