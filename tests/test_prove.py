"""The proof of a spec: what it finds, what it leaves alone, and what it refuses."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

import rebasin_hub.prove
from rebasin_hub.errors import BindingError, InputError, MissingExtraError, ProofError
from rebasin_hub.prove import NOTICED, TOLERANCE, prove_spec
from rebasin_hub.specfile import parse_spec

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from rebasin_hub.prove import models  # noqa: E402

HEAD = "spec: 1\nname: small\n"
MLP = parse_spec(
    HEAD
    + """
permutations:
  hidden[layer]: {from: input, to: output}
tensors:
  "{layer}.weight": hidden hidden[<layer]
  "{layer}.bias": hidden
"""
)


def mlp():
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.Tanh(), nn.Linear(6, 3))
    return model, torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


# What it finds


def test_a_right_spec_is_proven_with_figures() -> None:
    proof = prove_spec(MLP, model=mlp)
    assert proof.holds
    assert proof.failures == proof.untested == proof.unused == proof.unnoticed == ()
    (example,) = proof.examples
    (hidden,) = example.permutations
    assert example.model == "Sequential"
    assert (hidden.name, hidden.moved) == ("hidden", 7)
    assert 0 < hidden.deviation < TOLERANCE
    assert {(c.tensor, c.axis) for c in hidden.controls} == {
        ("{layer}.weight", 0),
        ("{layer}.weight", 1),
        ("{layer}.bias", 0),
    }
    assert min(control.deviation for control in hidden.controls) > 1000 * NOTICED


def test_a_proof_becomes_json() -> None:
    proof = prove_spec(MLP, model=mlp, trials=1)
    data = json.loads(json.dumps(proof.as_json()))
    assert data["holds"] is True
    assert data["examples"][0]["permutations"][0]["name"] == "hidden"


def test_the_same_seed_gives_the_same_proof() -> None:
    assert prove_spec(MLP, model=mlp, seed=3) == prove_spec(MLP, model=mlp, seed=3)
    assert prove_spec(MLP, model=mlp, seed=3) != prove_spec(MLP, model=mlp, seed=4)


def test_progress_is_told() -> None:
    calls = []
    prove_spec(MLP, model=mlp, trials=1, progress=lambda *call: calls.append(call))
    assert calls == [("Sequential", 0, 1), ("Sequential", 1, 1)]


def normed():
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))
    return model, torch.randn(4, 5, generator=torch.Generator().manual_seed(0))


NORMED = """
permutations:
  hidden:
tensors:
  0.weight: hidden _
  0.bias: hidden
  1.{weight,bias}: hidden
  3.weight: _ hidden
  3.bias: _
statistics:
  1.running_{mean,var}: hidden
  1.num_batches_tracked: scalar
"""


@pytest.mark.parametrize(
    "tensor", ["running_{mean,var}", "{weight,bias}"], ids=["statistics", "gains"]
)
def test_fresh_values_hide_nothing(tensor) -> None:
    assert prove_spec(parse_spec(HEAD + NORMED), model=normed).holds
    proof = prove_spec(
        parse_spec(HEAD + NORMED.replace(f"1.{tensor}: hidden", f"1.{tensor}: _")), model=normed
    )
    assert not proof.holds
    assert proof.failures[0].startswith("Sequential: renumbering 'hidden' changes what")
    with pytest.raises(ProofError, match="spec 'small' is not proven:\n  Sequential: renumbering"):
        proof.check()


class Experts(nn.Module):
    """Three experts, each in tensors of its own, mixed by a router."""

    def __init__(self) -> None:
        super().__init__()
        self.router = nn.Linear(5, 3, bias=False)
        self.up = nn.ModuleList(nn.Linear(5, 4, bias=False) for _ in range(3))
        self.down = nn.ModuleList(nn.Linear(4, 2, bias=False) for _ in range(3))

    def forward(self, x):
        weights = self.router(x).softmax(-1)
        parts = [d(functional.relu(u(x))) for u, d in zip(self.up, self.down, strict=True)]
        return (torch.stack(parts, -1) * weights.unsqueeze(-2)).sum(-1)


EXPERTS = """
permutations:
  expert:
  ff: {within: expert}
tensors:
  router.weight: expert _
  up.{expert}.weight: ff _
  down.{expert}.weight: output ff
