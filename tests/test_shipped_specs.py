"""Every shipped spec is proven on real implementations, and broken copies of it are refused."""

from __future__ import annotations

import functools
import json
import runpy
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rebasin_hub.bind import bind
from rebasin_hub.bind.detect import detect
from rebasin_hub.errors import BindingError, DetectionError, SpecError
from rebasin_hub.prove import prove_spec
from rebasin_hub.rearrange import rearranged
from rebasin_hub.specfile import load_spec, parse_spec, shipped_specs
from rebasin_hub.tensors import TensorInfo

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from safetensors import safe_open  # noqa: E402

from rebasin_hub import zoo  # noqa: E402
from rebasin_hub.prove import models  # noqa: E402

SPECS = shipped_specs()
DOCS = Path(__file__).parents[1] / "docs" / "examples"


@functools.cache
def shipped(name):
    return load_spec(SPECS[name])


@functools.cache
def examples(name):
    """Return (header, config) of each example of a spec."""
    subjects = [models.build(example, seed=0) for example in shipped(name).examples]
    return [(subject.header, subject.config) for subject in subjects]


def header_of(module):
    return {name: TensorInfo("F32", tuple(t.shape)) for name, t in module.state_dict().items()}


def renamed(header, *pairs):
    for old, new in pairs:
        header = {name.replace(old, new): info for name, info in header.items()}
    return header


# Proofs


def test_the_first_specs_are_there() -> None:
    assert {"bert", "gpt2", "llama", "mlp", "resnet", "resnet-cifar", "vgg"} <= set(SPECS)


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_says_what_it_is_of(name) -> None:
    spec = shipped(name)
    assert spec.name == name
    assert spec.description
    assert spec.source.startswith("https://")


# A key's bias adds the same to all scores of a query, and the softmax removes it.
INVISIBLE = {
    "bert": "attention.self.key.bias",
    "bert-encoder": "attention.self.key.bias",
    "gpt2": "c_attn.bias axis 0 part 1",
    "gpt2-encoder": "c_attn.bias axis 0 part 1",
}


@pytest.mark.parametrize("name", SPECS)
def test_a_spec_is_proven(name) -> None:
    proof = prove_spec(shipped(name))
    proof.check()
    assert proof.untested == ()
    assert all(INVISIBLE.get(name, "-") in place for place in proof.unnoticed)
    # LayerNorm's old names, which the library itself renames when it reads them.
    assert all(line.endswith(("gamma", "beta")) for line in proof.unused)
    largest = max(p.deviation for e in proof.examples for p in e.permutations)
    assert largest < 1e-13


def broken_copy(name, key, pattern):
    """Return a spec with another pattern for one key, or without the key (None)."""
    text = SPECS[name].read_text(encoding="utf-8").partition("\nlayouts:")[0]
    lines = text.splitlines()
    found = [
        number
        for number, line in enumerate(lines)
        if line.strip().startswith((f"{key}:", f'"{key}":'))
    ]
    assert len(found) == 1, f"{name}: {key} stands in {len(found)} lines"
    start = lines[found[0]].index(key)
    lead = lines[found[0]][:start] + key + ('"' if '"' in lines[found[0]][:start] else "")
    lines[found[0]] = "" if pattern is None else f"{lead}: {pattern}"
    return parse_spec("\n".join(lines), f"broken {name}")


BN2 = "layer{stage}.{block}.bn2.{weight,bias}"
SELF = "bert.encoder.layer.{layer}.attention.self"
ATTN = "model.layers.{layer}.self_attn"

