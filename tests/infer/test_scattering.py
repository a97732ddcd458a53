"""Elements put at or read from places: the places stay, what is beside them may be renumbered."""

import pytest
import torch
from torch import nn
from torch_nets import Net

from rebasin_hub.infer import infer_spec, run_rules
from rebasin_hub.infer.rules import RULES
from rebasin_hub.infer.sources import from_builder

NUMBERS = torch.tensor([2, 0])
MASK = torch.tensor([[True, False, True, True], [False, True, False, False]])


def scattered(m, x):
    h = torch.tanh(m.a(x))
    places = NUMBERS[None, :, None].expand(2, 2, 6)
    return m.b(h.scatter(1, places, torch.sin(h[:, 2:])))


def scattered_over_units(m, x):
    h = torch.tanh(m.a(x))
    return m.b(h.scatter(2, NUMBERS[None, None].expand(2, 4, 2), 0.5))


def added(m, x):
    h = torch.tanh(m.a(x))
    return m.b(h.index_add(1, NUMBERS, torch.sin(h[:, :2])))


def put(m, x):
    h = torch.tanh(m.a(x))
    return m.b(torch.ops.aten.index_put(h, [None, NUMBERS], torch.sin(h[:, 1:3])))


def put_where_a_mask_says(m, x):
    h = torch.tanh(m.a(x))
    return m.b(torch.ops.aten.index_put(h, [MASK], torch.sin(h[0])))


def put_in_units_where_a_mask_says(m, x):
    h = torch.tanh(m.a(x))
    mask = torch.zeros(2, 4, 6, dtype=torch.bool)
    mask[:, :, 1:3] = True
    return m.b(torch.ops.aten.index_put(h, [mask], torch.tensor(0.5, dtype=h.dtype)))


def rows_in_a_row(m, x):
    h = torch.tanh(m.a(x))
    return m.b(h.masked_scatter(MASK[..., None].expand(2, 4, 6), torch.sin(h).flatten(0, 1)))


def sampled(m, x):
    h = torch.tanh(m.a(x))[:, None].permute(0, 3, 1, 2)
    grid = torch.linspace(-1, 1, 10, dtype=h.dtype).reshape(1, 1, 5, 2).expand(2, 1, 5, 2)
    found = nn.functional.grid_sample(h, grid, align_corners=False)
    return m.b(found[:, :, 0].mT)


def windows(m, x):
    return m.b(torch.tanh(m.a(x)).unfold(1, 2, 1)[..., 0])


def windows_over_units(m, x):
    return m.b(torch.tanh(m.a(x)).unfold(2, 1, 1)[..., 0])


def largest(m, x):
    h = torch.tanh(m.a(x))
    return m.b(h) * h.max(-1, keepdim=True).values


def place_of_the_largest(m, x):
    h = torch.tanh(m.a(x))
    return m.b(h) * h.max(-1, keepdim=True).indices


def place_of_the_largest_row(m, x):
    h = torch.tanh(m.a(x))
    return m.b(h + h.max(1, keepdim=True).indices)


CASES = {
    largest: [6],
    place_of_the_largest: [],
    place_of_the_largest_row: [6],
    scattered: [6],
    scattered_over_units: [],
    added: [6],
    put: [6],
    put_where_a_mask_says: [6],
    put_in_units_where_a_mask_says: [],
    rows_in_a_row: [6],
    sampled: [6],
    windows: [6],
    windows_over_units: [],
}


def inferred(run, rules=RULES):
    torch.manual_seed(0)
    network = Net(run, a=nn.Linear(5, 6), b=nn.Linear(6, 3))
    x = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(1))
    source = from_builder(lambda: (network, x), run.__name__, seed=0)
    return infer_spec(run_rules(source.graph, rules), "inferred", "test", source.runner)


@pytest.mark.parametrize("run", CASES, ids=lambda run: run.__name__)
def test_what_stands_beside_the_places_is_renumbered(run):
    found = inferred(run)
    assert sorted(group.size for group in found.layout.groups.values()) == CASES[run]
    assert not found.certificate.removed
    assert not found.certificate.unnoticed
    assert not found.layout.flow.unruled


def test_a_rule_that_lets_places_move_is_caught():
    def wrong(step):
        indices = step.indices(step.shape(step.node.inputs[0]))
        step.bind(step.node.inputs[0], indices)
        step.bind(step.node.outputs[0], indices)

    found = inferred(scattered_over_units, {**RULES, "aten.scatter": wrong})
    assert found.certificate.removed
    assert not found.layout.groups
