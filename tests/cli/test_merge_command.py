"""`merge`: recipes, plans, what the output says of itself, and what is refused."""

import json
import shutil
from collections import namedtuple

import numpy as np
import pytest
from cli_models import mlp, renumber_mlp
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from rebasin_hub.formats.safetensors import SafetensorsCheckpoint
from rebasin_hub.pipeline.models import AUTOMATIC, open_model

AB = ("a.safetensors", "b.safetensors")
TWO = """\
models:
  - {model: a.safetensors, parameters: {weight: 0.75}}
  - {model: b.safetensors, parameters: {weight: 0.25}}
merge_method: linear
"""


def write(folder, text, name="recipe.yaml"):
    (folder / name).write_text(text)
    return name


def said(path):
    """Return what a merged file says of itself."""
    with safe_open(path, "np") as file:
        return json.loads(file.metadata()["rebasin"])


def digest(path):
    with open_model(path, AUTOMATIC) as model:
        return model.digest()


def same(path, other):
    one, two = load_file(path), load_file(other)
    return one.keys() == two.keys() and all(one[n].tobytes() == two[n].tobytes() for n in one)


# Recipes


def test_a_recipe_does_what_the_options_do(run, models):
    run("merge", write(models, TWO), "-o", "r.safetensors")
    run("merge", *AB, "-o", "o.safetensors", "--weights", "0.75,0.25")
    assert (models / "r.safetensors").read_bytes() == (models / "o.safetensors").read_bytes()


def test_the_same_recipe_gives_the_same_bytes(run, models):
    save_file(mlp(2), models / "c.safetensors")
    text = TWO.replace(
        "merge_method", "  - {model: c.safetensors, parameters: {weight: 1}}\nmerge_method"
    )
    text += "rebasin: {align: {strategy: merge-many, seed: 3}}\n"
    for name in ("one", "two"):
        run("merge", write(models, text), "-o", f"{name}.safetensors")
    assert (models / "one.safetensors").read_bytes() == (models / "two.safetensors").read_bytes()


def test_paths_lead_from_the_recipe(run, models):
    (models / "inner").mkdir()
    text = TWO.replace("model: ", "model: ../")
    run("merge", f"inner/{write(models / 'inner', text)}", "-o", "r.safetensors")
    run("merge", write(models, TWO), "-o", "s.safetensors")
    assert (models / "r.safetensors").read_bytes() == (models / "s.safetensors").read_bytes()


def test_filters_equal_merging_the_tensors_apart(run, models):
    text = """\
models:
  - model: a.safetensors
    parameters:
      weight: [{filter: fc1, value: 1}, {filter: bias, value: 3}, {value: 2}]
  - {model: b.safetensors, parameters: {weight: 1}}
merge_method: linear
rebasin: {align: false}
"""
    run("merge", write(models, text), "-o", "r.safetensors")
    merged = load_file(models / "r.safetensors")
    for share, names in (("1,1", "fc1."), ("3,1", ".bias"), ("2,1", ".weight")):
        run("merge", *AB, "-o", "p.safetensors", "--weights", share, "--no-align", "--force")
        for name, value in load_file(models / "p.safetensors").items():
            apart = "fc1." if "fc1" in name else f".{name.split('.')[1]}"
            if apart == names:
                assert merged.pop(name).tobytes() == value.tobytes()
    assert not merged


def test_a_gradient_runs_over_the_layers(run, models):
    text = """\
models:
  - {model: a.safetensors, parameters: {weight: [1, 0]}}
  - {model: b.safetensors, parameters: {weight: [0, 1]}}
merge_method: linear
rebasin: {align: false}
"""
    run("merge", write(models, text), "-o", "r.safetensors")
    merged, a, b = (load_file(models / f"{n}.safetensors") for n in "rab")
    for name in merged:
        if "fc2" in name:
            assert np.allclose(merged[name], (a[name] + b[name]) / 2, rtol=0, atol=1e-6)
        else:
            assert merged[name].tobytes() == (a if "fc1" in name else b)[name].tobytes()


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_equal_models_come_back_with_any_weights_by_layer(run, models, method):
    save_file(renumber_mlp(mlp(0), seed=5), models / "copy.safetensors")
    parameters = {
        "linear": "{weight: [{filter: fc2, value: [0.3, 0.9]}, {value: 0.2}]}",
        "slerp": "{t: [{filter: fc2, value: [0.3, 0.9]}, {value: 0.2}]}",
    }
    text = f"""\
models: [{{model: a.safetensors}}, {{model: copy.safetensors}}]
merge_method: {method}
base_model: a.safetensors
parameters: {parameters[method]}
"""
    run("merge", write(models, text), "-o", "r.safetensors")
    assert same(models / "r.safetensors", models / "a.safetensors")


