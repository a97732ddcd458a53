"""Energies by compiled code are those of NumPy, bit by bit."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from canonical_kinds import draw_weights, kinds, two

from rebasin_hub import machinecode
from rebasin_hub.canonical import energy, fused

pytest.importorskip("numba")


@pytest.fixture
def counted(monkeypatch) -> list[object]:
    """Compile for tensors of any size, and note what was compiled for."""
    found: list[object] = []

    def noting(*given):
        sums = fused.fused_marginals(*given)
        found.append(sums)
        return sums

    monkeypatch.setattr(machinecode, "WORTH", 0)
    monkeypatch.setattr(energy, "fused_marginals", noting)
    return found


def energies(binding, weights):
    return energy.unit_energies(binding.group, binding.tensors, weights.__getitem__)


def by_numpy(monkeypatch, binding, weights):
    with monkeypatch.context() as patch:
        patch.setattr(energy, "fused_marginals", lambda *_: None)
        return energies(binding, weights)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("name", kinds())
@pytest.mark.parametrize("values", ["normal", "strange"])
def test_every_kind_of_tensor(name, dtype, values, counted, monkeypatch) -> None:
    binding = kinds()[name]
    weights = {n: w.astype(dtype) for n, w in draw_weights(binding, 3, values).items()}
    found, expected = energies(binding, weights), by_numpy(monkeypatch, binding, weights)
    for permutation, own in expected.items():
        np.testing.assert_array_equal(found[permutation], own, strict=True)
    if values == "normal" and name == "heads":
        assert any(sums is not None for sums in counted)


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
@pytest.mark.parametrize("size", [1e-40, 1e-20, 1.0, 1e30])
def test_weights_of_any_size(dtype, size, counted, monkeypatch) -> None:
    drawn = np.random.default_rng(0).standard_normal((50, 3000)) * size
    binding, weights = two(drawn.astype(dtype))
    found, expected = energies(binding, weights), by_numpy(monkeypatch, binding, weights)
    assert counted[0] is not None
    for permutation, own in expected.items():
        np.testing.assert_array_equal(found[permutation], own, strict=True)


def test_what_is_not_compiled_for_is_left_to_numpy(counted) -> None:
    plain = np.ones((3, 4))
    for weights in (plain, plain.astype(np.float16), np.float32(plain) * np.inf):
        energies(*two(weights))
    assert all(sums is None for sums in counted)
