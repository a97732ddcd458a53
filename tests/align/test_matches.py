"""Cosines of matched units."""

from __future__ import annotations

import numpy as np
import pytest
from align_kinds import KINDS, random_weights
from numpy.testing import assert_allclose

from rebasin_hub.align.matches import match_cosines
from rebasin_hub.rearrange import rearranged


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_matches_itself_whatever_the_numbering(kind):
    binding = KINDS[kind]()
    weights = random_weights(binding, np.random.default_rng(0))
    p = binding.group.random(np.random.default_rng(1))
    moved = rearranged(binding, p, weights.__getitem__)
    back = rearranged(binding, binding.group.invert(p), moved)
    found = match_cosines(binding, weights.__getitem__, back)
    assert {name: x.shape for name, x in found.items()} == {
        name: binding.group.shape(name) for name in binding.group.factors
    }
    for cosines in found.values():
        assert_allclose(cosines, 1.0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_cosines_move_with_the_units(kind):
    binding = KINDS[kind]()
    a, b = (random_weights(binding, np.random.default_rng(seed)) for seed in (0, 1))
    p = binding.group.random(np.random.default_rng(2))
    there = match_cosines(binding, *(rearranged(binding, p, x.__getitem__) for x in (a, b)))
    plain = match_cosines(binding, a.__getitem__, b.__getitem__)
    for name, cosines in plain.items():
        assert np.abs(cosines).max() < 0.999  # another model is no copy
        sources = binding.group.sources(p, name)
        assert_allclose(there[name], cosines[sources], rtol=0, atol=1e-12)


def test_a_units_weights_are_its_row_its_bias_and_its_column():
    binding = KINDS["mlp"]()
    a, b = (random_weights(binding, np.random.default_rng(seed)) for seed in (0, 1))
    touching = [
        np.concatenate([w["0.weight"], w["0.bias"][:, None], w["2.weight"].T], axis=1).astype(float)
        for w in (a, b)
    ]
    x, y = (t / np.linalg.norm(t, axis=1, keepdims=True) for t in touching)
    found = match_cosines(binding, a.__getitem__, b.__getitem__)
    assert_allclose(found["hidden[0]"], (x * y).sum(axis=1), rtol=0, atol=1e-12)


def test_a_dead_unit_has_no_cosine():
    binding = KINDS["mlp"]()
    a, b = (random_weights(binding, np.random.default_rng(seed)) for seed in (0, 1))
    for name, where in (("0.weight", 3), ("0.bias", 3), ("2.weight", (slice(None), 3))):
        b[name][where] = 0
    found = match_cosines(binding, a.__getitem__, b.__getitem__)
    assert np.flatnonzero(np.isnan(found["hidden[0]"])).tolist() == [3]
