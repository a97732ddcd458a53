"""Frank-Wolfe: the line search is exact, the relaxed objective never falls, planted ones found."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from align_kinds import KINDS as ALL_KINDS
from align_kinds import bound, literal_objective, planted, random_weights
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_specs import cases

from rebasin_hub.align import align
from rebasin_hub.align.backend import select
from rebasin_hub.align.family import families
from rebasin_hub.align.frank_wolfe import FrankWolfeSettings, frank_wolfe
from rebasin_hub.align.frank_wolfe.line import Line
from rebasin_hub.align.frank_wolfe.relaxed import Relaxed
from rebasin_hub.align.frank_wolfe.search import Pair, ascend
from rebasin_hub.align.problem import read_problem
from rebasin_hub.align.watch import Watch
from rebasin_hub.bind import bind
from rebasin_hub.errors import InputError
from rebasin_hub.tensors import TensorInfo

GRID = np.linspace(0, 1, 401)
HELD = {"grouped", "llama", "deep", "tangled"}
"""Kinds with dependents of one parent that cross on a tensor."""


def gpt2(n=8, head=2, size=3):
    """Return attention whose heads hold two numberings, side by side on one axis."""
    text = """
name: gpt2-like
sizes: {head: n_head}
permutations:
  embed:
  head[layer]:
  qk[layer]: {within: head}
  vo[layer]: {within: head}
  ff[layer]:
tensors:
  tokens: vocab embed
  "{layer}.norm": embed
  "{layer}.attn": embed (head qk + head qk + head vo)
  "{layer}.proj": (head vo) embed
  "{layer}.up": embed ff
  "{layer}.down": ff embed
"""
    shapes = {"tokens": (5, n)}
    for layer in range(2):
        shapes |= {
            f"{layer}.norm": (n,),
            f"{layer}.attn": (n, 3 * head * size),
            f"{layer}.proj": (head * size, n),
            f"{layer}.up": (n, 2 * n),
            f"{layer}.down": (2 * n, n),
        }
    return bound(text, shapes, head=head)


def tangled(n=3):
    """Return two dependents that cross on one tensor, and a parent that stands twice on another."""
    text = """
name: tangled
sizes: {g: groups}
permutations:
  g:
  out: {within: g}
  in: {within: g}
tensors:
  mix: (g out) (g in)
  conv: (g out) in
