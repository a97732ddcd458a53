"""Similarities that are kept from one update to the next, and blocks that change in place."""

from __future__ import annotations

import numpy as np
import pytest
from align_kinds import KINDS, mlp, random_weights, residual

from rebasin_hub.align import align, state, totals, weight
from rebasin_hub.align.backend import select
from rebasin_hub.align.family import Family, families, operand
from rebasin_hub.align.problem import read_problem
from rebasin_hub.align.state import State
from rebasin_hub.assign import solve_assignment
from rebasin_hub.bind import Binding
from rebasin_hub.errors import NotFiniteError
from rebasin_hub.permute import Index

SIZE = 12


def make_state(
    binding: Binding, seed: int = 0, dtype: str = "f8", device: str = "cpu"
) -> tuple[State, tuple[Family, ...]]:
    rng = np.random.default_rng(seed)
    a, b = (random_weights(binding, rng, dtype) for _ in range(2))
    made = State(*read_problem(binding, a.__getitem__, b.__getitem__, select(device)))
    return made, families(made.problem)


def few(family: Family, rng: np.random.Generator) -> dict[str, Index]:
    """Return a step that swaps two units, and renumbers the dependents of one."""
    step = family.group.identity()
    root = step[family.root]
    i, k = rng.choice(len(root), 2, replace=False)
    root[[i, k]] = root[[k, i]]
    for name, index in step.items():
        if name != family.root:
            index[i] = rng.permuted(index[i], axis=-1)
    return step


def literal(at: State, family: Family) -> np.ndarray:
    """Return a family's similarity, computed as a whole."""
    backend = at.problem.backend
    return sum(
        operand(backend, at.problem.terms[view.term].a, view)
        @ operand(backend, at.block(view.term), view).T
        for view in family.views
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", ["cpu", "cpu:torch"])
def test_kept_similarities_follow_every_step(kind, device):
    if device != "cpu":
        pytest.importorskip("torch")
    at, members = make_state(KINDS[kind](), device=device)
    rng = np.random.default_rng(1)
    fit = [family for family in members if totals.Totals.fit(family)]
    for _ in range(2):
        for mover in members:
            at.step(mover, few(mover, rng) if rng.random() < 0.7 else mover.group.random(rng))
            for family in fit:
                found = at.matched(family)[family.root]
                backend, matrix = at.problem.backend, at._totals._matrices.get(family.root)
                expected = np.asarray(literal(at, family))
                np.testing.assert_allclose(
                    backend.numpy(matrix), expected, atol=1e-10 * np.abs(expected).max()
                )
                best = solve_assignment(expected)
                assert expected[np.arange(len(found)), found].sum() == pytest.approx(best.value)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_of_few_units_go_where_jumps_go(kind):
    binding = KINDS[kind](9)
    at, members = make_state(binding, dtype="f4")
    fresh, _ = make_state(binding, dtype="f4")
    rng = np.random.default_rng(2)
    for family in members * 3:
        at.step(family, few(family, rng))

    fresh.jump(at.element)

    for one, other in zip(at.b, fresh.b, strict=True):
        np.testing.assert_array_equal(one, other)
    assert at.objective == fresh.objective


def test_weights_and_blocks_that_others_hold_never_change():
    binding = residual(SIZE)
    rng = np.random.default_rng(0)
    a, b = random_weights(binding, rng), random_weights(binding, rng)
    before = {name: array.copy() for name, array in b.items()}
    for array in b.values():
        array.flags.writeable = False
    at = State(*read_problem(binding, a.__getitem__, b.__getitem__, select("cpu")))
    members = families(at.problem)

    at.step(members[0], few(members[0], rng))
    held = list(at.b)
    copies = [block.copy() for block in held]
    for family in members:
        at.step(family, few(family, rng))

    for name, array in before.items():
        np.testing.assert_array_equal(b[name], array)
    for block, copy in zip(held, copies, strict=True):
        np.testing.assert_array_equal(block, copy)
    assert any((x != y).any() for x, y in zip(held, at.b, strict=True))


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_a_descent_ends_where_no_similarity_that_is_computed_anew_gains(dtype):
    at, members = make_state(mlp(40), dtype=dtype)

    found = weight.descend(at, members, np.random.default_rng(0), max_sweeps=100)

    assert found.converged
    assert len(found.history) > 3
    at._totals.clear()
    assert not any(weight.update(at, family) for family in members)


def test_differences_are_no_wider_in_sum_than_what_they_add_to():
    at, members = make_state(mlp(40))
    rng = np.random.default_rng(0)
    at.matched(members[1])
    total = at._totals._known[members[1].root]
    assert total.width == 40 + 1 + 40  # its inputs, its bias, its outputs

    for steps in range(1, 400):
        at.step(members[0], few(members[0], rng))
        if not total.width:
            break
        assert total.added == 2 * steps <= totals.WIDER * total.width
    assert steps == totals.WIDER * 81 // 2 + 1


@pytest.mark.parametrize("kind", KINDS)
def test_memory_does_not_decide_what_is_found(kind, monkeypatch):
    binding = KINDS[kind]()
    rng = np.random.default_rng(3)
    a, b = (random_weights(binding, rng, "f8") for _ in range(2))
    usual = align(binding, a.__getitem__, b.__getitem__)
    monkeypatch.setattr(totals.Totals, "_keep", lambda *_: False)
    monkeypatch.setattr(state, "LITTLE", 0)

    found = align(binding, a.__getitem__, b.__getitem__)

    assert binding.group.equal(found.element, usual.element)
    assert found.objective == usual.objective


def test_no_more_is_kept_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(totals, "LEAST_ROOM", 0)
    at, members = make_state(mlp(40))
    at._totals._left = 2 * 41 * 41 * 8
    for family in members:
        at.matched(family)

    kept = [total.kept for total in at._totals._known.values()]
    assert kept == [True, True, False]


def test_products_that_overflow_are_refused():
    binding = mlp()
    rng = np.random.default_rng(0)
    a, b = random_weights(binding, rng), random_weights(binding, rng)
    a, b = ({n: np.float32(1e25) * x for n, x in model.items()} for model in (a, b))

    with (
        np.errstate(over="ignore", invalid="ignore"),
        pytest.raises(NotFiniteError, match="overflow float32"),
    ):
        align(binding, a.__getitem__, b.__getitem__, start=binding.group.identity(), restarts=1)
