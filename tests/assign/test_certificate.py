from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from rebasin_hub.assign import (
    SOLVERS,
    Proof,
    check_certificate,
    passes,
    small,
    solve_assignment,
    sparse,
)
from rebasin_hub.assign import solve as solving
from rebasin_hub.errors import InputError, NotFiniteError
from rebasin_hub.machinecode import compiled

FAMILIES = {
    "independent": lambda rng, n: rng.normal(size=(n, 8)) @ rng.normal(size=(8, n)),
    "uniform": lambda rng, n: rng.random((n, n)),
    "tied": lambda rng, n: rng.integers(0, 4, (n, n)),
    "product": lambda rng, n: np.outer(rng.normal(size=n), rng.normal(size=n)),
    "product and constants": lambda rng, n: (
        np.outer(rng.normal(size=n), rng.normal(size=n)) + rng.normal(size=(n, 1)) * 3
    ),
    "rank two": lambda rng, n: rng.normal(size=(n, 2)) @ rng.normal(size=(2, n)),
    "constant": lambda rng, n: np.full((n, n), rng.normal()),
    "equal columns": lambda rng, n: np.tile(rng.normal(size=(n, 1)), (1, n)),
    "heterogeneous": lambda rng, n: (
        (1 + rng.normal(size=(n, 9)))
        @ (1 + rng.normal(size=(9, n)))
        * rng.lognormal(size=n)
        * rng.lognormal(size=(n, 1))
    ),
    "near ties": lambda rng, n: 1 + rng.integers(0, 3, (n, n)) * 2.0**-23,
    "permuted": lambda rng, n: np.eye(n)[rng.permutation(n)] + rng.normal(size=(n, n)) * 0.2,
}


def dead_and_doubled(rng: np.random.Generator, n: int) -> np.ndarray:
    a, b = rng.normal(size=(2, n, 7))
    a[rng.random(n) < 0.3] = 0
    b[rng.random(n) < 0.2] = 0
    a, b = (x[rng.integers(0, n, n)] for x in (a, b))
    return np.array([[x @ y for y in b] for x in a])  # one product at a time: copies stay equal


FAMILIES["dead and doubled"] = dead_and_doubled


def best(similarity: np.ndarray) -> float:
    rows, columns = linear_sum_assignment(similarity.astype(np.float64), maximize=True)
    return float(similarity[rows, columns].astype(np.float64).sum())


def assert_optimal(similarity: np.ndarray, found) -> None:
    """Prove it by lines of the tests' own, and compare with SciPy."""
    scores = similarity.astype(np.float64)
    n = len(scores)
    assert sorted(found.columns) == list(range(n))
    scale = max(1.0, np.abs(scores).max(initial=0))
    slack = found.row_prices[:, None] + found.column_prices - scores
    assert slack.min(initial=0) >= -1e-12 * scale
    assert slack[np.arange(n), found.columns].max(initial=0) <= 1e-12 * n * scale
    assert found.gap >= 0
    assert found.value == pytest.approx(best(similarity), rel=1e-14, abs=1e-13 * n * scale)
    assert found.certified
    assert check_certificate(similarity, found)


@pytest.fixture(params=["compiled", "pure"])
def code(request, monkeypatch) -> str:
    if request.param == "pure":
        monkeypatch.setattr(passes, "compiled_code", lambda: None)
        for module in ("candidates", "merged", "ordered", "small", "sparse"):
            monkeypatch.setattr(f"rebasin_hub.assign.{module}.compiled_code", lambda: None)
        by_scipy = dict.fromkeys(small._PAIRINGS, small._by_scipy)
        monkeypatch.setattr(small, "_PAIRINGS", by_scipy)
    else:
        pytest.importorskip("numba")
    return request.param


@pytest.fixture
def large(monkeypatch) -> None:
    """Take matrices of 64 rows for large ones: the solvers are the same, and quick."""
    monkeypatch.setattr(solving, "SMALL", 64)
    monkeypatch.setattr(small, "TINY", 64)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("n", [1, 2, 7, 60])
def test_every_solver_is_optimal(code, family, dtype, n):
    similarity = FAMILIES[family](np.random.default_rng(n), n).astype(dtype)
    solved = 0
    for name in SOLVERS:
        start = np.zeros(n) if name == "start" else None
        try:
            found = solve_assignment(similarity, solver=name, start=start)
        except InputError:
            continue
        solved += 1
        assert found.solver == name
        assert_optimal(similarity, found)
    assert solved