"""
    return bound(text, {"mix": (12, 4 * n), "conv": (12, n)}, g=4)


KINDS = {**ALL_KINDS, "gpt2": gpt2, "tangled": tangled}


def pair(binding, a, b, element=None, device="cpu"):
    problem, blocks = read_problem(binding, a.__getitem__, b.__getitem__, select(device))
    element = element or binding.group.identity()
    model = Relaxed(problem, families(problem), blocks, element)
    return Pair(model, [term.a for term in problem.terms], problem.constant), model


def drawn(kind, seed, dtype="f8"):
    rng = np.random.default_rng(seed)
    binding = KINDS[kind]()
    a, b = (random_weights(binding, rng, dtype) for _ in range(2))
    return rng, binding, a, b


def at(pair, model, rows, soft, share):
    """Return the objective at a share of the way, from the point itself."""
    model.soft = model.space.between(soft, rows, share)
    return pair.value


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=5)
@given(seed=st.integers(0, 1000))
def test_at_an_element_the_relaxed_objective_is_the_objective(kind, seed):
    rng, binding, a, b = drawn(kind, seed)
    element = binding.group.random(rng)
    pairing, model = pair(binding, a, b, element)
    expected = literal_objective(binding, element, a, b.__getitem__)
    assert pairing.value == pytest.approx(expected, rel=1e-10, abs=1e-9)
    assert binding.group.equal(model.nearest(), element)


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(case=cases(), seed=st.integers(0, 1000))
def test_on_random_specs_an_element_is_as_good_soft_as_hard(case, seed):
    rng = np.random.default_rng(seed)
    header = {name: TensorInfo("F64", info.shape) for name, info in case.header.items()}
    binding = bind(case.spec, header)
    a, b = (random_weights(binding, rng, "f8") for _ in range(2))
    element = binding.group.random(rng)
    pairing, _ = pair(binding, a, b, element)
    expected = literal_objective(binding, element, a, b.__getitem__)
    assert pairing.value == pytest.approx(expected, rel=1e-9, abs=1e-8)
    after = pairing.advance()
    assert after >= expected - 1e-8
    assert after == pytest.approx(pairing.value, rel=1e-9, abs=1e-8)
    found = align(binding, a.__getitem__, b.__getitem__, method="frank-wolfe", restarts=1)
    assert found.objective >= found.start_objective


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3)
@given(seed=st.integers(0, 1000))
def test_the_line_is_the_objective_along_the_segment(kind, seed):
    rng, binding, a, b = drawn(kind, seed)
    pairing, model = pair(binding, a, b)
    soft = model.space.random(rng)
    model.soft = soft
    rows = model.space.rows(binding.group.random(rng))
    line = pairing.line(rows)
    scale = max(abs(line(share)) for share in GRID) + 1
    for share in np.linspace(0, 1, 9):
        assert line(share) == pytest.approx(at(pairing, model, rows, soft, share), abs=1e-9 * scale)


@given(
    st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=6), min_size=1, max_size=4),
    st.floats(-1, 1),
)
def test_no_point_of_a_dense_grid_is_better_than_the_best(mixtures, constant):
    line = Line.of(mixtures, constant)
    best = line.best()
    assert 0 <= best <= 1
    assert max(line(share) for share in GRID) <= line(best) + 1e-9
    for sums in mixtures:
        single, degree = Line.of([sums]), len(sums) - 1
        for t in (0.0, 0.3, 1.0):
            literal = sum(v * t**d * (1 - t) ** (degree - d) for d, v in enumerate(sums))
            assert single(t) == pytest.approx(literal, abs=1e-9)


def test_a_vanishing_leading_coefficient_does_not_hide_the_peak():
    assert Line.of([[1e-273, 1.0, 1.0, 0.0]]).best() == pytest.approx(0.5)
    assert Line.of([[0.0, 1.0, 1.0 + 1e-16, 0.0]]).best() == pytest.approx(0.5)


def test_the_best_of_a_line_lies_inside_where_the_objective_has_its_peak():
    assert Line.of([[0.0, 2.0, 0.0]]).best() == pytest.approx(0.5)
    assert Line.of([[1.0, 0.0]]).best() == 0
    assert Line.of([[0.0, 1.0]]).best() == 1
    assert Line.of([[3.0]]).best() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_vertex_is_the_best_element_for_the_gradient(kind):
    """Its slope is at least that of random elements, and of every one of its own neighbours."""
    rng, binding, a, b = drawn(kind, 3)
    pairing, model = pair(binding, a, b)
    soft = model.space.random(rng)
    model.soft = soft
    slope = lambda element: pairing.line(model.space.rows(element)).polynomial.deriv()(0.0)  # noqa: E731
    identity = binding.group.identity()
    best = slope(identity | model.vertex(list(pairing._targets)))
    rivals = [binding.group.random(rng) for _ in range(20)]
    assert all(slope(identity | rival) <= best + 1e-9 for rival in rivals)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", ["center", "random", "identity"])
def test_the_relaxed_objective_never_falls(kind, start):
    rng, binding, a, b = drawn(kind, 5)
    pairing, model = pair(binding, a, b)
    if start != "identity":
        model.soft = model.space.center() if start == "center" else model.space.random(rng)
    values, converged = ascend(
        pairing.advance, pairing.value, iterations=50, gain=1e-3, watch=Watch()
    )
    assert converged or len(values) == 51
    assert len(values) > 2
    assert all(after >= before - 1e-8 for before, after in itertools.pairwise(values))
    assert values[-1] == pytest.approx(pairing.value, rel=1e-9)


def test_held_families_step_only_where_that_is_a_gain():
    """The best step of the linearized objective may be a loss where a parent stands twice."""
    for seed in range(20):
        _, _, a, b = drawn("tangled", seed)
        pairing, _ = pair(tangled(), a, b)
        values = [pairing.value] + [pairing.advance() for _ in range(5)]
        assert all(after >= before - 1e-8 for before, after in itertools.pairwise(values))
        assert values[-1] == pytest.approx(pairing.value, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_soft_numberings_stay_in_the_hull(kind):
    """Rows and columns sum to one, and a dependent's blocks to its parent's entries."""
    rng, binding, a, b = drawn(kind, 7)
    pairing, model = pair(binding, a, b)
    model.soft = model.space.random(rng)
    for _ in range(3):
        pairing.advance()
    group = binding.group
    for name, matrix in model.soft.items():
        assert matrix.min() >= -1e-12
        assert np.allclose(matrix.sum(0), 1)
        assert np.allclose(matrix.sum(1), 1)
        parent, size = group.factors[name].parent, group.factors[name].size
        if parent is not None:
            units = group.units[parent]
            inner = matrix.reshape(units, size, units, size)
            above = np.broadcast_to(model.soft[parent][:, None, :], (units, size, units))
            assert np.allclose(inner.sum(3), above)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "tangled"])
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_element_is_found_from_the_center_alone(kind, seed):
    binding = KINDS[kind]()
    a, b, element = planted(binding, np.random.default_rng(seed))
    found = align(
        binding, a.__getitem__, b.__getitem__, method="frank-wolfe", restarts=1, seed=seed
    )
    assert binding.group.equal(found.element, element) or found.cosine > 1 - 1e-6
    assert found.converged
    crossing = [note for note in found.notes if "cross on a tensor" in note]
    assert bool(crossing) == (kind in HELD)


def test_noise_and_missing_ends_do_not_hide_a_planted_element():
    """Plain descent from the identity finds none of these."""
    found = 0
    for seed in range(5):
        binding = KINDS["residual"](20)
        a, b, element = planted(binding, np.random.default_rng(seed), noise=0.5)
        one = align(binding, a.__getitem__, b.__getitem__, method="frank-wolfe", restarts=1)
        found += binding.group.equal(one.element, element)
    assert found == 5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("polish", [True, False])
def test_the_result_is_never_below_its_start(kind, polish):
    _, binding, a, b = drawn(kind, 9, "f4")
    start = align(binding, a.__getitem__, b.__getitem__).element
    polished = "true" if polish else "false"
    method = f"frank-wolfe:iterations=2,starts=random,polish={polished}"
    for begin in (start, None):
        found = align(binding, a.__getitem__, b.__getitem__, method=method, restarts=1, start=begin)
        least = literal_objective(binding, begin or binding.group.identity(), a, b.__getitem__)
        assert found.objective >= least - 1e-4
        exact = literal_objective(binding, found.element, a, b.__getitem__)
        assert found.objective == pytest.approx(exact, rel=1e-5, abs=1e-3)


def test_frank_wolfe_comes_nearer_than_descent_from_the_same_number_of_starts():
    gains = []
    for seed in range(6):
        _, binding, a, b = drawn("residual", seed)
        reads = (a.__getitem__, b.__getitem__)
        joint = align(binding, *reads, method="frank-wolfe", restarts=1, seed=seed)
        gains.append(joint.objective - align(binding, *reads, restarts=1, seed=seed).objective)
    assert np.mean(gains) > 0


def test_the_same_seed_gives_the_same_element_and_torch_the_same_as_numpy():
    _, binding, a, b = drawn("residual", 11)
    reads = (a.__getitem__, b.__getitem__)
    one, two, other = (
        align(binding, *reads, method="frank-wolfe:starts=random", seed=3, device=device)
        for device in ("cpu", "cpu", "cpu:torch")
    )
    assert binding.group.equal(one.element, two.element)
    assert one.history == two.history
    assert binding.group.equal(one.element, other.element)


def test_models_of_two_types_are_multiplied_in_the_wider():
    _, binding, a, b = drawn("mlp", 12, "f4")
    a = {name: array.astype("f8" if "weight" in name else "f4") for name, array in a.items()}
    found = align(binding, a.__getitem__, b.__getitem__, method="frank-wolfe", device="cpu:torch")
    assert found.objective > found.start_objective


def test_a_time_limit_ends_it_with_what_there_is():
    _, binding, a, b = drawn("residual", 13)
    watch = Watch(seconds=0.0)
    found = align(
        binding, a.__getitem__, b.__getitem__, method="frank-wolfe", restarts=3, watch=watch
    )
    assert len(found.restarts) == 1
    assert not found.converged
    assert found.objective >= found.start_objective


def test_progress_and_the_best_so_far_are_told():
    steps = []
    watch = Watch(report=steps.append)
    _, binding, a, b = drawn("mlp", 14)
    found = align(
        binding, a.__getitem__, b.__getitem__, method="frank-wolfe", restarts=2, watch=watch
    )
    assert {step.unit for step in steps} == {"iteration", "sweep"}
    assert {step.restart for step in steps} == {0, 1}
    assert binding.group.equal(watch.best, found.element)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ({"starts": "center+nowhere"}, "'nowhere' is none of match, center"),
        ({"iterations": -1}, "must be 0 or more"),
        ({"tolerance": -1.0}, "must be 0 or more"),
    ],
)
def test_senseless_settings_are_refused(setting, said):
    with pytest.raises(InputError, match=said):
        FrankWolfeSettings(**setting)


def test_starts_take_their_turns():
    """With one start each, two of them are as good as the better one."""
    _, binding, a, b = drawn("residual", 15)

    def run(starts, restarts):
        def search(state, options):
            settings = FrankWolfeSettings(starts=starts)
            return frank_wolfe(state, replace(options, restarts=restarts, settings=settings))

        return align(binding, a.__getitem__, b.__getitem__, method=search)

    both = run("center+identity", 2)
    single = [run(name, 1) for name in ("center", "identity")]
    assert both.restarts == tuple(one.restarts[0] for one in single)
    assert both.objective == max(one.objective for one in single)