@pytest.mark.parametrize("base", ["a", "b"])
def test_t_goes_from_the_base_model_to_the_other(run, models, base):
    text = f"""\
models: [{{model: a.safetensors}}, {{model: b.safetensors}}]
merge_method: slerp
base_model: {base}.safetensors
parameters: {{t: [{{filter: fc1, value: 0}}, {{value: 1}}]}}
rebasin: {{align: false}}
"""
    run("merge", write(models, text), "-o", "r.safetensors")
    merged = load_file(models / "r.safetensors")
    near, far = (load_file(models / f"{n}.safetensors") for n in (base, {"a": "b", "b": "a"}[base]))
    for name, value in merged.items():
        assert value.tobytes() == (near if "fc1" in name else far)[name].tobytes()


def test_a_base_model_that_stands_alone_is_added(run, models):
    text = """\
models: [{model: b.safetensors}]
merge_method: slerp
base_model: a.safetensors
parameters: {t: 0.25}
"""
    run("merge", write(models, text), "-o", "r.safetensors")
    run("merge", *AB, "-o", "o.safetensors", "--method", "slerp", "--weights", "0.75,0.25")
    assert same(models / "r.safetensors", models / "o.safetensors")


def test_weights_may_stay_as_they_are(run, models):
    text = TWO + "parameters: {normalize: false}\nrebasin: {align: false}\ndtype: float64\n"
    run("merge", write(models, text.replace("0.25", "-0.25")), "-o", "r.safetensors")
    merged, a, b = (load_file(models / f"{n}.safetensors") for n in "rab")
    for name, value in merged.items():
        assert value.dtype == np.float64
        assert np.allclose(value, 0.75 * a[name] - 0.25 * b[name], rtol=0, atol=1e-6)


BAD = {
    "modle: a": "recipe.yaml:2 models.0.modle: is no key of a recipe; did you mean 'model'?",
    "ties": "'ties' is a method of mergekit that rebasin-hub does not have; it has linear, slerp",
    "liner": "did you mean 'linear'?",
    "slices: []": "slices: is a key of mergekit that is not taken: layers of several models",
    "density: 0.5": "density: is a key of mergekit that is not taken",
    "t: 0.5": "parameters.t: belongs to slerp",
    "dtype: bfloat": "did you mean 'bfloat16'?",
    "shadowed": "entry 1 has no filter, so that those after it never count",
    "stratgey": "did you mean 'strategy'?",
    "tree": "expected one of reference, hierarchical, merge-many",
    "filter: fc9": "the filter 'fc9' is part of no tensor's name",
    "repair: recompute": "rebasin.repair: needs a task",
    "select_layer_weights: true": "rebasin.select_layer_weights: needs a task",
    "both selections": "select one weight or one for each layer, not both",
    "slerp by layers": "rebasin.select_layer_weights: goes with the method linear, not with slerp",
}  # fmt: skip
BY_LAYERS = "rebasin: {task: {name: digits}, select_layer_weights: true}\n"
BOTH = BY_LAYERS.replace("select", "select_weight: true, select")
CHANGES = {
    "modle: a": lambda t: t.replace("model: a", "modle: a"),
    "ties": lambda t: t.replace("linear", "ties"),
    "liner": lambda t: t.replace("linear", "liner"),
    "slices: []": lambda t: t + "slices: []\n",
    "density: 0.5": lambda t: t + "parameters: {density: 0.5}\n",
    "t: 0.5": lambda t: t + "parameters: {t: 0.5}\n",
    "dtype: bfloat": lambda t: t + "dtype: bfloat\n",
    "shadowed": lambda t: t.replace("0.25", "[{value: 1}, {filter: fc1, value: 2}]"),
    "stratgey": lambda t: t + "rebasin: {align: {stratgey: reference}}\n",
    "tree": lambda t: t + "rebasin: {align: {strategy: tree}}\n",
    "filter: fc9": lambda t: t.replace("0.25", "[{filter: fc9, value: 1}, {value: 2}]"),
    "repair: recompute": lambda t: t + "rebasin: {repair: recompute}\n",
    "select_layer_weights: true": lambda t: t + "rebasin: {select_layer_weights: true}\n",
    "both selections": lambda t: t + BOTH,
    "slerp by layers": lambda t: t.replace("linear", "slerp") + BY_LAYERS,
}


