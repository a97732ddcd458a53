"""Laws of unification, on random axes."""

import itertools
import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from rebasin_hub.infer.labels import ONE, Labels, Reason, product


def cuts(draw, size):
    """Return the lengths of parts, or the sizes of factors, of an axis."""
    if draw(st.booleans()):
        parts, left = [], size
        while left:
            parts.append(draw(st.integers(1, left)))
            left -= parts[-1]
        return "sum", parts
    factors, left = [], size
    for p in (2, 2, 2, 3, 3):
        if left % p == 0 and draw(st.booleans()):
            factors.append(p)
            left //= p
    return "product", [*factors, left]


def build(draw, labels, size, depth=0):
    if depth == 2 or size == 1 or draw(st.integers(0, 2)) == 0:
        return labels.atom(size)
    kind, sizes = cuts(draw, size)
    parts = [build(draw, labels, n, depth + 1) for n in sizes]
    if kind == "sum":
        return tuple(itertools.chain.from_iterable(parts))
    return product(*parts)


def positions(labels, expression):
    """Return for every position of an axis the atom indices that stand there."""
    found = []
    for term in expression:
        options = [
            [((factor, i),) for i in range(labels.sizes[factor])]
            if isinstance(factor, int)
            else positions(labels, factor)
            for factor in term
        ]
        found += [tuple(itertools.chain.from_iterable(c)) for c in itertools.product(*options)]
    return found


def moving(labels, at):
    return tuple((atom, i) for atom, i in at if labels.reasons[atom] is None)


@st.composite
def systems(draw):
    """Some axes of one length, and pairs of them that are the same."""
    labels = Labels()
    size = draw(st.sampled_from([4, 6, 8, 12, 24, 36]))
    axes = [build(draw, labels, size) for _ in range(4)]
    pairs = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5))
    return labels, axes, pairs


@given(systems())
def test_what_is_unified_is_renumbered_alike(system):
    labels, axes, pairs = system
    for i, j in pairs:
        labels.unify(axes[i], axes[j], "here")
    for i, j in pairs:
        a, b = labels.normal(axes[i]), labels.normal(axes[j])
        assert labels.size(a) == labels.size(b)
        # Each position is moved by the same atoms at the same indices, or not at all.
        left, right = positions(labels, a), positions(labels, b)
        assert [moving(labels, p) for p in left] == [moving(labels, p) for p in right]


@given(systems())
def test_normal_forms_have_no_sum_first_and_nothing_bound(system):
    labels, axes, pairs = system
    for i, j in pairs:
        labels.unify(axes[i], axes[j], "here")
    for axis in axes:
        normal = labels.normal(axis)
        assert labels.normal(normal) == normal
        assert all(labels.bound[atom] is None for atom in labels.atoms(normal))
        assert all(isinstance(term[0], int) for term in normal if term)
        assert len(positions(labels, normal)) == labels.size(axis)


@given(systems(), st.integers(0, 3))
def test_what_is_fixed_stays_fixed(system, which):
    labels, axes, pairs = system
    labels.fix(axes[which], Reason("input", "x"))
    for i, j in pairs:
        labels.unify(axes[i], axes[j], "here")
    assert all(
        labels.reasons[atom] is not None for atom in labels.atoms(labels.normal(axes[which]))
    )


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        ([6], [2, 3], [2, 3]),
        ([4, 6], [2, 12], [2, 2, 6]),
        ([2, 2, 3], [4, 3], [2, 2, 3]),
    ],
)
def test_products_are_refined_to_a_common_one(left, right, expected):
    labels = Labels()
    a, b = (product(*map(labels.atom, sizes)) for sizes in (left, right))
    labels.unify(a, b, "here")
    assert labels.normal(a) == labels.normal(b)
    assert [labels.sizes[atom] for atom in labels.atoms(labels.normal(a))] == expected
    assert not any(labels.reasons)


def test_factors_that_do_not_fit_are_fixed():
    labels = Labels()
    a, b = (product(*map(labels.atom, sizes)) for sizes in ([4, 6], [6, 4]))
    labels.unify(a, b, "a reshape")
    assert {labels.reasons[atom].where for atom in labels.atoms(labels.normal(a))} == {"a reshape"}


def test_halves_that_change_places_become_one():
    """A rotary embedding adds (low + high) to (high + low)."""
    labels = Labels()
    low, high = labels.atom(4), labels.atom(4)
    labels.unify((*low, *high), (*high, *low), "here")
    assert labels.normal(low) == labels.normal(high)


def test_an_axis_of_length_one_has_no_atom():
    labels = Labels()
    assert labels.atom(1) == ONE
    assert math.prod(labels.sizes) == 1
