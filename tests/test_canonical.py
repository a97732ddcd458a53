"""Canonical order: one numbering for every renumbered copy, ties and all."""

from __future__ import annotations

import numpy as np
import pytest
from canonical_kinds import (
    Weights,
    bound,
    check_law,
    draw_weights,
    kinds,
    renumbered,
    two,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from rebasin_hub.bind import Binding
from rebasin_hub.canonical import canonical_order
from rebasin_hub.canonical.energy import unit_energies
from rebasin_hub.tensors import DTYPES

ALL = kinds()
HEADS = ALL["heads"]


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32), values=st.sampled_from(["normal", "signs", "strange"]))
def test_renumbered_copies_of_every_kind_have_one_order(name: str, seed: int, values: str) -> None:
    binding = ALL[name]
    found = check_law(binding, draw_weights(binding, seed, values), range(1))
    assert found.exact


@pytest.mark.parametrize("name", ALL)
def test_normal_weights_need_no_refinement(name: str) -> None:
    binding = ALL[name]
    reads: list[str] = []
    weights = draw_weights(binding, 1, "normal")

    def read(stored: str) -> np.ndarray:
        reads.append(stored)
        return weights[stored]

    found = canonical_order(binding, read)
    assert (found.passes, found.tied_units, found.exact) == (0, 0, True)
    # A tensor that a permutation spreads over names is read twice, to find its common scale.
    assert all(reads.count(s) <= 1 + (binding.of_name[s].names.size > 1) for s in reads)


def test_largest_units_come_first() -> None:
    binding, weights = two(np.float32([[1, 0, 0], [0, 0, 9], [0, -3, 0], [2, 0, 0]]))
    element = canonical_order(binding, weights.__getitem__).element
    assert element["row"].tolist() == [1, 2, 3, 0]
    assert element["column"].tolist() == [2, 1, 0]


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_energies_do_not_depend_on_the_numbering_by_a_single_bit(dtype: str) -> None:
    rng = np.random.default_rng(0)
    binding, weights = two(rng.uniform(0.5, 1, size=(30, 5000)).astype(dtype))
    element = binding.group.random(rng)
    copy = renumbered(binding, element, weights)
    before, after = (
        unit_energies(binding.group, binding.tensors, w.__getitem__) for w in (weights, copy)
    )
    for name, energy in before.items():
        assert np.array_equal(energy[element[name]], after[name])


@pytest.mark.parametrize("name", ALL)
def test_energies_are_sums_of_squares(name: str) -> None:
    binding = ALL[name]
    weights = draw_weights(binding, 2, "normal")
    counted = [tensor for tensor in binding.tensors if not tensor.statistic]
    energies = unit_energies(binding.group, counted, weights.__getitem__)
    for permutation, energy in energies.items():
        expected = np.zeros(energy.shape)
        for tensor in counted:
            whole = np.square(tensor.stack(weights.__getitem__).astype("f8"))
            for block in tensor.blocks:
                for n, atom in enumerate(block.atoms):
                    if atom.permutation == permutation:
                        axes = [n]
                        while (parent := block.parents[axes[0]]) is not None:
                            axes.insert(0, parent)
                        kept = np.moveaxis(block.of(whole), axes, range(len(axes)))
                        expected += kept.reshape(*energy.shape, -1).sum(axis=-1)
        np.testing.assert_allclose(energy, expected, rtol=1e-5)


def test_dependent_units_are_sorted_inside_their_parent() -> None:
    weights = draw_weights(HEADS, 2, "normal")
    found = canonical_order(HEADS, weights.__getitem__)
    ordered = renumbered(HEADS, found.element, weights)
    value = np.square(ordered["attn"][:, 24:].astype("f8")).sum(axis=0)
    value += np.square(ordered["bias"][24:].astype("f8"))
    value += np.square(ordered["proj"].astype("f8")).sum(axis=1)
    assert (np.diff(value.reshape(3, 4), axis=1) < 0).all()


def test_statistics_do_not_count_but_decide_ties() -> None:
    text = (
        "name: s\npermutations:\n  unit:\n"
        "tensors:\n  up: unit x\n  down: y unit\n"
        "statistics:\n  mean: unit\n"
    )
    binding = bound(text, {"up": (3, 1), "down": (1, 3), "mean": (3,)})
    weights: Weights = {
        "up": np.float32([[1], [1], [2]]),
        "down": np.float32([[0, 0, 0]]),
        "mean": np.float32([7, 8, 0]),
    }
    found = check_law(binding, weights)
    assert found.element["unit"][0] == 2
    assert found.tied_units == 0


def test_skipped_names_do_not_count() -> None:
    text = "name: t\npermutations:\n  unit:\ntensors:\n  a: unit x\n  b: y unit\n  c?: unit x\n"
    a = np.random.default_rng(0).normal(size=(6, 3)).astype("f4")
    weights: Weights = {"a": a, "b": np.zeros((1, 6), "f4"), "c": a[::-1] * 2}
    both = bound(text, {"a": (6, 3), "b": (1, 6), "c": (6, 3)})
    alone = bound(text, {"a": (6, 3), "b": (1, 6)})

    def order(binding: Binding, *skip: str) -> list[int]:
        return canonical_order(binding, weights.__getitem__, skip=skip).element["unit"].tolist()

    assert order(both, "c") == order(alone)
    assert order(both) != order(alone)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_has_one_order(dtype: str) -> None:
    kind = DTYPES[dtype]
    patterns = 2 if dtype == "BOOL" else 1 << min(kind.bits, 8)
    shape = (24, 16 * kind.numpy.itemsize)
    raw = np.random.default_rng(0).integers(0, patterns, shape, dtype=np.uint8)
    assert check_law(*two(raw.view(kind.numpy))).exact


@pytest.mark.parametrize("scale", [5e-324, 1e-310, 1e300, np.finfo("f8").max / 12])
def test_magnitudes_at_the_ends_of_the_range(scale: float) -> None:
    found = check_law(*two(scale * np.arange(12.0).reshape(4, 3)))
    assert found.tied_units == 0


def test_the_order_never_changes() -> None:
    """Published digests hang on it: ties by size are ordered by the hash, and by nothing else."""
    signs = [[1, 1, 1, -1, 1], [1, -1, -1, 1, 1], [-1, 1, 1, 1, 1], [-1, -1, 1, -1, 1]]
    binding, weights = two(np.float32(signs))
    element = canonical_order(binding, weights.__getitem__).element
    assert {name: index.tolist() for name, index in element.items()} == {
        "row": [3, 2, 0, 1],
        "column": [2, 0, 3, 1, 4],
    }