@pytest.mark.parametrize("change", BAD)
def test_a_bad_recipe_is_refused_with_its_line(run, models, change):
    write(models, CHANGES[change](TWO))
    done = run("merge", "recipe.yaml", "-o", "r.safetensors", code=1)
    assert BAD[change] in done.err
    assert not (models / "r.safetensors").exists()


def test_what_the_recipe_says_is_not_said_twice(run, models):
    write(models, TWO)
    done = run("merge", "recipe.yaml", "-o", "r.safetensors", "--weights", "1,2", code=2)
    assert "--weights stands in the recipe" in done.err


def test_the_weights_of_layers_are_selected_as_the_options_say(run, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    for seed, name in enumerate(AB):
        save_file(mlp(seed, (64, 12, 10)), tmp_path / name)
    write(tmp_path, TWO + BY_LAYERS.replace("digits", "digits, limit: 50"))
    told = run("merge", "recipe.yaml", "-o", "r.safetensors").out
    assert "selected     λ of 2 layers from " in told
    assert "0.25 on average: cross-entropy (train) " in told
    options = ("--task", "digits", "--limit", 50, "--weights", "0.75,0.25")
    found = run(
        "merge", *AB, "-o", "o.safetensors", *options, "--select-layer-weights", "--json"
    ).json()["layered"]
    assert found["shares"].keys() == {"fc1", "fc2"}
    assert min(found["history"]) <= found["history"][0]
    assert same(tmp_path / "r.safetensors", tmp_path / "o.safetensors")
    done = run("merge", *AB, "-o", "n.safetensors", "--select-layer-weights", code=1)
    assert "name one with --task" in done.err


# What is known before


def test_a_plan_says_what_a_merge_takes(run, models):
    command = ["merge", *AB, "-o", "m.safetensors", "--dry-run"]
    plan = run(*command, "--json").json()
    assert plan["weights"] == [0.5, 0.5]
    assert plan["read_bytes"] == 2 * plan["write_bytes"]
    assert plan["dtypes"] == {"F32": 6}
    assert plan["disk"]["needed"] >= plan["write_bytes"]
    assert set(plan["estimate"]["memory"]) == {"program", "merging", "aligning"}
    assert set(plan["estimate"]["seconds"]) == {"reading", "merging", "writing", "aligning"}
    done = run(*command)
    for word in ("would read", "would write", "disk", "memory", "about", "time"):
        assert word in done.out
    assert not (models / "m.safetensors").exists()
    alone = run(*command, "--no-align", "--json").json()["estimate"]
    assert "aligning" not in alone["seconds"]


def test_a_plan_reads_no_whole_tensor(run, models, monkeypatch):
    def read(self, name):
        raise AssertionError(f"{name} was read")

    monkeypatch.setattr(SafetensorsCheckpoint, "read", read)
    run("merge", *AB, "-o", "m.safetensors", "--dry-run")


def test_a_full_disk_is_refused_before_the_work(run, models, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 100, 100))
    done = run("merge", *AB, "-o", "m.safetensors", code=1)
    assert "needs 572 bytes, and the disk has 100 left" in done.err
    assert not (models / "m.safetensors").exists()


# What the output says of itself


def test_the_output_names_its_models_by_their_digests(run, models):
    for options in ([], ["--no-align"]):
        run("merge", *AB, "-o", "m.safetensors", "--weights", "3,1", "--force", *options)
        found = said(models / "m.safetensors")
        assert found["models"] == [{"name": n, "digest": digest(models / n)} for n in AB]
        assert found["result"] == digest(models / "m.safetensors")
        assert found["weights"] == [{"weights": [0.75, 0.25], "tensors": "all"}]
        assert (found["alignment"] is None) == bool(options)
        with safe_open(models / "m.safetensors", "np") as file:
            assert file.metadata()["format"] == "pt"


def test_models_that_are_not_to_be_hashed_are_named_without_digests(run, models, monkeypatch):
    run("merge", *AB, "-o", "m.safetensors")
    hashed = []
    monkeypatch.setattr(
        "rebasin_hub.pipeline.merging.provenance.tensor_digest",
        lambda _, dtype: hashed.append(dtype) or "0" * 64,
    )
    write(models, TWO)
    run("merge", *AB, "-o", "n.safetensors", "--no-digests")
    run("merge", "recipe.yaml", "-o", "r.safetensors", "--no-digests")
    assert not hashed
    for name in ("n.safetensors", "r.safetensors"):
        found = said(models / name)
        assert found["models"] == [{"name": n, "digest": None} for n in AB]
        assert found["result"] == digest(models / name)
    assert same(models / "n.safetensors", models / "m.safetensors")
    run("merge", *AB, "-o", "o.safetensors")
    assert hashed