@pytest.mark.parametrize("family", FAMILIES)
def test_the_choice_by_size_and_structure_is_optimal(code, large, family):
    similarity = FAMILIES[family](np.random.default_rng(0), 300).astype(np.float32)
    found = solve_assignment(similarity)

    assert_optimal(similarity, found)
    expected = {
        "product": {"ordered"} if code == "compiled" else {"ordered", "whole"},
        "product and constants": {"ordered"} if code == "compiled" else {"ordered", "whole"},
        "independent": {"candidates"},
        "dead and doubled": {"merged"} if code == "compiled" else {"candidates", "whole"},
    }
    assert found.solver in expected.get(family, SOLVERS)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.sampled_from(list(FAMILIES)))
def test_a_solution_is_never_worse_than_scipy(seed, n, family):
    similarity = FAMILIES[family](np.random.default_rng(seed), n).astype(np.float32)
    assert_optimal(similarity, solve_assignment(similarity))
    assert_optimal(similarity, solve_assignment(similarity, solver="whole"))


@given(st.integers(0, 2**32 - 1), st.integers(2, 30), st.floats(1e-6, 1))
def test_a_wrong_price_is_caught(seed, n, error):
    rng = np.random.default_rng(seed)
    similarity = rng.normal(size=(n, n))
    found = solve_assignment(similarity)
    for name in ("row_prices", "column_prices"):
        for sign in (1, -1):
            wrong = getattr(found, name).copy()
            wrong[rng.integers(n)] += sign * error
            proof = replace(found.proof, **{name: wrong})
            assert not check_certificate(similarity, replace(found, evidence=proof))


def test_a_worse_pairing_is_caught():
    similarity = np.random.default_rng(0).normal(size=(20, 20))
    found = solve_assignment(similarity)
    other = found.columns[[1, 0, *range(2, 20)]]

    assert check_certificate(similarity, found)
    assert not check_certificate(similarity, replace(found, columns=other))
    assert not check_certificate(similarity, replace(found, columns=found.columns * 0))
    assert not check_certificate(similarity[:19, :19], found)


def test_without_a_certificate_nothing_is_claimed():
    similarity = np.random.default_rng(0).normal(size=(20, 20))
    found = solve_assignment(similarity, certify=False)

    assert found.value == pytest.approx(best(similarity))
    assert np.isinf(found.gap)
    assert not found.certified
    assert not check_certificate(similarity, found)


def test_a_matrix_is_kept_only_until_it_is_proven(code, large):
    similarity = np.random.default_rng(0).normal(size=(200, 200))
    tiny = solve_assignment(similarity[:20, :20])
    whole = solve_assignment(similarity, solver="whole")
    unproven = solve_assignment(similarity, solver="whole", certify=False)

    assert isinstance(tiny.evidence, np.ndarray)
    assert tiny.certified
    assert isinstance(tiny.evidence, Proof)
    if code == "compiled":  # which proves on the way
        assert isinstance(whole.evidence, Proof)
        assert unproven.certified
    else:
        assert not np.shares_memory(whole.evidence, similarity)
        assert unproven.evidence is None
        assert np.isinf(unproven.gap)
    assert whole.certified


def test_float32_does_not_hide_what_is_better(large):
    # In float32, 2**24 + 1 is 2**24: sums that are not made in float64 cannot tell these apart.
    similarity = np.zeros((96, 96), dtype=np.float32)
    similarity[np.arange(96), np.arange(96)] = 2.0**24
    similarity[0, 1], similarity[1, 0] = 2.0**24, 1.0
    similarity[0, 0], similarity[1, 1] = 2.0**24 - 1, 1.0
    for solver in ("candidates", "whole", None):
        found = solve_assignment(similarity, solver=solver)
        assert found.value == best(similarity)
        assert found.gap == 0


@pytest.mark.parametrize("shape", [(60, 12, 12), (3, 5, 40, 40), (300, 64, 64)])
def test_batches_prove_every_matrix(code, shape):
    batch = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    found = solve_assignment(batch)

    assert found.value.shape == found.gap.shape == shape[:-2]
    assert found.certified
    assert check_certificate(batch, found)
    for at in list(np.ndindex(shape[:-2]))[:20]:
        assert found.value[at] == pytest.approx(best(batch[at]))


def test_an_unchanged_matrix_costs_few_passes(monkeypatch, large):
    similarity = FAMILIES["independent"](np.random.default_rng(0), 200)
    cold = solve_assignment(similarity)
    counted = []
    passed = type(passes.dense(similarity))
    for name in ("extremes", "row_floors", "column_floors", "above"):
        own = getattr(passed, name)
        monkeypatch.setattr(
            passed, name, lambda *a, own=own, name=name: counted.append(name) or own(*a)
        )
    warm = solve_assignment(similarity, start=cold.column_prices)

    assert warm.value == cold.value
    assert counted == ["row_floors", "above"]
    assert_optimal(similarity, warm)


