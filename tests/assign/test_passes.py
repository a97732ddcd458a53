"""The passes over a full matrix say the same, compiled and not, and what they say is so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rebasin_hub.assign import check_certificate, solve_assignment
from rebasin_hub.assign.dense import Dense, namespace
from rebasin_hub.assign.edges import Edges
from rebasin_hub.assign.passes import compiled_code, dense


def passes(similarity: np.ndarray) -> list[Dense]:
    pure = Dense(similarity, namespace(similarity))
    return [pure, dense(similarity)] if compiled_code() is not None else [pure]


@st.composite
def drawn(draw) -> np.ndarray:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, m = draw(st.integers(1, 300)), draw(st.integers(1, 300))
    made = rng.integers(-3, 4, (n, m)) if draw(st.booleans()) else rng.normal(size=(n, m))
    return made.astype(draw(st.sampled_from([np.float32, np.float64])))


@given(drawn())
@settings(max_examples=40, deadline=None)
def test_extremes_are_the_first_largest_entries(similarity):
    for one in passes(similarity):
        found = one.extremes()
        assert found is not None
        assert found.row_best.tolist() == similarity.argmax(1).tolist()
        assert found.column_best.tolist() == similarity.argmax(0).tolist()
        assert found.row_maxima.tolist() == similarity.max(1).tolist()
        assert found.column_maxima.tolist() == similarity.max(0).tolist()


@given(drawn(), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_at_least_k_entries_reach_a_floor(similarity, k):
    k = min(k, *similarity.shape)
    for one in passes(similarity):
        rows, best = one.row_floors(np.zeros(similarity.shape[1]), k)
        columns = one.column_floors(np.zeros(len(similarity)), k)
        reached = similarity[np.arange(len(best)), best]

        assert ((similarity >= rows[:, None]).sum(1) >= k).all()
        assert ((similarity >= columns).sum(0) >= k).all()
        assert reached.tolist() == similarity.max(1).tolist()


@given(drawn(), st.integers(1, 9))
@settings(max_examples=40, deadline=None)
def test_every_entry_above_is_found_but_where_they_are_many(similarity, usual):
    floors, prices = np.zeros(len(similarity)), np.zeros(similarity.shape[1])
    for one in passes(similarity):
        found = one.above(floors, prices, usual)
        counts, expected = np.diff(found.first), (similarity >= 0).sum(1)

        assert (similarity[found.rows, found.columns] == found.entries).all()
        assert (found.entries >= 0).all()
        assert (np.diff(found.rows * similarity.shape[1] + found.columns) > 0).all()
        assert ((counts == expected) | ((counts == usual) & (expected > usual))).all()


@given(drawn(), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_entries_are_added_once_and_in_order(similarity, seed):
    rng, (n, m) = np.random.default_rng(seed), similarity.shape
    matrix = passes(similarity)[0]
    rows, columns = rng.integers(0, n, (2, 40)), rng.integers(0, m, (2, 40))
    found = Edges.of(matrix, rows[0], columns[0]).extended(matrix, rows[1], columns[1])
    wanted = sorted(set(zip(rows.ravel().tolist(), columns.ravel().tolist(), strict=True)))

    assert list(zip(found.rows.tolist(), found.columns.tolist(), strict=True)) == wanted
    assert found.entries.tolist() == [similarity[at] for at in wanted]


def test_a_proof_is_one_of_the_matrix_as_it_was():
    similarity = np.random.default_rng(0).normal(size=(40, 40))
    before = similarity.copy()
    found = solve_assignment(similarity)
    similarity[:] = 0

    assert check_certificate(before, found)
    assert not check_certificate(similarity, found)


@pytest.mark.parametrize("noise", [2.0, 3.0, 4.0])
def test_where_most_rows_and_columns_choose_each_other_the_others_go_on_from_there(noise):
    rng = np.random.default_rng(0)
    a = rng.normal(size=(1100, 128)).astype(np.float32)
    other = a[rng.permutation(1100)] + noise * rng.normal(size=a.shape).astype(np.float32)
    similarity = a @ other.T
    found = solve_assignment(similarity, solver="aligned")

    assert found.certified
    assert check_certificate(similarity, found)
    assert found.value == solve_assignment(similarity, solver="whole").value