@pytest.mark.parametrize("strategy", ["universe", "to-reference"])
def test_strategies_that_align_many_merge_too(run, models, strategy):
    save_file(renumber_mlp(mlp(0), seed=5), models / "c.safetensors")
    names = ["a.safetensors", "c.safetensors", "a.safetensors"]
    run("merge", *names, "-o", "m.safetensors", "--strategy", strategy)
    assert same(models / "m.safetensors", models / "a.safetensors")


def test_a_merge_of_a_merge_speaks_of_itself(run, models):
    run("merge", *AB, "-o", "m.safetensors")
    run("merge", "m.safetensors", "a.safetensors", "-o", "n.safetensors")
    assert said(models / "n.safetensors")["models"][0]["name"] == "m.safetensors"
    assert said(models / "n.safetensors")["models"][0]["digest"] == digest(models / "m.safetensors")


def test_weights_by_tensor_are_stored_as_they_were_resolved(run, models):
    write(models, TWO.replace("0.25", "[{filter: fc1, value: 0.75}, {value: 0.25}]"))
    run("merge", "recipe.yaml", "-o", "r.safetensors")
    assert said(models / "r.safetensors")["weights"] == [
        {"weights": [0.5, 0.5], "tensors": ["fc1.bias", "fc1.weight"]},
        {"weights": [0.75, 0.25], "tensors": ["fc2.bias", "fc2.weight", "fc3.bias", "fc3.weight"]},
    ]


@pytest.mark.parametrize("strategy", ["hierarchical", "merge-many"])
def test_strategies_recover_copies_and_are_recorded(run, models, strategy):
    names = ["a.safetensors"]
    for seed in (5, 6, 7):
        names.append(f"copy{seed}.safetensors")
        save_file(renumber_mlp(mlp(0), seed=seed), models / names[-1])
    done = run("merge", *names, "-o", "m.safetensors", "--strategy", strategy, "--json").json()
    assert same(models / "m.safetensors", models / "a.safetensors")
    found = said(models / "m.safetensors")["alignment"]
    assert found["strategy"] == strategy
    assert found["converged"]
    assert bool(done["distances"]) == (strategy == "merge-many")
    run("merge", *names, "-o", "n.safetensors", "--strategy", "tree", code=1)


# Directories


def test_a_directory_gets_a_file_that_names_its_models(run, gpt2_folder):
    one, other = gpt2_folder("one"), gpt2_folder("other", seed=1)
    run("merge", one, other, "-o", "m")
    merged = one.parent / "m"
    found = json.loads((merged / "rebasin-merge.json").read_text())
    assert [m["name"] for m in found["models"]] == ["one", "other"]
    assert found["result"] == digest(merged)
    assert found["models"][1]["digest"] == digest(other)
    run("merge", "m", one, "-o", "again")
    again = json.loads((one.parent / "again" / "rebasin-merge.json").read_text())
    assert [m["name"] for m in again["models"]] == ["m", "one"]


def tokenizer(vocab, **more):
    model = {"type": "BPE", "vocab": vocab, "merges": [["a", "b"]]}
    return {"added_tokens": [], "normalizer": None, "pre_tokenizer": None, "model": model, **more}


VOCAB = {"a": 0, "b": 1, "ab": 2, "c": 3}
TOKENS = {
    "ids": (
        {"tokenizer.json": tokenizer(VOCAB)},
        {"tokenizer.json": tokenizer({**VOCAB, "b": 3, "c": 1})},
        ['"b" is token 1 against token 3', '"c" is token 3 against token 1'],
    ),
    "missing": (
        {"tokenizer.json": tokenizer(VOCAB)},
        {"tokenizer.json": tokenizer({"a": 0, "b": 1, "ab": 2, "d": 3})},
        ['"c" is token 3 against no token', '"d" is no token against token 3'],
    ),
    "normalizer": (
        {"tokenizer.json": tokenizer(VOCAB)},
        {"tokenizer.json": tokenizer(VOCAB, normalizer={"type": "Lowercase"})},
        ['normalizer: null against {"type": "Lowercase"}'],
    ),
    "added": (
        {"tokenizer.json": tokenizer(VOCAB, added_tokens=[{"content": "<x>", "id": 4}])},
        {"tokenizer.json": tokenizer(VOCAB, added_tokens=[{"content": "<x>", "id": 5}])},
        ['"<x>" is token 4 against token 5'],
    ),
    "text": (
        {"vocab.txt": "a\nb\nc\n"},
        {"vocab.txt": "a\nc\nb\n"},
        ['"b" is token 1 against token 2'],
    ),
    "merges": (
        {"vocab.json": VOCAB, "merges.txt": "#version: 0.2\na b\n"},
        {"vocab.json": VOCAB, "merges.txt": "#version: 0.2\nb a\n"},
        ['merges: entry 1 is "a b" against "b a"'],
    ),
    "sentencepiece": (
        {"tokenizer.model": "one"},
        {"tokenizer.model": "two"},
        ["tokenizer.model:", "SHA-256"],
    ),
}  # fmt: skip