BROKEN = {
    # spec, key, what stands there by mistake, the permutation that fails, number of the example
    "mlp: bias": ("mlp", "{prefix*}{layer}.bias?", "_", "hidden", 0),
    "vgg: bias": ("vgg", "features.{n}.bias?", "_", "channel", 1),
    "vgg: gain": ("vgg", "features.{n}.weight?", "_", "channel", 1),
    "vgg: statistics": ("vgg", "features.{n}.running_{mean,var}?", "_", "channel", 1),
    "vgg: flattened as NHWC": ("vgg", "from", "(pixel channel[-1])", "channel", 0),
    "resnet: projection": (
        *("resnet", "layer{stage}.0.downsample.0.weight?"),
        *("stream _ _ _", "stream", 0),
    ),
    "resnet: norm": ("resnet", BN2, "_", "stream", 0),
    "resnet: statistics": ("resnet", "bn1.running_{mean,var}", "_", "stream", 0),
    "resnet: classifier": ("resnet", "fc.weight", "classes _", "stream", 0),
    "bottleneck: groups are slower": (
        *("resnet-bottleneck", "layer{stage}.{block}.bn2.{weight,bias}"),
        *("(out group)", "out", 1),
    ),
    "bottleneck: statistics": (
        *("resnet-bottleneck", "layer{stage}.{block}.bn2.running_{mean,var}"),
        *("_", "group", 1),
    ),
    "bottleneck: projection": (
        *("resnet-bottleneck", "layer{stage}.0.downsample.1.{weight,bias}?"),
        *("_", "stream", 0),
    ),
    "cifar: projection": (
        *("resnet-cifar", "layer{stage}.0.shortcut.0.weight?"),
        *("_ stream[<stage] _ _", "stream", 0),
    ),
    "cifar: statistics": (
        *("resnet-cifar", "layer{stage}.{block}.bn1.running_{mean,var}"),
        *("_", "mid", 0),
    ),
    "cifar: LayerNorm": (
        *("resnet-cifar-layernorm", "layer{stage}.{block}.ln2.{weight,bias}"),
        *("_", "stream", 0),
    ),
    "padded: norm": (
        *("resnet-cifar-a", "layer2.{block}.bn2.{weight,bias}"),
        *("(8 + narrow + 8)", "middle", 0),
    ),
    "padded: on one side": (
        *("resnet-cifar-a", "layer3.0.conv1.weight"),
        *("mid[3, 0] (narrow + middle_lo + middle_hi) _ _", "narrow", 0),
    ),
    "bert: head count taken for head width": (
        *("bert", "head"),
        *("hidden_size / num_attention_heads", "head", 0),
    ),
    "bert: bias of values": ("bert", f"{SELF}.value.bias", "(head _)", "vo", 0),
    "bert: tied decoder": (
        *("bert", "cls.predictions.transform.dense.weight?"),
        *("_ embed", "embed", 0),
    ),
    "bert: pooler": ("bert", "bert.pooler.dense.weight?", "embed _", "embed", 2),
    "bert-encoder: heads are slower": (
        *("bert-encoder", "encoder.layer.{layer}.attention.self.{query,key}.weight"),
        *("(qk head) stream", "head", 0),
    ),
    "bert-encoder: bias": (
        *("bert-encoder", "encoder.layer.{layer}.intermediate.dense.bias"),
        *("_", "ff", 0),
    ),
    "gpt2: values": (
        *("gpt2", "h.{layer}.attn.c_attn.bias"),
        *("(head qk + head qk + head _)", "vo", 0),
    ),
    "gpt2: order": (
        *("gpt2", "h.{layer}.attn.c_attn.bias"),
        *("(head qk + head vo + head qk)", "qk", 0),
    ),
    "gpt2: writer": ("gpt2", "h.{layer}.mlp.c_proj.weight", "ff _", "embed", 0),
    "gpt2-encoder: bias": ("gpt2-encoder", "h.{layer}.mlp.c_fc.bias", "_", "ff", 0),
    "llama: any order of heads": (
        *("llama", f"{ATTN}.o_proj.weight"),
        *("embed (group kv vo)", "kv", 0),
    ),
    "llama: bias of queries": ("llama", f"{ATTN}.q_proj.bias?", "(kv _ rope)", "group", 0),
    "llama: bias": ("llama", "model.layers.{layer}.mlp.{gate,up}_proj.bias?", "_", "ff", 0),
    "llama-encoder: bias of values": (
        *("llama-encoder", "layers.{layer}.self_attn.v_proj.bias?"),
        *("(kv _)", "vo", 0),
    ),
    "llama-encoder: bias": (
        *("llama-encoder", "layers.{layer}.mlp.{gate,up}_proj.bias?"),
        *("_", "ff", 0),
    ),
}

