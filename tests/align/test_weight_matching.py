"""Coordinate descent as a whole: its laws, on every kind of permutation."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from align_kinds import KINDS, bound, literal_objective, mlp, planted, random_weights, residual
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from rebasin_hub.align import Progress, State, Watch, align
from rebasin_hub.align.backend import select
from rebasin_hub.align.family import families
from rebasin_hub.align.problem import read_problem
from rebasin_hub.align.weight import descend
from rebasin_hub.errors import InputError, NotFiniteError, PermutationError
from rebasin_hub.rearrange import rearranged

kinds = pytest.mark.parametrize("kind", KINDS)


@given(
    kind=st.sampled_from(sorted(KINDS)),
    size=st.integers(2, 6),
    seed=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([1e-6, 1.0, 1e6]),
)
@settings(max_examples=60)
def test_the_objective_never_falls_and_is_the_true_one(kind, size, seed, scale):
    binding = KINDS[kind](size)
    rng = np.random.default_rng(seed)
    a, b = random_weights(binding, rng), random_weights(binding, rng)
    b = {name: (scale * array).astype(np.float32) for name, array in b.items()}
    events: list[Progress] = []

    found = align(
        binding, a.__getitem__, b.__getitem__, seed=seed, watch=Watch(report=events.append)
    )

    binding.group.check(found.element)
    for restart in range(3):
        objectives = [event.objective for event in events if event.restart == restart]
        assert objectives == sorted(objectives)
    assert list(found.history) == sorted(found.history)
    assert found.objective == max(found.restarts) == found.history[-1] >= found.start_objective
    true = literal_objective(binding, found.element, a, b.__getitem__)
    at_identity = literal_objective(binding, binding.group.identity(), a, b.__getitem__)
    tolerance = 1e-10 * found.norm_a * found.norm_b
    assert found.objective == pytest.approx(true, abs=tolerance)
    assert found.start_objective == pytest.approx(at_identity, abs=tolerance)
    assert found.converged


@kinds
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_a_planted_renumbering_is_found(kind, noise):
    binding = KINDS[kind]()
    for seed in range(3):
        a, b, element = planted(binding, np.random.default_rng(seed), noise)

        found = align(binding, a.__getitem__, b.__getitem__)

        assert binding.group.equal(found.element, element)
        read = rearranged(binding, found.element, b.__getitem__)
        for name, array in a.items():
            np.testing.assert_allclose(read(name), array, atol=6 * noise)


def test_without_fixed_ends_the_identity_is_no_good_start():
    """The start by sorted features is what finds a planted renumbering of a residual network."""
    recovered = {"weight": 0, "from the identity": 0}
    for seed in range(10):
        binding = residual(12)
        a, b, element = planted(binding, np.random.default_rng(seed))
        found = align(binding, a.__getitem__, b.__getitem__, restarts=1)
        identity = binding.group.identity()
        other = align(binding, a.__getitem__, b.__getitem__, restarts=1, start=identity)
        recovered["weight"] += binding.group.equal(found.element, element)
        recovered["from the identity"] += binding.group.equal(other.element, element)

    assert recovered["weight"] == 10
    assert recovered["from the identity"] < 5


def literal_weight_matching(a, b, order):
    """Match an MLP as algorithm 1 of the paper is written, from the identity; the objectives."""
    names = ["0", "2", "5", "7"]
    hidden = names[:-1]
    p = {name: np.arange(len(b[f"{name}.weight"])) for name in hidden}

    def incoming(name):
        weight = b[f"{name}.weight"].astype("f8")
        before = names.index(name) - 1
        return weight[:, p[names[before]]] if before >= 0 else weight

    def objective():
        total = np.vdot(a["7.weight"], incoming("7"))
        for name in hidden:
            total += np.vdot(a[f"{name}.weight"], incoming(name)[p[name]])
            if f"{name}.bias" in a:
                total += a[f"{name}.bias"] @ b[f"{name}.bias"][p[name]]
        return total

    history = [objective()]
    for sweep in order:
        for name in sweep:
            after = names[names.index(name) + 1]
            similarity = a[f"{name}.weight"] @ incoming(name).T
            if f"{name}.bias" in a:
                similarity += np.outer(a[f"{name}.bias"], b[f"{name}.bias"])
            rows = b[f"{after}.weight"][p[after]] if after in p else b[f"{after}.weight"]
            similarity += a[f"{after}.weight"].T @ rows
            p[name] = linear_sum_assignment(similarity, maximize=True)[1]
        history.append(objective())
        if history[-1] <= history[-2] * (1 + 1e-12):
            return history
    raise AssertionError("did not converge")


@pytest.mark.parametrize("seed", range(5))
def test_an_mlp_gives_the_numbers_of_the_literal_algorithm(seed):
    binding = mlp(20)
    rng = np.random.default_rng(seed)
    a, b = (random_weights(binding, rng, "f8") for _ in range(2))
    state = State(*read_problem(binding, a.__getitem__, b.__getitem__, select("cpu")))
    members = families(state.problem)

    found = descend(state, members, np.random.default_rng(seed), max_sweeps=100)

    shuffles = np.random.default_rng(seed)
    order = [[["0", "2", "5"][n] for n in shuffles.permutation(3)] for _ in range(100)]
    order[0].sort(key=lambda name: name == "2")  # those that touch fixed axes come first
    expected = literal_weight_matching(a, b, order)
    # The literal algorithm always makes one more sweep, in which nothing changes.
    assert found.history == pytest.approx(expected[: len(found.history)], rel=1e-12)
    assert found.history[-1] == pytest.approx(expected[-1], rel=1e-12)
    assert len(found.history) >= len(expected) - 1


@kinds
def test_same_inputs_and_seed_give_the_same_bytes(kind):
    binding = KINDS[kind]()
    rng = np.random.default_rng(0)
    a, b = random_weights(binding, rng), random_weights(binding, rng)

    first, second = (
        align(binding, a.__getitem__, b.__getitem__, seed=7, restarts=5) for _ in range(2)
    )

    assert first.restarts == second.restarts
    assert first.history == second.history
    for name, index in first.element.items():
        assert index.tobytes() == second.element[name].tobytes()


def test_seeds_lead_to_different_descents():
    binding = mlp(30)
    rng = np.random.default_rng(0)
    a, b = random_weights(binding, rng), random_weights(binding, rng)

    ends = {
        align(binding, a.__getitem__, b.__getitem__, seed=s, restarts=5).restarts for s in (0, 1)
    }

    assert len(ends) == 2


@kinds
def test_torch_agrees_with_numpy(kind):
    pytest.importorskip("torch")
    binding = KINDS[kind]()
    a, b, element = planted(binding, np.random.default_rng(0), 0.02)

    numpy, torch = (
        align(binding, a.__getitem__, b.__getitem__, device=device)
        for device in ("cpu", "cpu:torch")
    )

    assert binding.group.equal(torch.element, element)
    assert torch.history == pytest.approx(numpy.history, rel=1e-12, abs=1e-9)
    assert (torch.norm_a, torch.norm_b) == pytest.approx((numpy.norm_a, numpy.norm_b))


@pytest.mark.gpu
@kinds
def test_cuda_agrees_with_numpy(kind):
    binding = KINDS[kind]()
    a, b, element = planted(binding, np.random.default_rng(0), 0.02)

    numpy, cuda = (
        align(binding, a.__getitem__, b.__getitem__, device=device) for device in ("cpu", "cuda")
    )

    assert binding.group.equal(cuda.element, element)
    assert cuda.objective == pytest.approx(numpy.objective, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
@pytest.mark.parametrize("device", ["cpu", "cpu:torch"])
def test_narrow_types_are_widened(dtype, device):
    if device != "cpu":
        pytest.importorskip("torch")
    binding = residual(12)
    a, b, element = planted(binding, np.random.default_rng(1))
    a, b = ({name: x.astype(dtype) for name, x in model.items()} for model in (a, b))

    found = align(binding, a.__getitem__, b.__getitem__, device=device)

    assert binding.group.equal(found.element, element)
    exact = sum(float((x.astype("f8") ** 2).sum()) for x in a.values())
    assert found.objective == pytest.approx(exact, rel=1e-13)
    assert found.cosine == pytest.approx(1, abs=1e-13)


def test_float64_stays_float64():
    binding = residual()
    rng = np.random.default_rng(2)
    a, b = (random_weights(binding, rng, "f8") for _ in range(2))

    found = align(binding, a.__getitem__, b.__getitem__)

    true = literal_objective(binding, found.element, a, b.__getitem__)
    assert found.objective == pytest.approx(true, rel=1e-13)
    narrow, other = ({name: x.astype("f4") for name, x in model.items()} for model in (a, b))
    rounded = literal_objective(binding, found.element, narrow, other.__getitem__)
    assert rounded != pytest.approx(true, rel=1e-11)


def test_statistics_and_integers_follow_but_do_not_count():
    binding = bound(
        """