"""


def test_tensors_that_trade_names_are_proven() -> None:
    proof = prove_spec(
        parse_spec(HEAD + EXPERTS), model=lambda: (Experts(), torch.ones(1, 5).cumsum(1))
    )
    assert proof.holds
    assert proof.unnoticed == ()
    (example,) = proof.examples
    expert = next(p for p in example.permutations if p.name == "expert")
    assert {(c.tensor, c.axis) for c in expert.controls} == {
        ("router.weight", 0),
        ("up.{expert}.weight", -1),
        ("down.{expert}.weight", -1),
    }


def test_what_a_softmax_removes_is_reported_as_unnoticed() -> None:
    class Attention(nn.MultiheadAttention):
        def forward(self, x):
            return super().forward(x, x, x, need_weights=False)[0]

    spec = parse_spec(
        HEAD
        + """
sizes: {head: 3}
permutations:
  head:
  qk: {within: head}
  vo: {within: head}
tensors:
  in_proj_weight: (head qk + head qk + head vo) _
  in_proj_bias: (head qk + head qk + head vo)
  out_proj.weight: _ (head vo)
  out_proj.bias: _
"""
    )
    proof = prove_spec(
        spec, model=lambda: (Attention(15, 3, batch_first=True), torch.randn(2, 4, 15))
    )
    assert proof.holds
    assert proof.unnoticed == (
        "head on in_proj_bias axis 0 part 1",
        "qk on in_proj_bias axis 0 part 1",
    )


def test_a_permutation_of_one_index_is_not_proven() -> None:
    def narrow():
        return nn.Sequential(nn.Linear(5, 1), nn.Tanh(), nn.Linear(1, 3)), torch.randn(4, 5)

    proof = prove_spec(MLP, model=narrow)
    assert proof.untested == ("hidden",)
    assert not proof.holds
    assert "'hidden' is exercised by no example" in proof.failures[0]


def test_lines_that_no_example_has_are_named() -> None:
    spec = parse_spec(HEAD + NORMED.replace("tensors:", "tensors:\n  extra.{scale,shift}?: hidden"))
    assert prove_spec(spec, model=normed).unused == ("extra.scale", "extra.shift")


def test_a_deviation_of_all_together_is_a_failure() -> None:
    proof = prove_spec(MLP, model=mlp, trials=1)
    (example,) = proof.examples
    bad = replace(proof, examples=(replace(example, deviation=0.5),))
    assert not bad.holds
    assert "each permutation alone keeps" in bad.failures[0]


# What it leaves alone, and how it computes


class Float32Inside(nn.Module):
    """A norm that computes in float32, as those of language models do."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(50, 70, bias=False)
        self.down = nn.Linear(70, 3, bias=False)

    def forward(self, x):
        hidden = self.up(x).to(torch.float32)
        hidden = hidden * torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True))
        return self.down(hidden.softmax(-1, dtype=torch.float32).to(self.down.weight.dtype))


FLOAT32 = """
permutations:
  hidden:
tensors:
  up.weight: hidden _
  down.weight: _ hidden
"""


def test_casts_to_float32_do_not_blur_the_proof() -> None:
    proof = prove_spec(
        parse_spec(HEAD + FLOAT32), model=lambda: (Float32Inside(), torch.randn(4, 50))
    )
    assert proof.holds
    assert proof.examples[0].deviation < 1e-13


def test_arithmetic_in_float32_all_the_same_is_suspected() -> None:
    class Summed(Float32Inside):
        def forward(self, x):
            hidden = self.up(x)
            narrow = hidden.numpy().astype(np.float32)
            total = np.add.accumulate(narrow**2, axis=1)[:, -1:]  # far from zero, whatever the seed
            return self.down(hidden) / torch.from_numpy(total.astype(np.float64))

    proof = prove_spec(
        parse_spec(HEAD + FLOAT32), model=lambda: (Summed(), torch.randn(4, 50)), trials=4
    )
    assert not proof.holds
    assert "does the model compute in float32?" in proof.failures[0]