# Where only two matrices carry a permutation, leaving it out on one is seen before any model runs.
REFUSED = {
    "mlp: reader": ("mlp", "{prefix*}{layer}.weight", "hidden _", "hidden"),
    "resnet: reader": (
        *("resnet", "layer{stage}.{block}.conv2.weight"),
        *("stream[<=stage] _ _ _", "mid"),
    ),
    "bottleneck: reader": (
        *("resnet-bottleneck", "layer{stage}.{block}.conv3.weight"),
        *("stream[<=stage] (group _) _ _", "out"),
    ),
    "gpt2: values": (
        *("gpt2", "h.{layer}.attn.c_attn.weight"),
        *("embed (head qk + head qk + head _)", "vo"),
    ),
    "llama: values": ("llama", f"{ATTN}.v_proj.weight", "(kv _) embed", "vo"),
}


def first_proof(spec, example=0):
    return prove_spec(replace(spec, examples=spec.examples[example : example + 1]), trials=1)


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_copy_fails(case) -> None:
    name, key, pattern, blamed, example = BROKEN[case]
    proof = first_proof(broken_copy(name, key, pattern), example)
    assert not proof.holds
    assert any(f"renumbering '{blamed}' changes" in failure for failure in proof.failures)


@pytest.mark.parametrize("case", REFUSED)
def test_a_broken_copy_is_refused(case) -> None:
    name, key, pattern, blamed = REFUSED[case]
    with pytest.raises((SpecError, BindingError), match=rf"{blamed}.* on one matrix axis alone"):
        first_proof(broken_copy(name, key, pattern))


def test_every_spec_has_a_broken_copy() -> None:
    assert {case[0] for case in BROKEN.values()} == set(SPECS)


def rewritten(name, *pairs):
    """Return a spec in which texts that occur are replaced."""
    text = SPECS[name].read_text(encoding="utf-8")
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return parse_spec(text)


def test_values_and_outputs_cannot_be_left_out() -> None:
    spec = rewritten("bert", ("  vo[layer]:  {within: head}\n", ""), ("(head vo)", "_"))
    proof = first_proof(spec)
    assert any("renumbering 'head' changes" in failure for failure in proof.failures)


def test_rotated_dimensions_cannot_be_renumbered() -> None:
    spec = rewritten(
        "llama",
        ("  embed:\n", "  embed:\n  turn[layer]: {within: kv}\n"),
        ("(kv group rope)", "(kv group turn)"),
        ("(kv rope)", "(kv turn)"),
    )
    proof = first_proof(spec)
    assert any("renumbering 'turn' changes" in failure for failure in proof.failures)


@pytest.mark.parametrize("name", ["bert-encoder", "llama-encoder"])
def test_what_a_model_gives_out_cannot_be_renumbered(name) -> None:
    spec = rewritten(name, ("  ff[layer]:\n", "  ff[layer]:\n  stream:\n"))
    proof = first_proof(spec)
    assert any("renumbering 'stream' changes" in failure for failure in proof.failures)


@pytest.mark.parametrize(
    ("name", "end"), [("mlp", "{from: input, to: output}"), ("vgg", "\n    to: classes")]
)
def test_the_classes_at_the_end_of_a_chain_cannot_be_renumbered(name, end) -> None:
    spec = rewritten(name, (end, end.partition(", to")[0] + "}" if "{" in end else ""))
    with pytest.raises(BindingError, match="visible from outside"):
        first_proof(spec)


def test_classes_cannot_be_declared() -> None:
    with pytest.raises(SpecError, match="visible from outside"):
        rewritten(
            "resnet",
            ("  stream[stage]:\n", "  stream[stage]:\n  outcome:\n"),
            ("classes stream[-1]", "outcome stream[-1]"),
        )


# Binding


def binds(spec, header, config) -> bool:
    try:
        bind(spec, header, config=config)
    except BindingError:
        return False
    return True


@pytest.mark.parametrize("name", SPECS)
def test_an_example_is_described_by_its_own_spec_alone(name) -> None:
    for header, config in examples(name):
        # Names tell all apart but GPT-2 with and without a head, so the class is given as well.
        example = shipped(name).examples[0]
        known = {"architectures": [example["transformers"]]} if name.startswith("gpt2") else {}
        found = detect(header, {**(config or {}), **known}, [shipped(other) for other in SPECS])
        assert found.spec.name == name
        fitting = [other for other in SPECS if binds(shipped(other), header, config)]
        assert set(fitting) - {"gpt2", "gpt2-encoder"} == {name} - {"gpt2", "gpt2-encoder"}


