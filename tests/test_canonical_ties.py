"""Canonical order where units are equal: dead, duplicated, or alike in more tangled ways."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from canonical_kinds import (
    LSTM,
    Weights,
    bound,
    canonical_bytes,
    check_law,
    draw_weights,
    kinds,
    renumbered,
    two,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rebasin_hub.bind import Binding
from rebasin_hub.canonical import canonical as module
from rebasin_hub.canonical import canonical_order
from rebasin_hub.canonical.refine import Refiner

ALL = kinds()
HEADS = ALL["heads"]
GRAPH = """
name: graph
permutations:
  unit:
tensors:
  weight: unit unit
"""


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("values", ["zeros", "sparse"])
def test_ties_of_every_kind_are_broken_alike(name: str, values: str) -> None:
    binding = ALL[name]
    found = check_law(binding, draw_weights(binding, 5, values), range(1))
    assert found.exact
    if values == "zeros":
        assert found.tied_units > 0


def symmetric_weights(binding: Binding, seed: int) -> Weights:
    """Return few ones among zeros, and their images under the powers of a random element."""
    rng = np.random.default_rng(seed)
    share = rng.random() ** 2
    weights = {
        name: (rng.random(info.shape) < share).astype("f4") for name, info in binding.header.items()
    }
    element, image = binding.group.random(rng), weights
    for _ in range(6):
        image = renumbered(binding, element, image)
        weights = {name: np.maximum(own, image[name]) for name, own in weights.items()}
    return weights


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=5)
@given(seed=st.integers(0, 2**32))
def test_symmetric_weights_have_one_order(name: str, seed: int) -> None:
    binding = ALL[name]
    assert check_law(binding, symmetric_weights(binding, seed), range(1)).exact


@pytest.mark.parametrize("seed", [8, 17, 26])
def test_parents_with_open_ties_inside_are_not_settled(seed: int) -> None:
    """Whether such parents look interchangeable depends on how their children are stored."""
    binding = ALL["grouped"]
    assert check_law(binding, symmetric_weights(binding, seed), range(2)).exact


@pytest.mark.parametrize("copies", [2, 5])
def test_duplicated_units_are_interchangeable(copies: int) -> None:
    distinct = np.random.default_rng(0).normal(size=(3, 8)).astype("f4")
    found = check_law(*two(np.repeat(distinct, copies, axis=0)))
    assert (found.exact, found.tied_units) == (True, 3 * copies)


def test_dead_units_are_settled_without_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_budget", lambda _: 0)
    binding = bound(LSTM, {"ih": (160, 3), "hh": (160, 40), "bias": (160,)})
    weights = draw_weights(binding, 0, "normal")
    weights["ih"].reshape(4, 40, -1)[:, 10:] = 0
    weights["bias"].reshape(4, 40)[:, 10:] = 0
    gates = weights["hh"].reshape(4, 40, 40)
    gates[:, 10:] = gates[:, :, 10:] = 0
    found = check_law(binding, weights)
    assert (found.exact, found.tied_units) == (True, 30)


def test_coupled_ties_are_resolved_together() -> None:
    found = check_law(*two(np.float32([[1, 2], [2, 1]])), range(8))
    assert (found.exact, found.tied_units) == (True, 4)


@pytest.mark.parametrize("size", [5, 9])
def test_symmetries_prune_the_search(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of size! equal branches one is tried at each depth, and one for each new symmetry."""
    monkeypatch.setattr(module, "_budget", lambda _: size * (size + 1) // 2)
    found = check_law(*two(np.eye(size, dtype="f4")))
    assert (found.exact, found.tied_units) == (True, 2 * size)


def cycles(*lengths: int) -> np.ndarray:
    """Return the adjacency matrix of disjoint cycles, a regular graph."""
    weight = np.zeros((sum(lengths),) * 2, dtype="f4")
    start = 0
    for length in lengths:
        for i in range(length):
            j = (i + 1) % length
            weight[start + i, start + j] = weight[start + j, start + i] = 1
        start += length
    return weight


@pytest.mark.parametrize("lengths", [(3, 3, 6), (6, 3, 3), (3, 4, 5), (8,), (4, 4, 4)])
def test_regular_graphs_that_refinement_cannot_tell_apart(lengths: tuple[int, ...]) -> None:
    binding = bound(GRAPH, {"weight": (sum(lengths),) * 2})
    found = check_law(binding, {"weight": cycles(*lengths)}, range(6))
    assert (found.exact, found.tied_units) == (True, sum(lengths))


def test_graphs_that_refinement_confuses_differ() -> None:
    binding = bound(GRAPH, {"weight": (6, 6)})
    triangles, _ = canonical_bytes(binding, {"weight": cycles(3, 3)})
    hexagon, _ = canonical_bytes(binding, {"weight": cycles(6)})
    assert triangles != hexagon


@settings(max_examples=25)
@given(seed=st.integers(0, 2**32), size=st.integers(2, 7), density=st.floats(0.1, 0.9))
def test_random_graphs_have_one_order(seed: int, size: int, density: float) -> None:
    rng = np.random.default_rng(seed)
    binding = bound(GRAPH, {"weight": (size, size)})
    weight = (rng.random((size, size)) < density).astype("f4")
    assert check_law(binding, {"weight": weight}, range(2)).exact


def heads_alike(binding: Binding, seed: int) -> Weights:
    """Make all heads the same up to the numbering inside them, with duplicates inside too."""
    weights = draw_weights(binding, seed, "normal")
    e, h, d = 6, 3, 4
    for name in ("attn", "bias"):
        block = weights[name].reshape(-1, 3, h, d)
        block[:] = block[:, :, :1]
        block[..., 1] = block[..., 0]
    proj = weights["proj"].reshape(h, d, e)
    proj[:] = proj[:1]
    proj[:, 1] = proj[:, 0]
    return weights


def test_identical_heads_with_identical_values_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_budget", lambda _: 0)
    found = check_law(HEADS, heads_alike(HEADS, 3), range(6))
    assert (found.exact, found.tied_units) == (True, 3 + 3 * 2 + 3 * 2)


def test_one_dead_value_in_each_head_is_no_tie() -> None:
    weights = draw_weights(HEADS, 0, "normal")
    weights["attn"].reshape(6, 3, 3, 4)[:, 2, :, 1] = 0
    weights["bias"].reshape(3, 3, 4)[2, :, 1] = 0
    weights["proj"].reshape(3, 4, 6)[:, 1] = 0
    found = check_law(HEADS, weights)
    assert (found.passes, found.tied_units) == (0, 0)


def test_heads_alike_but_for_a_coupling_inside() -> None:
    """Heads whose inner ties are coupled to the stream, so that no tie is a simple one."""
    weights = {name: np.zeros(info.shape, "f4") for name, info in HEADS.header.items()}
    values = weights["attn"].reshape(6, 3, 3, 4)[:, 2]
    for head in range(3):
        values[2 * head, head, :2] = values[2 * head + 1, head, 2:] = 1
    found = check_law(HEADS, weights, range(6))
    assert found.exact
    assert found.tied_units > 0


@pytest.mark.parametrize("dead", [(0, 1), (0, 1, 2)])
def test_identical_experts(dead: tuple[int, ...]) -> None:
    binding = ALL["experts"]
    weights = draw_weights(binding, 4, "normal")
    for expert in dead[1:]:
        order = np.random.default_rng(expert).permutation(5)
        weights[f"0.experts.{expert}.w1"] = weights["0.experts.0.w1"][order]
        weights[f"0.experts.{expert}.w2"] = weights["0.experts.0.w2"][:, order]
        weights["0.router"][expert] = weights["0.router"][0]
    found = check_law(binding, weights, range(4))
    assert (found.exact, found.tied_units) == (True, len(dead))


@pytest.mark.parametrize("budget", [0, 1, 3, 10, 11, 12, 13])
@pytest.mark.parametrize("weight", [cycles(3, 4, 7), np.eye(300, dtype="f4")])
def test_too_many_ties_are_admitted_within_the_budget(
    weight: np.ndarray, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_budget", lambda _: budget)
    refined: list[object] = []
    refine = Refiner.refine

    def counted(*given: Any) -> dict[str, np.ndarray]:
        refined.append(given)
        return refine(*given)

    monkeypatch.setattr(Refiner, "refine", counted)
    binding, weights = two(weight)
    found = canonical_order(binding, weights.__getitem__)
    binding.group.check(found.element)
    assert not found.exact
    assert len(refined) <= 1 + budget


def test_collisions_of_colours_cost_time_not_correctness(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a hash that sees nothing the search alone finds the order."""
    monkeypatch.setattr(Refiner, "refine", lambda *given: dict(given[1]))
    monkeypatch.setattr(
        module,
        "unit_energies",
        lambda group, *_: {name: np.zeros(group.shape(name)) for name in group.factors},
    )
    weight = np.random.default_rng(0).integers(0, 3, size=(3, 3)).astype("f4")
    assert check_law(*two(weight), range(5)).exact