def put(folder, files):
    (folder / "tokenizer.json").unlink()
    for name, content in files.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text)


@pytest.mark.parametrize("case", TOKENS)
def test_other_tokens_are_refused_with_the_difference(run, gpt2_folder, case):
    one, other = gpt2_folder("one"), gpt2_folder("other", seed=1)
    mine, theirs, told = TOKENS[case]
    put(one, mine)
    put(other, theirs)
    done = run("merge", one, other, "-o", "m", code=1)
    assert "do not read the same tokens" in done.err
    assert all(line in done.err for line in told)
    assert not (one.parent / "m").exists()


@pytest.mark.parametrize("case", TOKENS)
def test_the_same_tokens_are_merged(run, gpt2_folder, case):
    one, other = gpt2_folder("one"), gpt2_folder("other", seed=1)
    for folder in (one, other):
        put(folder, TOKENS[case][0])
    run("merge", one, other, "-o", "m", "--no-align")


def test_merges_are_the_same_in_both_forms(run, gpt2_folder):
    one, other = gpt2_folder("one"), gpt2_folder("other", seed=1)
    old = tokenizer(VOCAB)
    old["model"]["merges"] = ["a b"]
    put(one, {"tokenizer.json": old})
    put(other, {"tokenizer.json": tokenizer(VOCAB)})
    run("merge", one, other, "-o", "m", "--no-align")


def test_another_vocab_size_is_refused(run, gpt2_folder):
    one, other = gpt2_folder("one"), gpt2_folder("other", seed=1)
    for folder, size in ((one, 11), (other, 12)):
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, "vocab_size": size}))
    done = run("merge", one, other, "-o", "m", code=1)
    assert "vocab_size in config.json: 11 against 12" in done.err


def test_another_chat_template_is_a_note(run, gpt2_folder):
    one, other = gpt2_folder("one"), gpt2_folder("other", seed=1)
    (one / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{x}}"}))
    (other / "chat_template.jinja").write_text("{{y}}")
    done = run("merge", one, other, "-o", "m", "--no-align")
    assert 'chat_template is "{{x}}"' in done.out
    assert "the first one's is kept" in done.out


# transformers


@pytest.fixture
def llamas(tmp_path):
    """Write two small Llamas, the second one renumbered, in shards; return the folders."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    config = transformers.LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, vocab_size=32, max_position_embeddings=32,
    )  # fmt: skip
    folders = []
    for seed in range(2):
        torch.manual_seed(seed)
        folders.append(tmp_path / f"llama{seed}")
        model = transformers.LlamaForCausalLM(config).eval()
        model.save_pretrained(folders[-1], max_shard_size="10KB")
    assert len(list(folders[0].glob("*.safetensors"))) > 1
    return folders


def logits(folder):
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.no_grad():
        return model(torch.arange(12).reshape(1, -1)).logits


def test_a_sharded_merge_loads_in_transformers(run, llamas):
    import torch

    run("merge", *llamas, "-o", "m", "--weights", "1,0")
    assert torch.equal(logits(llamas[0].parent / "m"), logits(llamas[0]))
    recipe = f"""\
models:
  - {{model: {llamas[0].name}, parameters: {{weight: [1, 0]}}}}
  - {{model: {llamas[1].name}, parameters: {{weight: [0, 1]}}}}
merge_method: linear
dtype: bfloat16
"""
    run("merge", write(llamas[0].parent, recipe), "-o", "n")
    config = json.loads((llamas[0].parent / "n" / "config.json").read_text())
    assert config.get("dtype", config.get("torch_dtype")) == "bfloat16"
    assert torch.isfinite(logits(llamas[0].parent / "n")).all()