def sizes_of(group):
    """Return how many factors of each declaration there are."""
    return Counter(name.partition("[")[0] for name in group.factors)


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["layers.0", "layers.1", "layers.2"], "layers."),
        (["net.0", "net.2", "net.4"], "net."),
        (["fc1", "fc2", "fc10"], "fc"),
        (["0", "3", "7"], ""),
        (["model.head2.mlp.1", "model.head2.mlp.5", "model.head2.mlp.9"], "model.head2.mlp."),
    ],
)
@pytest.mark.parametrize("bias", [True, False])
def test_mlp_under_any_name(names, prefix, bias) -> None:
    header = {}
    for name, (rows, columns) in zip(names, [(5, 3), (7, 5), (2, 7)], strict=True):
        header[f"{name}.weight"] = TensorInfo("F32", (rows, columns))
        if bias:
            header[f"{name}.bias"] = TensorInfo("F32", (rows,))
    binding = bind(shipped("mlp"), header)
    assert [factor.size for factor in binding.group.factors.values()] == [5, 7]


def test_mlp_refuses_two_chains() -> None:
    header = {f"{tower}.0.weight": TensorInfo("F32", (3, 3)) for tower in ("left", "right")}
    with pytest.raises(BindingError, match="must be the same text"):
        bind(shipped("mlp"), header)


FULL_SIZE = {
    "vgg11": ("vgg", zoo.VGG, {"channel": 8, "hidden": 2}),
    "vgg16_bn": ("vgg", lambda: zoo.VGG(zoo.VGG16, batch_norm=True), {"channel": 13, "hidden": 2}),
    "resnet18": (
        *("resnet", lambda: zoo.ResNet(zoo.BasicBlock, (2, 2, 2, 2))),
        {"stream": 4, "mid": 8},
    ),
    "resnet50": (
        *("resnet-bottleneck", lambda: zoo.ResNet(zoo.Bottleneck, (3, 4, 6, 3))),
        {"stream": 5, "group": 16, "in": 16, "out": 16},
    ),
    "resnext50_32x4d": (
        "resnet-bottleneck",
        lambda: zoo.ResNet(zoo.Bottleneck, (3, 4, 6, 3), groups=32, width_per_group=4),
        {"stream": 5, "group": 16, "in": 16, "out": 16},
    ),
    "wide_resnet50_2": (
        *(
            "resnet-bottleneck",
            lambda: zoo.ResNet(zoo.Bottleneck, (3, 4, 6, 3), width_per_group=128),
        ),
        {"stream": 5, "group": 16, "in": 16, "out": 16},
    ),
    "resnet20": (
        "resnet-cifar-a",
        lambda: zoo.CifarResNet(3),
        {"narrow": 1, "middle": 1, "wide": 1, "mid": 9},
    ),
    "resnet20_b": (
        "resnet-cifar",
        lambda: zoo.CifarResNet(3, shortcut="B"),
        {"stream": 3, "mid": 9},
    ),
    "resnet20_ln": (
        "resnet-cifar-layernorm",
        lambda: zoo.CifarResNet(3, shortcut="B", norm="layer"),
        {"stream": 3, "mid": 9},
    ),
}


@pytest.mark.parametrize("model", FULL_SIZE)
def test_full_size_networks(model) -> None:
    name, build, counts = FULL_SIZE[model]
    with torch.device("meta"):
        header = header_of(build())
    for number in (True, False):
        kept = {k: v for k, v in header.items() if number or "num_batches_tracked" not in k}
        binding = bind(shipped(name), kept)
        assert sizes_of(binding.group) == counts
        assert not binding.ignored
    if model == "resnext50_32x4d":
        assert [binding.sizes[f"{word}[1,0]"] for word in ("group", "in", "out")] == [32, 4, 4]


