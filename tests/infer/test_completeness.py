"""Inference finds the groups of the specs that people wrote: on every example of each of them."""

import math

import pytest

from rebasin_hub.bind import bind
from rebasin_hub.infer import infer_spec, run_rules
from rebasin_hub.infer.compare import compare, order
from rebasin_hub.infer.exported import export_module, graph_of
from rebasin_hub.prove.models import build
from rebasin_hub.specfile import find_spec, parse_spec, shipped_specs
from rebasin_hub.tensors import TensorInfo

FAST = {
    ("mlp", 0),
    ("vgg", 1),
    ("resnet", 0),
    ("resnet-bottleneck", 1),
    ("resnet-cifar", 0),
    ("resnet-cifar-a", 0),
    ("gpt2", 0),
    ("bert", 0),
    ("bert", 1),
    ("bert-encoder", 0),
    ("llama", 0),
    ("llama-encoder", 3),
}
"""One of each family; the others take longer."""

DIFFERENT = {
    # Both sides of the padding could trade places; inference keeps them apart.
    ("resnet-cifar-a", 0): ("smaller", 7, 2, 4),
    # The spec ties the pooler and the head's first layer to the stream, since names do not tell.
    ("bert", 1): ("larger", 8, 1, 3),
    ("bert", 2): ("larger", 8, 1, 2),
}
"""How the inferred spec differs: relation, groups of both, of the written and the inferred alone.
A number that changes means that a group shrank, grew or went away."""

EXAMPLES = [
    pytest.param(name, number, marks=() if (name, number) in FAST else pytest.mark.slow)
    for name in sorted(shipped_specs())
    for number in range(len(find_spec(name).examples))
]


@pytest.mark.parametrize(("name", "number"), EXAMPLES)
def test_the_groups_that_people_wrote_are_found(name, number):
    spec = find_spec(name)
    if "transformers" in spec.examples[number]:
        pytest.importorskip("transformers")
    subject = build(spec.examples[number], 0)
    program = export_module(subject.module, subject.inputs, name)
    state = subject.module.state_dict(keep_vars=True)
    found = infer_spec(run_rules(graph_of(program, state, name)), "inferred", name)
    written = bind(spec, subject.header, config=subject.config)
    both = compare(written, bind(parse_spec(found.written.text), subject.header))
    if (name, number) in DIFFERENT:
        seen = (both.relation, both.same, both.only_first, both.only_second)
        assert seen == DIFFERENT[name, number]
    else:
        assert (both.only_first, both.only_second) == (0, 0)
        assert both.relation == "equal"
        assert both.same > 0


HEADER = {
    name: TensorInfo("F32", shape)
    for name, shape in {"a": (6, 4), "b": (5, 6), "c": (7, 5)}.items()
}


def bound(permutations, a, b, c):
    lines = "".join(f"  {p}\n" for p in permutations)
    text = f"spec: 1\nname: x\npermutations:\n{lines}tensors:\n  a: {a}\n  b: {b}\n  c: {c}\n"
    return bind(parse_spec(text), HEADER, sizes={"h": 2} if "h:" in permutations else {})


def test_names_do_not_count():
    one = bound(["p:", "q:"], "p n", "q p", "m q")
    other = bound(["x:", "y:"], "y n", "x y", "m x")
    both = compare(one, other)
    assert (both.relation, both.same) == ("equal", 2)
    assert both.orders[0] == pytest.approx(math.log2(math.factorial(6) * math.factorial(5)))


def test_a_group_left_out_is_smaller_and_the_other_way_round_larger():
    one = bound(["p:", "q:"], "p n", "q p", "m q")
    fewer = bound(["p:"], "p n", "k p", "m k")
    assert compare(one, fewer).relation == "smaller"
    assert compare(one, fewer).only_first == 1
    assert compare(fewer, one).relation == "larger"


def test_dependent_permutations_are_other_groups_than_common_ones():
    common = bound(["h:", "d:"], "(h d) n", "k (h d)", "m k")
    apart = bound(["h:", "d: {within: h}"], "(h d) n", "k (h d)", "m k")
    both = compare(common, apart)
    assert (both.relation, both.same, both.only_first, both.only_second) == ("larger", 1, 1, 1)
    assert order(common) == pytest.approx(math.log2(2 * 6))
    assert order(apart) == pytest.approx(math.log2(2 * 6 * 6))
