"""One model's way from a file to other machines, by the commands alone."""

import json
from pathlib import Path

import pytest
from hub_models import mlp
from safetensors.numpy import load_file, save_file


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setenv("REBASIN_REGISTRY", str(tmp_path / "registry"))
    save_file(mlp(0), "a.safetensors", {"format": "pt"})


@pytest.mark.parametrize("how", ["main", "pull request", "offline"])
def test_canonicalize_register_publish_pull_and_recognize(hub, machine, run, start, how):
    run("canonicalize", "a.safetensors", "--permutations", "p.safetensors")
    run("registry", "add", "a.canonical.safetensors", "team/mlp", "--alias", "published")
    arguments = ("--permutations", "p.safetensors", "--license", "mit")
    if how == "pull request":
        hub.put("ada/mlp", {"README.md": b"---\nlicense: mit\n---\n"}, author="bob")
        arguments += ("--create-pr",)
    run("push", "a.canonical.safetensors", "ada/mlp", *arguments)
    if how == "pull request":
        hub.merge("ada/mlp", 1)

    machine.move("elsewhere")
    if how == "offline":
        run("digest", "ada/mlp")  # fetches it
        run("pull", "ada/mlp", "-o", "first")
        machine.offline()
        hub.forget()
    run("pull", "ada/mlp", "-o", "mlp")
    assert (hub.requests == []) == (how == "offline")

    found = json.loads(run("registry", "which", "mlp", "--json").out)
    assert found["matches"][0]["version"]["name"] == "team/mlp"
    assert found["matches"][0]["how"] == "same files"
    assert json.loads(run("hub", "audit", "ada/mlp", "--json").out)["holds"]
    original, pulled = load_file("a.safetensors"), load_file("mlp/model.safetensors")
    assert set(original) == set(pulled)
    same = json.loads(run("verify", "a.safetensors", "mlp", "--json").out)
    assert same["relation"] == "renumbered"
    assert hub.leaks == []


def test_every_command_takes_a_name_on_the_hub(hub, machine, run, start):
    run("push", "a.safetensors", "ada/mlp", "--license", "mit")
    save_file(mlp(1), "b.safetensors", {"format": "pt"})
    digest = run("digest", "a.safetensors").out.split()[0]
    assert run("digest", "ada/mlp").out.split()[0] == digest
    assert run("digest", "hf://ada/mlp@main/model.safetensors").out.split()[0] == digest
    run("registry", "add", "ada/mlp", "team/mlp", "--store")
    shown = json.loads(run("registry", "which", "ada/mlp", "--json").out)
    assert shown["matches"][0]["version"]["source"] == "ada/mlp"
    assert json.loads(run("spec", "detect", "ada/mlp", "--json").out)["spec"] == "mlp"
    run("canonicalize", "ada/mlp")
    assert run("digest", "mlp.canonical").out.split()[0] == digest
    run("align", "b.safetensors", "ada/mlp", "-o", "p2.safetensors")
    run("merge", "ada/mlp", "b.safetensors", "-o", "merged")
    made = json.loads(Path("merged/rebasin-merge.json").read_text())
    assert made["models"][0]["name"].startswith("ada/mlp@")
    assert "ada/mlp" in run("inspect", "ada/mlp").out