def test_ignored_constants_keep_their_values() -> None:
    seen = []

    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()[0]
            self.register_buffer("table", torch.arange(3.0))

        def forward(self, x):
            seen.append(self.table.clone())
            return self.net(x) + self.table

    spec = parse_spec(
        HEAD
        + """
prefixes: [net.]
permutations:
  hidden[layer]: {from: input, to: output}
tensors:
  "{layer}.weight": hidden hidden[<layer]
  "{layer}.bias": hidden
ignore:
  table: a constant
"""
    )
    assert prove_spec(spec, model=lambda: (Constant(), mlp()[1])).holds
    assert all(torch.equal(table, torch.arange(3.0)) for table in seen)


def test_tied_tensors_are_one_tensor() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, 5)
            self.head = nn.Linear(5, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, tokens):
            return self.head(self.embed(tokens))

    subject = models.own(lambda: (Tied(), (torch.arange(7),)), {}, seed=0)
    assert list(subject.header) == ["embed.weight"]


@pytest.mark.parametrize(
    "inputs", [torch.ones(2, 5), (torch.ones(2, 5),), {"input": torch.ones(2, 5)}]
)
def test_inputs_are_one_tensor_or_several_or_named(inputs) -> None:
    assert prove_spec(MLP, model=lambda: (mlp()[0], inputs), trials=1).holds


@pytest.mark.parametrize("wrap", [lambda y: (y, None), lambda y: {"a": y, "n": 3}, lambda y: [y]])
def test_outputs_are_found_inside_of_containers(wrap) -> None:
    class Wrapped(nn.Sequential):
        def forward(self, x):
            return wrap(super().forward(x))

    def build():
        model, inputs = mlp()
        return Wrapped(*model), inputs

    assert prove_spec(MLP, model=build, trials=1).holds


def test_constants_made_on_the_way_are_float64() -> None:
    class Made(nn.Sequential):
        def forward(self, x):
            return super().forward(x @ torch.eye(5))

    assert prove_spec(MLP, model=lambda: (Made(*mlp()[0]), mlp()[1]), trials=1).holds
    assert torch.get_default_dtype() == torch.float32


# What it refuses


def with_example(example):
    return replace(MLP, examples=(example,))


def test_without_an_example_or_a_model_there_is_nothing_to_run() -> None:
    with pytest.raises(InputError, match="spec 'small' has no example to run"):
        prove_spec(MLP)


def test_a_spec_that_does_not_fit_the_model() -> None:
    with pytest.raises(BindingError, match=r"1\.running_mean"):
        prove_spec(MLP, model=normed)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ({"zoo": "MLPs"}, "no network of the zoo; did you mean 'MLP'"),
        ({"zoo": "randomize"}, "no network of the zoo"),
        ({"zoo": "MLP", "arguments": {"widths": [3]}}, "zoo: MLP cannot be built: ValueError"),
        ({"zoo": "MLP", "arguments": {"width": 3}}, "zoo: MLP cannot be built: TypeError"),
        ({"transformers": "LlamaForCausalML"}, "did you mean 'LlamaForCausalLM'"),
        ({"transformers": "AutoConfig"}, "no model class"),
        (
            {"transformers": "BertModel", "config": {"hidden_size": 7, "num_attention_heads": 2}},
            "transformers: BertModel cannot be built",
        ),
    ],
)
def test_examples_that_cannot_be_built(example, message) -> None:
    if "transformers" in example:
        pytest.importorskip("transformers")
    with pytest.raises(InputError, match=message):
        prove_spec(with_example(example))


def test_a_model_that_cannot_run() -> None:
    with pytest.raises(InputError, match="Sequential cannot run in float64: RuntimeError"):
        prove_spec(MLP, model=lambda: (mlp()[0], torch.ones(2, 4)))


def test_a_model_that_gives_nothing_to_compare() -> None:
    class Silent(nn.Sequential):
        def forward(self, x):
            return super().forward(x).argmax(1)

    with pytest.raises(InputError, match="cannot be compared"):
        prove_spec(MLP, model=lambda: (Silent(*mlp()[0]), mlp()[1]))


def test_without_torch_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.delattr(rebasin_hub.prove, "models")
    monkeypatch.delitem(sys.modules, "rebasin_hub.prove.models")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rebasin-hub\[torch\]'"):
        prove_spec(MLP, model=mlp)


def test_without_transformers_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rebasin-hub\[transformers\]'"):
        prove_spec(with_example({"transformers": "BertModel"}))