def test_a_norm_without_statistics_is_refused() -> None:
    with torch.device("meta"):
        header = header_of(zoo.ResNet(zoo.BasicBlock, (2, 2, 2, 2)))
    group_norm = {name: info for name, info in header.items() if "running_" not in name}
    with pytest.raises(BindingError, match="running_mean"):
        bind(shipped("resnet"), group_norm)


def test_features_without_their_classifier_are_refused() -> None:
    with torch.device("meta"):
        header = header_of(zoo.VGG())
    features = {name: info for name, info in header.items() if name.startswith("features.")}
    with pytest.raises(BindingError, match=r"channel\[18\]: stands on one matrix axis alone"):
        bind(shipped("vgg"), features)


def test_bert_with_the_names_of_older_checkpoints() -> None:
    header, config = examples("bert")[0]
    old = renamed(
        header, ("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta")
    )
    old["bert.embeddings.position_ids"] = TensorInfo("I64", (1, 11))
    binding = bind(shipped("bert"), old, config=config)
    assert set(binding.ignored) == {"bert.embeddings.position_ids"}
    assert binding.group.factors == bind(shipped("bert"), header, config=config).group.factors


def test_a_pooler_beside_a_token_classifier_changes_nothing() -> None:
    header, config = examples("bert")[3]
    assert not any("pooler" in name for name in header)
    with_pooler = {
        **header,
        "bert.pooler.dense.weight": TensorInfo("F64", (12, 12)),
        "bert.pooler.dense.bias": TensorInfo("F64", (12,)),
    }
    bound = [bind(shipped("bert"), h, config=config) for h in (header, with_pooler)]
    assert bound[0].group.factors == bound[1].group.factors


def test_bert_needs_to_know_its_heads() -> None:
    header, _ = examples("bert")[0]
    with pytest.raises(BindingError, match="num_attention_heads"):
        bind(shipped("bert"), header)


def test_gpt2_with_and_without_prefix_head_and_masks() -> None:
    header, config = examples("gpt2")[0]
    assert all(name.startswith("transformer.") for name in header)
    bare = renamed(header, ("transformer.", ""))
    masks = {
        "h.0.attn.bias": TensorInfo("F32", (1, 1, 11, 11)),
        "h.0.attn.masked_bias": TensorInfo("F32", ()),
    }
    head = {"lm_head.weight": TensorInfo("F32", (19, 12))}
    bindings = [
        bind(shipped("gpt2"), h, config=config)
        for h in (header, bare, {**bare, **masks}, {**header, **head})
    ]
    assert [len(binding.ignored) for binding in bindings] == [0, 0, 2, 0]
    assert all(b.group.factors == bindings[0].group.factors for b in bindings)


def test_a_gpt2_without_a_head_is_known_by_its_architecture() -> None:
    header, _ = examples("gpt2-encoder")[0]
    specs = [shipped("gpt2"), shipped("gpt2-encoder")]
    for architecture, expected in (("GPT2Model", "gpt2-encoder"), ("GPT2LMHeadModel", "gpt2")):
        config = {"model_type": "gpt2", "architectures": [architecture], "n_head": 3}
        assert detect(header, config, specs).spec.name == expected
    with pytest.raises(DetectionError, match="these specs fit equally well"):
        detect(header, {"model_type": "gpt2", "n_head": 3}, specs)
    prefixed = {f"transformer.{name}": info for name, info in header.items()}
    assert detect(prefixed, {"model_type": "gpt2", "n_head": 3}, specs).spec.name == "gpt2"


def test_llama_with_the_frequencies_of_older_checkpoints() -> None:
    header, config = examples("llama")[1]
    old = {**header, "model.layers.0.self_attn.rotary_emb.inv_freq": TensorInfo("F32", (4,))}
    assert len(bind(shipped("llama"), old, config=config).ignored) == 1


def test_llama_without_grouped_queries() -> None:
    header, _ = examples("llama")[1]
    binding = bind(shipped("llama"), header, config={"num_attention_heads": 3})
    assert binding.sizes["kv[0]"] == 3


# Trained checkpoints


