"""`rebasin-hub registry …` as a user types it."""

import json
from pathlib import Path

import pytest
from registry_models import mlp, renumbered


def test_a_day_with_the_registry(run, models, tmp_path):
    a, copy, tuned = models["a"], models["copy"], models["tuned"]
    done = run("add", a, "base", "--store", "--alias", "best", "--tag", "data=mnist")
    assert "base:1 (stored" in done.out
    added = run("add", copy, "copy", "--compact", "--json").json()
    assert added["version"]["kept"] == "compact"
    assert added["same_as"] == ["base:1"]
    run("add", tuned, "tuned", "--base", "base@best", "--parent", "fine-tuned-from=base")
    assert [m["name"] for m in run("list", "--json").json()] == ["base", "copy", "tuned"]
    assert "@best" in run("list", "base").out
    shown = run("show", "registry:tuned:1").out
    assert "as a difference to base:1" in shown
    assert "fine-tuned-from" in shown
    assert run("which", copy).out.startswith("copy:1  same files")
    assert run("which", models["b"], code=1).out.count("none of the registered") == 1
    assert "base:1, copy:1: equal up to renumbering" in run("duplicates").out
    run("add", a, "base")
    run("alias", "base:2", "best")
    assert "base@best → base:1" in run("rollback", "base@best").out
    assert run("history", "base@best").out.count("→") == 3
    run("tag", "base:1", "good", "data=")
    assert run("tag", "base:1", "data", "--remove", "--json").json()[0]["tags"] == {"good": ""}
    assert (
        "barrier = 0.5 on mnist" in run("metric", "base:1", "barrier", "0.5", "--task", "mnist").out
    )
    assert "reference of mlp" in run("set-reference", "base:1").out
    assert run("set-reference", "--json").json()[0]["version"] == "base:1"
    path = run("path", "tuned").out.strip()
    assert Path(path).read_bytes() == tuned.read_bytes()
    assert "the registry is sound" in run("verify").out
    run("export", "tuned", "-o", "r.tar")
    imported = run("import", "r.tar", "--registry", tmp_path / "other", "--json").json()
    assert imported["versions"] == ["base:1", "tuned:1"]
    run("rm", "base:2")
    assert "base:2 (removed before)" in run("gc", "--grace", "0").out
    assert run("store", "tuned", "--json").json()[0]["kept"] == "stored"


def test_lineage_in_every_form(run, models):
    run("add", models["a"], "a", "--tag", "<script>")
    run("add", models["tuned"], "t", "--parent", "fine-tuned-from=a", "--parent",
        "merged-from=hf://org/<script>\"x")  # fmt: skip
    run("link", "t:1", "converted-from", "a:1")
    text = run("lineage", "t").out
    assert text.index("comes from") < text.index("fine-tuned-from a:1")
    assert "led to" in run("lineage", "a").out
    dot = run("lineage", "t", "--dot").out
    assert '"a:1" -> "t:1" [label="fine-tuned-from"];' in dot
    assert '"hf://org/<script>\\"x"' in dot
    run("lineage", "t", "--html", "l.html")
    page = Path("l.html").read_text()
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert page.count("<rect") == 3
    found = run("lineage", "t", "--json").json()
    assert found["root"] == "t:1"
    assert len(found["edges"]) == 3
    assert "exists already" in run("lineage", "t", "--html", "l.html", code=1).err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["add", "nowhere.safetensors", "a"], 1, "does not exist"),
        (["add", "M", "../a"], 1, "a model's name"),
        (["add", "M", "a", "--store", "--link"], 2, "choose one of"),
        (["add", "M", "a", "--parent", "son-of=b"], 2, "canonicalized-from, aligned-to"),
        (["add", "M", "a", "--parent", "aligned-to=b"], 1, "there is no model 'b'"),
        (["add", "M", "a", "--alias", "latest"], 1, "always means the newest"),
        (["add", "M", "a", "--base", "b"], 1, "there is no model 'b'"),
        (["add", "M", "a", "--artefact", "nowhere.safetensors"], 1, "does not exist"),
        (["add", "M", "a", "--spec", "gpt2"], 1, "does not fit"),
        (["show", "a"], 1, "there is no model 'a'"),
        (["rollback", "a"], 2, "is not NAME@ALIAS"),
        (["rm", "a"], 1, "by its number"),
        (["metric", "a", "x"], 2, "give NAME and VALUE"),
    ],
)
def test_mistakes_are_refused_and_nothing_is_registered(run, models, arguments, code, message):
    arguments = [models["a"] if argument == "M" else argument for argument in arguments]
    assert message in run(*arguments, code=code).err
    assert run("list", "--json").json() == []


def test_a_damaged_registry_gives_exit_code_1(run, models):
    run("add", models["a"], "a")
    models["a"].unlink()
    done = run("verify", code=1)
    assert "is not there any more" in done.out
    assert run("verify", "--json", code=1).json()["findings"][0]["subject"] == "a:1"


def test_a_directory_is_registered_and_restored_with_its_side_files(run, tmp_path):
    from safetensors.numpy import save_file

    def folder(name, tensors):
        place = tmp_path / name
        place.mkdir()
        names = sorted(tensors)
        shards = {"model-00001-of-00002.safetensors": names[::2]}
        shards["model-00002-of-00002.safetensors"] = names[1::2]
        for file, chosen in shards.items():
            save_file({n: tensors[n] for n in chosen}, place / file, {"format": "pt"})
        index = {"metadata": {}, "weight_map": {n: f for f, c in shards.items() for n in c}}
        (place / "model.safetensors.index.json").write_text(json.dumps(index))
        (place / "tokenizer.json").write_text("{}")
        return place

    first, copy = folder("a", mlp(0)), folder("b", renumbered(mlp(0), 5))
    run("add", first, "a", "--store")
    assert run("add", copy, "b", "--compact", "--json").json()["version"]["kept"] == "compact"
    for name, place in (("a", first), ("b", copy)):
        restored = tmp_path / run("path", name).out.strip()
        for file in place.iterdir():
            assert (restored / file.name).read_bytes() == file.read_bytes()
    whole = tmp_path / "whole.safetensors"
    save_file(renumbered(mlp(0), 6), whole)
    assert {m["how"] for m in run("which", whole, "--json").json()["matches"]} == {"renumbered"}
