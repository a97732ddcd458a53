"""Inference finds the groups of the specs that people wrote."""

import numpy as np
import pytest

from rebasin_hub.bind import bind
from rebasin_hub.infer import infer_spec, run_rules
from rebasin_hub.infer.exported import export_module, graph_of
from rebasin_hub.prove.models import build
from rebasin_hub.specfile import find_spec, parse_spec

pytest.importorskip("transformers")

CASES = [
    ("mlp", 0),
    ("vgg", 1),
    ("resnet", 0),
    ("resnet-bottleneck", 1),
    ("resnet-cifar", 0),
    ("gpt2", 0),
    ("gpt2-encoder", 0),
    ("bert", 0),
    ("bert-encoder", 0),
    ("llama", 0),
    ("llama-encoder", 3),
]


def places(binding):
    """Return for every factor the positions of each of its indices, and those of its parent."""
    found = {}
    for tensor in binding.tensors:
        for number, axis in enumerate(tensor.axes):
            for segment in axis.segments:
                for at, atom in enumerate(segment.atoms):
                    if atom.permutation is not None and atom.size > 1:
                        rows = np.moveaxis(segment.positions, at, 0).reshape(atom.size, -1)
                        where = (str(tensor.names.flat[0]), number, rows.tobytes())
                        found.setdefault(atom.permutation, set()).add(where)
    groups = {name: frozenset(where) for name, where in found.items()}
    factors = binding.group.factors
    return {(groups[name], groups.get(factors[name].parent)) for name in groups}


def both(name, number):
    spec = find_spec(name)
    subject = build(spec.examples[number], 0)
    program = export_module(subject.module, subject.inputs, name)
    state = subject.module.state_dict(keep_vars=True)
    flow = run_rules(graph_of(program, state, name))
    found = infer_spec(flow, "inferred", name)
    written = bind(spec, subject.header, config=subject.config)
    return places(written), places(bind(parse_spec(found.written.text), subject.header))


@pytest.mark.parametrize(("name", "number"), CASES)
def test_the_same_groups_are_found(name, number):
    written, inferred = both(name, number)
    assert inferred == written


def test_padded_shortcuts_give_fewer():
    """Both sides of the padding could trade places; inference keeps them apart."""
    written, inferred = both("resnet-cifar-a", 0)
    assert len(inferred) == len(written) + 2
    assert len(inferred & written) == len(written) - 2


def test_layers_that_are_not_tied_give_more():
    """The hand-written spec ties the pooler and the head's first layer to the stream."""
    written, inferred = both("bert", 1)
    assert len(inferred) == len(written) + 2