def test_a_changed_matrix_goes_on_from_earlier_prices(large):
    rng = np.random.default_rng(0)
    similarity = FAMILIES["heterogeneous"](rng, 200)
    cold = solve_assignment(similarity)
    moved = similarity + rng.normal(size=similarity.shape)

    for start in (cold.column_prices, rng.normal(size=200) * 1e3):
        assert_optimal(moved, solve_assignment(moved, start=start))


def test_rows_that_find_no_column_get_more_entries(code, monkeypatch):
    # All rows keep the same few columns: without more entries there is no full matching.
    similarity = np.random.default_rng(0).normal(size=(300, 300)) * 1e-3
    similarity[:, :40] += 1
    monkeypatch.setattr("rebasin_hub.assign.candidates.SCATTERED", 0)
    monkeypatch.setattr("rebasin_hub.assign.candidates.SCATTERED_ALONE", 0)
    monkeypatch.setattr("rebasin_hub.assign.candidates.BALANCED", 0)

    assert_optimal(similarity, solve_assignment(similarity, solver="candidates"))


def test_same_input_same_bytes(large):
    similarity = FAMILIES["tied"](np.random.default_rng(0), 200).astype(np.float32)
    one, two = solve_assignment(similarity), solve_assignment(similarity.copy())

    for name in ("columns", "row_prices", "column_prices"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_large_entries_that_are_not_finite_are_refused(code, bad, large):
    similarity = np.zeros((200, 200), dtype=np.float32)
    similarity[190, 3] = bad

    with pytest.raises(NotFiniteError, match="holds 1 entries that are NaN or infinite"):
        solve_assignment(similarity)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 4), {}, r"has shape \(3, 4\), expected"),
        ((3,), {}, r"has shape \(3,\), expected"),
        ((3, 3), {"start": np.zeros(4)}, "expected one price"),
        ((2, 3, 3), {"start": np.zeros(3)}, "expected one price"),
        ((3, 3), {"solver": "guess"}, "solver 'guess' is none of permutation, start"),
        ((3, 3), {"solver": "start"}, "solver 'start' declines"),
    ],
)
def test_bad_input_is_refused(shape, options, message):
    with pytest.raises(InputError, match=message):
        solve_assignment(np.zeros(shape), **options)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_torch_tensors_give_numpy_results(dtype):
    torch = pytest.importorskip("torch")
    similarity = torch.randn(40, 40).to(getattr(torch, dtype))
    found = solve_assignment(similarity)

    assert isinstance(found.columns, np.ndarray)
    assert_optimal(similarity.double().numpy(), found)


@pytest.mark.parametrize("family", ["independent", "dead and doubled", "product", "tied"])
def test_passes_run_where_a_tensor_lies(family, monkeypatch, large):
    torch = pytest.importorskip("torch")
    # A tensor in memory becomes an array; left as it is, it goes the way of one on a device.
    monkeypatch.setattr(solving, "_readable", lambda x: x)
    similarity = FAMILIES[family](np.random.default_rng(0), 200).astype(np.float32)
    found = solve_assignment(torch.from_numpy(similarity))

    assert_optimal(similarity, found)


@pytest.mark.gpu
@pytest.mark.parametrize("family", ["independent", "heterogeneous", "dead and doubled", "product"])
def test_passes_run_on_a_gpu(family):
    torch = pytest.importorskip("torch")
    similarity = FAMILIES[family](np.random.default_rng(0), 2000).astype(np.float32)

    assert_optimal(similarity, solve_assignment(torch.from_numpy(similarity).cuda()))


def test_rounds_are_bounded(monkeypatch, large):
    monkeypatch.setattr(sparse, "ROUNDS", 0)
    similarity = FAMILIES["independent"](np.random.default_rng(0), 200)
    found = solve_assignment(similarity)

    assert found.solver == "whole"
    assert_optimal(similarity, found)


def test_folders_that_cannot_be_written_only_cost_the_cache(monkeypatch):
    numba = pytest.importorskip("numba")
    own = numba.njit

    def njit(**options):
        if options.pop("cache", False):
            raise RuntimeError("cannot cache function: no locator available")
        return own(**options)

    monkeypatch.setattr(numba, "njit", njit)
    doubled = compiled(lambda numbers: numbers * 2)

    assert doubled(np.arange(3)).tolist() == [0, 2, 4]
