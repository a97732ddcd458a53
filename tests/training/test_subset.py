"""Subsets and halves of a training split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_hub.errors import InputError
from rebasin_hub.training import Half, Subset

LABELS = st.lists(st.integers(0, 5), min_size=1, max_size=60).map(np.array)
SHARES = st.floats(0, 1)


@given(LABELS, st.sets(st.integers(0, 5)), SHARES, st.integers(0, 9))
def test_two_halves_are_disjoint_and_together_all(labels, favoured, share, seed) -> None:
    kept = []
    for number in (0, 1):
        subset = Subset(half=Half(number, tuple(favoured), share), seed=seed)
        try:
            indices, chosen = subset.choose(labels)
        except InputError:  # an empty half
            continue
        np.testing.assert_array_equal(chosen, labels[indices])
        kept += list(indices)
    assert sorted(kept) == list(range(len(labels)))


def test_a_half_favours_its_classes() -> None:
    labels = np.repeat(np.arange(4), 100)
    _, chosen = Subset(half=Half(0, (0, 1), 0.8)).choose(labels)
    np.testing.assert_array_equal(np.bincount(chosen), [80, 80, 20, 20])
    _, chosen = Subset(half=Half(1, (0, 1), 0.8)).choose(labels)
    np.testing.assert_array_equal(np.bincount(chosen), [20, 20, 80, 80])
    _, chosen = Subset(half=Half(1, (0, 1), 1.0)).choose(labels)
    assert set(chosen) == {2, 3}


def test_classes_come_before_the_first_so_many() -> None:
    labels = np.array([0, 1, 2, 0, 1, 2, 0])
    indices, chosen = Subset(classes=(0, 2), first=3).choose(labels)
    assert (list(indices), list(chosen)) == ([0, 2, 3], [0, 2, 0])


def test_noise_touches_its_share_of_the_labels() -> None:
    labels = np.repeat(np.arange(10), 200)
    indices, noisy = Subset(noise=0.5).choose(labels)
    assert len(indices) == len(labels)
    # Of those drawn anew a tenth keep their class by chance.
    assert 0.4 < (noisy != labels).mean() < 0.5
    np.testing.assert_array_equal(noisy, Subset(noise=0.5).choose(labels)[1])
    assert (noisy != Subset(noise=0.5, seed=1).choose(labels)[1]).any()
    assert set(Subset(classes=(3, 4), noise=1.0).choose(labels)[1]) == {3, 4}


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        (Subset(classes=(7,)), "leaves none of 3 images"),
        (Subset(noise=1.5), "noise is 1.5"),
        (Subset(half=Half(2, ())), "the half's number is 2"),
        (Subset(half=Half(0, (), -0.1)), "share is -0.1"),
        (Subset(first=0), "first is 0"),
    ],
)
def test_what_cannot_be_chosen_is_refused(subset, message) -> None:
    with pytest.raises(InputError, match=message):
        subset.choose(np.array([0, 1, 2]))
