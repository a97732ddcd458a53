"""Inference on small torch networks: what is found, that it holds, and that wrong rules show."""

import copy

import pytest
import torch
from torch_nets import NETS

from rebasin_hub.bind import bind
from rebasin_hub.infer import infer_spec, run_rules
from rebasin_hub.infer.labels import product
from rebasin_hub.infer.rules import RULES
from rebasin_hub.infer.rules.pointwise import pointwise
from rebasin_hub.infer.sources import from_builder
from rebasin_hub.specfile import parse_spec


def source_of(name):
    network, shape, _ = copy.deepcopy(NETS[name])
    generator = torch.Generator().manual_seed(1)
    return from_builder(lambda: (network, torch.randn(shape, generator=generator)), name, seed=0)


def inferred(name, rules=RULES):
    source = source_of(name)
    flow = run_rules(source.graph, rules)
    return infer_spec(flow, "inferred", name, source.runner), source


@pytest.mark.parametrize("name", NETS)
def test_groups_are_found_and_certified(name):
    found, source = inferred(name)
    groups = found.layout.groups
    sizes = [(g.size, groups[g.parent].size if g.parent else None) for g in groups.values()]
    assert sorted(sizes, key=str) == sorted(NETS[name][2], key=str)
    assert not found.certificate.removed
    assert found.certificate.together < 1e-12
    assert not found.certificate.unnoticed
    binding = bind(parse_spec(found.written.text), source.runner.header)
    assert set(binding.group.factors) == set(found.written.factor_of())


def channels_last(step):
    """Flatten as if channels came last, which they do not."""
    shape = step.shape(step.node.inputs[0])
    batch, *others = step.indices(shape)
    step.bind(step.node.inputs[0], [batch, *others])
    step.bind(step.node.outputs[0], [batch, product(*others[1:], others[0])])


@pytest.mark.parametrize(
    ("net", "operator", "wrong"),
    [("sorted", "aten.sort", pointwise), ("flattened", "aten.view", channels_last)],
)
def test_a_wrong_rule_is_caught_by_the_certificate(net, operator, wrong):
    found, _ = inferred(net, {**RULES, operator: wrong})
    assert found.certificate.removed
    assert min(found.certificate.removed.values()) > 1e-3
    # What is left holds.
    assert found.certificate.together < 1e-12
    assert not found.layout.groups


def test_an_operator_without_a_rule_fixes_what_touches_it():
    rules = {op: rule for op, rule in RULES.items() if op != "aten.addmm"}
    found, _ = inferred("chain", rules)
    assert not found.layout.groups
    assert found.layout.flow.unruled == {"aten.addmm": 3}
    assert {f.reason.what for f in found.layout.fixed} >= {"the operator has no rule"}


def test_a_rule_that_fails_fixes_what_touches_it():
    def broken(step):
        step.shape("no such value")

    found, _ = inferred("chain", {**RULES, "aten.addmm": broken})
    assert not found.layout.groups


def test_reasons_name_their_operator():
    found, _ = inferred("sorted")
    reasons = {f.tensor: f.reason for f in found.layout.fixed if f.axis == 0}
    assert reasons["a.weight"].what == "positions count along this axis"
    assert "aten.sort" in reasons["a.weight"].where
    assert reasons["b.weight"].what == "reaches an output"
