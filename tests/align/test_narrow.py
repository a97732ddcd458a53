"""Blocks that stay as they are stored: products in float32, exact to its rounding."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from align_kinds import KINDS, llama, mlp, random_weights

from rebasin_hub.align import METHODS, align, narrow, nearest, totals
from rebasin_hub.align.backend import narrowed, select
from rebasin_hub.align.family import families
from rebasin_hub.align.problem import read_problem
from rebasin_hub.align.state import State
from rebasin_hub.align.totals import Totals
from rebasin_hub.bind import Binding
from rebasin_hub.rearrange import rearranged

torch = pytest.importorskip("torch")

DTYPES = {"bfloat16": ml_dtypes.bfloat16, "float16": np.float16}
STREAMING = [name for name, method in METHODS.items() if method.streams]


@pytest.fixture
def capable(monkeypatch):
    """Let the CPU do what CUDA does; return the types that were multiplied."""
    seen: list[torch.dtype] = []

    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert a.dtype == b.dtype
        seen.append(a.dtype)
        return a.float() @ b.float().T

    monkeypatch.setattr(narrow, "product", product)
    monkeypatch.setattr(narrow, "is_exact", lambda device: device == "cpu")
    return seen


def weights(binding: Binding, seed: int, dtype: str) -> dict[str, np.ndarray]:
    made = random_weights(binding, np.random.default_rng(seed), "f8")
    return {name: array.astype(DTYPES[dtype]) for name, array in made.items()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_result_is_that_of_wide_blocks(kind, dtype, capable):
    binding = KINDS[kind]()
    a, b = weights(binding, 0, dtype), weights(binding, 1, dtype)

    wide = align(binding, a.__getitem__, b.__getitem__, device="cpu", restarts=4)
    found = align(binding, a.__getitem__, b.__getitem__, device="cpu:torch", restarts=4)

    assert set(capable) == {getattr(torch, dtype)}
    assert binding.group.equal(found.element, wide.element)
    assert found.objective == pytest.approx(wide.objective, rel=1e-12)


@pytest.mark.parametrize("method", STREAMING)
def test_what_is_held_changes_no_bit(method, capable):
    for binding in (mlp(20), llama()):
        a, b = weights(binding, 0, "bfloat16"), weights(binding, 1, "bfloat16")
        whole, part = (
            align(
                binding,
                a.__getitem__,
                b.__getitem__,
                method=method,
                device="cpu:torch",
                memory=memory,
            )
            for memory in (None, 0)
        )
        assert binding.group.equal(whole.element, part.element)
        assert whole.objective == part.objective
    assert capable or method in {"identity", "random"}


def test_kept_matrices_follow_in_float32(capable):
    binding = mlp(12)
    a, b = weights(binding, 0, "bfloat16"), weights(binding, 1, "bfloat16")
    backend = narrowed(select("cpu:torch"))
    at = State(*read_problem(binding, a.__getitem__, b.__getitem__, backend))
    assert {at.block(n).dtype for n in range(len(at.problem.terms))} == {torch.bfloat16}
    rng = np.random.default_rng(0)
    members = [family for family in families(at.problem) if Totals.fit(family)]
    exact = State(*read_problem(binding, a.__getitem__, b.__getitem__, select("cpu")))
    for _ in range(3):
        for mover in members:
            element = mover.group.random(rng)
            at.step(mover, element)
            exact.step(mover, element)
            for family in members:
                at.matched(family)
                exact.matched(family)
                found, expected = (
                    s.problem.backend.numpy(s._totals._matrices.get(family.root))
                    for s in (at, exact)
                )
                assert found.dtype == np.float32
                np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())
    assert set(capable) == {torch.bfloat16}


def test_room_is_left_for_matrices_in_float32(capable, monkeypatch):
    binding = mlp(12)
    a, b = weights(binding, 0, "bfloat16"), weights(binding, 1, "bfloat16")
    problem, _ = read_problem(binding, a.__getitem__, b.__getitem__, narrowed(select("cpu:torch")))
    weigh = 2 * sum(x.size for x in a.values())
    matrices = 4 * sum(factor.size**2 for factor in binding.group.factors.values())
    monkeypatch.setattr(totals, "LEAST_ROOM", matrices + 48)
    assert weigh < matrices
    kept = Totals(problem)
    assert kept._fits(torch.zeros(24, dtype=torch.bfloat16))
    assert not kept._fits(torch.zeros(1, dtype=torch.bfloat16))


def test_other_types_and_other_methods_have_wide_blocks(capable):
    binding = mlp()
    a, b = weights(binding, 0, "bfloat16"), weights(binding, 1, "float16")
    align(binding, a.__getitem__, b.__getitem__, device="cpu:torch")
    b = weights(binding, 1, "bfloat16")
    align(binding, a.__getitem__, b.__getitem__, device="cpu:torch", method="frank-wolfe")
    assert not capable


def test_a_device_that_loses_something_is_not_trusted(monkeypatch):
    assert not narrow.is_exact("None")
    assert not narrow.is_exact("cpu")  # torch rounds the result of a CPU's narrow product
    real = torch.asarray
    monkeypatch.setattr(torch, "asarray", lambda x, device: real(x, device=device and "cpu"))

    def on_cpu(device: str) -> bool:
        narrow.is_exact.cache_clear()
        return narrow.is_exact(device)

    monkeypatch.setattr(narrow, "product", lambda a, b: a.float() @ b.float().T)
    assert on_cpu("cuda")
    monkeypatch.setattr(narrow, "product", lambda a, b: (a @ b.T).float())
    assert not on_cpu("cuda")

    def missing(a, b):
        raise TypeError("mm() got an unexpected keyword argument 'out_dtype'")

    monkeypatch.setattr(narrow, "product", missing)
    assert not on_cpu("cuda")
    narrow.is_exact.cache_clear()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_cuda_multiplies_narrow_blocks_as_the_cpu_does_wide_ones(dtype):
    assert narrow.is_exact("cuda")
    binding = mlp(300)
    a, b = weights(binding, 0, dtype), weights(binding, 1, dtype)

    wide = align(binding, a.__getitem__, b.__getitem__, device="cpu")
    found = align(binding, a.__getitem__, b.__getitem__, device="cuda")
    part = align(binding, a.__getitem__, b.__getitem__, device="cuda", memory=0)

    assert binding.group.equal(found.element, wide.element)
    assert binding.group.equal(part.element, found.element)
    assert found.objective == pytest.approx(wide.objective, rel=1e-12)


def test_units_that_are_near_are_found_among_narrow_blocks(capable, monkeypatch):
    monkeypatch.setattr(nearest, "LEAST_UNITS", 8)
    monkeypatch.setattr(nearest, "PROBED_WIDTH", 64)
    monkeypatch.setattr(nearest, "LEAST_SAVED", 1)
    monkeypatch.setattr(Totals, "_made", None)  # for no product of all pairs is needed
    binding, rng = mlp(600), np.random.default_rng(0)
    a, element = random_weights(binding, rng), binding.group.random(rng)
    read = rearranged(binding, binding.group.invert(element), a.__getitem__)
    noise = {n: 0.01 * rng.standard_normal(x.shape) for n, x in a.items()}
    stored = [
        {n: x.astype(ml_dtypes.bfloat16) for n, x in model.items()}
        for model in (a, {n: read(n) + noise[n] for n in a})
    ]

    found = align(
        binding,
        *(model.__getitem__ for model in stored),
        start=element,
        restarts=1,
        device="cpu:torch",
    )

    assert binding.group.equal(found.element, element)
