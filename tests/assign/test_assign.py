from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from rebasin_hub.assign import small, solve_assignment
from rebasin_hub.errors import NotFiniteError


def matrices(*shape: int) -> st.SearchStrategy[np.ndarray]:
    """Return random matrices, many of them with ties."""
    numbers = st.integers(0, 2**32 - 1).map(np.random.default_rng)
    return st.one_of(
        numbers.map(lambda rng: rng.normal(size=shape)),
        numbers.map(lambda rng: rng.integers(-2, 3, size=shape).astype(np.float64)),
    )


@given(st.integers(1, 6).flatmap(lambda n: matrices(n, n)))
@settings(max_examples=100)
def test_no_permutation_has_a_higher_value(similarity):
    rows = np.arange(len(similarity))
    best = max(similarity[rows, p].sum() for p in itertools.permutations(rows))

    found = solve_assignment(similarity)

    assert sorted(found.columns) == list(rows)
    assert found.value == pytest.approx(best)
    assert found.value == pytest.approx(similarity[rows, found.columns].sum())


@given(matrices(4, 5, 5))
@settings(max_examples=30)
def test_a_batch_is_solved_one_by_one(batch):
    found = solve_assignment(batch)

    assert found.columns.shape == (4, 5)
    assert found.value.shape == (4,)
    for number, similarity in enumerate(batch):
        assert found.value[number] == pytest.approx(solve_assignment(similarity).value)


@pytest.mark.parametrize("dtype", ["f2", "f4", ml_dtypes.bfloat16, "i8"])
def test_other_types_are_summed_in_float64(dtype):
    similarity = np.random.default_rng(0).integers(-9, 10, size=(20, 20)).astype(dtype)

    found = solve_assignment(similarity)

    assert found.value.dtype == np.float64
    assert found.columns.dtype == np.int64
    assert found.value == solve_assignment(similarity.astype(np.float64)).value


def test_rows_map_to_columns():
    # Row 0 goes with column 1, row 1 with column 2: the inverse would be [2, 0, 1].
    found = solve_assignment(np.eye(3)[[1, 2, 0]])

    assert found.columns.tolist() == [1, 2, 0]


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (0, 3, 3), (2, 0, 0)])
def test_tiny_shapes(shape):
    found = solve_assignment(np.zeros(shape))

    assert found.columns.shape == shape[:-1]
    assert found.value.shape == shape[:-2]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_entries_that_are_not_finite_are_refused(bad):
    similarity = np.zeros((3, 3))
    similarity[1, 2] = bad

    with pytest.raises(NotFiniteError, match="holds 1 entries that are NaN or infinite"):
        solve_assignment(similarity)


@st.composite
def small_matrices(draw) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n = draw(st.integers(0, 40))
    made = rng.integers(-2, 3, (n, n)) if draw(st.booleans()) else rng.normal(size=(n, n))
    return made.astype(draw(st.sampled_from([np.float32, np.float64])))


@given(small_matrices())
@settings(max_examples=200, deadline=None)
def test_compiled_code_pairs_as_scipy_does_among_equal_sums_too(similarity):
    pytest.importorskip("numba")
    with_numba = solve_assignment(similarity)
    rows, columns = linear_sum_assignment(similarity, maximize=True)
    batch = np.stack([similarity, similarity[::-1]])
    reverse = linear_sum_assignment(similarity[::-1], maximize=True)[1]

    assert with_numba.columns.tolist() == columns.tolist()
    assert with_numba.value == sum(similarity[rows, columns].tolist(), np.float64(0))
    assert solve_assignment(batch).columns.tolist() == [columns.tolist(), reverse.tolist()]


@given(small_matrices())
@settings(max_examples=100, deadline=None)
def test_results_do_not_depend_on_whether_numba_has_been_loaded(similarity):
    pytest.importorskip("numba")
    by_scipy = dict.fromkeys(small._PAIRINGS, small._by_scipy)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(small, "_PAIRINGS", by_scipy)
        patched.setattr(small, "compiled_code", lambda: None)
        without = solve_assignment(similarity)
        several = solve_assignment(similarity[None])
    found = solve_assignment(similarity)

    assert by_scipy == dict.fromkeys(small._PAIRINGS, small._by_scipy)
    for one in (without, several):
        assert one.columns.tobytes() == found.columns.tobytes()
        assert one.value.tobytes() == found.value.tobytes()
        assert one.row_prices.tobytes() == found.row_prices.tobytes()


@pytest.mark.parametrize("size", [5, 40])
def test_sums_beyond_float64_are_no_reason_to_crash(size):
    similarity = np.random.default_rng(0).choice([-1.7e308, 1.7e308], (size, size))

    with np.errstate(over="ignore"):
        found = solve_assignment(similarity, certify=False)

    assert sorted(found.columns) == list(range(size))


def test_memory_of_any_order_is_read_and_left_alone():
    similarity = np.asfortranarray(np.random.default_rng(0).normal(size=(20, 20)))
    similarity.flags.writeable = False
    found = solve_assignment(similarity)

    assert found.columns.tolist() == linear_sum_assignment(similarity, maximize=True)[1].tolist()
    assert solve_assignment(similarity[None]).columns.tolist() == [found.columns.tolist()]
    assert solve_assignment(similarity.astype(">f8")).columns.tolist() == found.columns.tolist()
