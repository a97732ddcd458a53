from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rebasin_hub.assign import solve_assignment
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