@pytest.mark.checkpoints
def test_minilm_computes_the_same_renumbered(minilm) -> None:
    from transformers import BertModel

    with safe_open(minilm / "model.safetensors", framework="numpy") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    config = json.loads((minilm / "config.json").read_text())
    header = {name: TensorInfo("F32", shape) for name, shape in shapes.items()}
    binding = bind(shipped("bert-encoder"), header, config=config)
    assert sizes_of(binding.group) == {"head": 6, "ff": 6, "qk": 6, "vo": 6}
    assert binding.sizes["qk[5]"] == 32
    assert set(binding.ignored) <= {"embeddings.position_ids"}

    model = BertModel.from_pretrained(minilm, attn_implementation="eager")
    tokens = torch.randint(30_522, (2, 16), generator=torch.Generator().manual_seed(0))
    subject = models.own(lambda: (model, {"input_ids": tokens}), config, seed=0)
    state = subject.state()
    assert set(state) == set(header) - set(binding.ignored)
    element = binding.group.random(np.random.default_rng(0))
    read = rearranged(binding, element, state.__getitem__)
    before = subject.run(state)
    after = subject.run({name: read(name) for name in state})
    assert set(before) == {"output.last_hidden_state", "output.pooler_output"}
    for key, values in before.items():
        np.testing.assert_allclose(after[key], values, rtol=0, atol=1e-12)


# The spec of docs/writing-a-spec.md


@pytest.fixture(scope="module")
def sceptr_spec():
    return load_spec(DOCS / "sceptr.yaml")


@pytest.fixture(scope="module")
def sceptr_code():
    return runpy.run_path(str(DOCS / "sceptr_model.py"))


def test_sceptr_is_proven(sceptr_spec, sceptr_code) -> None:
    proof = prove_spec(sceptr_spec, model=sceptr_code["build"], sizes={"head": 3})
    proof.check()
    assert all("in_proj_bias axis 0 part 1" in place for place in proof.unnoticed)
    assert proof.unused == ()


def test_sceptr_with_head_count_and_width_mixed_up_is_not(sceptr_spec, sceptr_code) -> None:
    proof = prove_spec(sceptr_spec, model=sceptr_code["build"], sizes={"head": 5}, trials=1)
    assert not proof.holds


SAME_SHAPES = (
    *("SCEPTR", "SCEPTR_MLM_only", "SCEPTR_average_pooling", "SCEPTR_dropout_noise_only"),
    *("SCEPTR_shuffled_data", "SCEPTR_synthetic_data", "SCEPTR_finetuned"),
)


def sceptr_model_and_binding(folder, spec, name):
    path = folder / name
    state = torch.load(path / "state_dict.pt", weights_only=True, map_location="cpu")
    header = {key: TensorInfo("F32", tuple(tensor.shape)) for key, tensor in state.items()}
    return state, bind(spec, header, config=json.loads((path / "config.json").read_text()))


@pytest.mark.checkpoints
def test_sceptr_binds_the_trained_models(sceptr, sceptr_spec) -> None:
    others = ("A_SCEPTR", "B_SCEPTR", "SCEPTR_CDR3_only", "SCEPTR_tiny", "SCEPTR_large")
    for name in (*SAME_SHAPES, *others):
        _, binding = sceptr_model_and_binding(sceptr, sceptr_spec, name)
        assert binding.sizes["head[0]"] == 8
        assert len(binding.ignored) == 2


@pytest.mark.checkpoints
def test_a_trained_sceptr_computes_the_same_renumbered(sceptr, sceptr_spec, sceptr_code) -> None:
    state, binding = sceptr_model_and_binding(sceptr, sceptr_spec, "SCEPTR")
    model = sceptr_code["Sceptr"](features=29, width=64, heads=8, feedforward=256, layers=3)
    model.double().eval()
    element = binding.group.random(np.random.default_rng(0))
    read = rearranged(binding, element, lambda name: state[name].double().numpy())
    features = torch.randn(5, 11, 29, generator=torch.Generator().manual_seed(0)).double()
    results = []
    for weights in (state, {name: torch.from_numpy(read(name).copy()) for name in state}):
        model.load_state_dict({k: v for k, v in weights.items() if k not in binding.ignored})
        with torch.no_grad():
            results.append(model(features))
    for key in ("logits", "distances"):
        torch.testing.assert_close(results[1][key], results[0][key], rtol=0, atol=1e-12)