name: norm
permutations:
  hidden:
tensors:
  a: hidden input
  b: output hidden
  ids: hidden
statistics:
  mean: hidden
""",
        {"a": (6, 4), "b": (3, 6), "ids": (6,), "mean": (6,)},
    )
    header = dict(binding.header)
    header["ids"] = type(header["ids"])("I64", (6,))
    binding = type(binding)(
        binding.spec, header, binding.group, binding.tensors, binding.ignored, binding.sizes
    )
    a, b, element = planted(binding, np.random.default_rng(0))
    b["mean"] = np.full(6, np.nan, "f4")
    b["ids"] = np.arange(6)
    a["ids"] = np.arange(6)

    found = align(binding, a.__getitem__, b.__getitem__)

    assert binding.group.equal(found.element, element)
    assert found.norm_a**2 == pytest.approx(sum(np.vdot(a[n], a[n]) for n in "ab"))


def test_distance_and_cosine_are_those_of_the_renumbered_model():
    binding = KINDS["llama"]()
    rng = np.random.default_rng(5)
    a, b = random_weights(binding, rng), random_weights(binding, rng)

    found = align(binding, a.__getitem__, b.__getitem__)

    read = rearranged(binding, found.element, b.__getitem__)
    flat_a = np.concatenate([a[name].ravel() for name in a]).astype("f8")
    flat_b = np.concatenate([read(name).ravel() for name in a]).astype("f8")
    assert found.squared_distance == pytest.approx(((flat_a - flat_b) ** 2).sum())
    assert found.cosine == pytest.approx(
        flat_a @ flat_b / np.linalg.norm(flat_a) / np.linalg.norm(flat_b)
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(bad):
    binding = mlp()
    a, b, _ = planted(binding, np.random.default_rng(0))
    a["2.bias"][3] = bad
    b["5.weight"][0, 1] = bad

    with pytest.raises(NotFiniteError) as caught:
        align(binding, a.__getitem__, b.__getitem__)

    assert "2.bias of the reference" in str(caught.value)
    assert "5.weight of the model" in str(caught.value)


def test_sweeps_are_limited():
    binding = mlp(40)
    rng = np.random.default_rng(0)
    a, b = random_weights(binding, rng), random_weights(binding, rng)
    start = binding.group.identity()

    one = align(binding, a.__getitem__, b.__getitem__, start=start, restarts=1, max_sweeps=1)
    none = align(binding, a.__getitem__, b.__getitem__, start=start, restarts=1, max_sweeps=0)

    assert (one.sweeps, one.converged) == (1, False)
    assert one.objective > one.start_objective
    assert (none.sweeps, none.converged) == (0, False)
    assert none.objective == none.start_objective
    assert binding.group.is_identity(none.element)


def test_a_start_that_is_right_stays():
    binding = residual()
    a, b, element = planted(binding, np.random.default_rng(0))

    found = align(binding, a.__getitem__, b.__getitem__, start=element, restarts=1)

    assert binding.group.equal(found.element, element)
    assert found.history[0] == pytest.approx(found.objective)
    assert found.sweeps == 1


def test_a_model_of_zeros_has_nothing_to_gain():
    binding = mlp()
    a = random_weights(binding, np.random.default_rng(0))
    zeros = {name: np.zeros_like(array) for name, array in a.items()}

    found = align(binding, a.__getitem__, zeros.__getitem__)

    assert (found.objective, found.cosine) == (0.0, 1.0)
    assert found.converged


def test_the_trivial_methods():
    binding = mlp()
    a, b, _ = planted(binding, np.random.default_rng(0))

    kept, drawn, again = (
        align(binding, a.__getitem__, b.__getitem__, method=method, seed=3)
        for method in ("identity", "random", "random")
    )

    assert binding.group.is_identity(kept.element)
    assert kept.objective == kept.start_objective
    assert not binding.group.is_identity(drawn.element)
    assert binding.group.equal(drawn.element, again.element)
    true = literal_objective(binding, drawn.element, a, b.__getitem__)
    assert drawn.objective == pytest.approx(true)


def test_what_cannot_be_is_refused():
    binding = mlp()
    a, b, _ = planted(binding, np.random.default_rng(0))

    def call(**options):
        return align(binding, a.__getitem__, b.__getitem__, **options)

    with pytest.raises(InputError, match="'weights' is none of weight, "):
        call(method="weights")
    with pytest.raises(InputError, match="restarts is 0, expected 1 or more"):
        call(restarts=0)
    with pytest.raises(InputError, match="max_sweeps is -1, expected 0 or more"):
        call(max_sweeps=-1)
    with pytest.raises(InputError, match="device 'gpu' is none of auto, cpu"):
        call(device="gpu")
    with pytest.raises(PermutationError, match=r"they lack hidden\[0\]"):
        call(start={})
