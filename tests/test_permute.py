"""The laws of the group of renumberings."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_hub.errors import PermutationError
from rebasin_hub.permute import Factor, SymmetryGroup


@st.composite
def groups(draw):
    """Draw products of wreath products up to three deep."""
    factors: dict[str, Factor] = {}
    for number in range(draw(st.integers(1, 5))):
        shallow = [n for n in factors if factors[n].parent is None or number < 4]
        parent = draw(st.none() | st.sampled_from(shallow)) if shallow else None
        factors[f"p{number}"] = Factor(draw(st.integers(1, 4)), parent)
    return SymmetryGroup(factors)


@st.composite
def elements(draw, count):
    group = draw(groups())
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return group, *(group.random(rng) for _ in range(count))


def act(group, element, name, tensor):
    """Renumber a tensor with one axis for each ancestor of `name`, straight from the definition."""
    result = np.empty_like(tensor)
    for new in np.ndindex(tensor.shape):
        old = tuple(
            int(element[ancestor][new[: depth + 1]])
            for depth, ancestor in enumerate(group.lineages[name])
        )
        result[new] = tensor[old]
    return result


@given(elements(3))
def test_composition_is_associative(drawn):
    group, p, q, r = drawn
    left = group.compose(p, group.compose(q, r))
    assert group.equal(left, group.compose(group.compose(p, q), r))


@given(elements(1))
def test_inverse_undoes_on_both_sides(drawn):
    group, p = drawn
    inverse = group.invert(p)
    assert group.is_identity(group.compose(p, inverse))
    assert group.is_identity(group.compose(inverse, p))


@given(elements(1))
def test_identity_is_neutral(drawn):
    group, p = drawn
    assert group.equal(group.compose(p, group.identity()), p)
    assert group.equal(group.compose(group.identity(), p), p)


@given(elements(2))
def test_composition_is_what_acting_twice_amounts_to(drawn):
    group, p, q = drawn
    composed = group.compose(p, q)
    group.check(composed)
    for name in group.factors:
        tensor = np.arange(np.prod(group.shape(name))).reshape(group.shape(name))
        twice = act(group, p, name, act(group, q, name, tensor))
        assert np.array_equal(twice, act(group, composed, name, tensor))


@given(elements(1))
def test_moved_counts_what_differs_from_the_identity(drawn):
    group, p = drawn
    identity = group.identity()
    assert group.moved(p) == {n: int((p[n] != identity[n]).sum()) for n in group.factors}
    assert not any(group.moved(identity).values())


def test_random_elements_reach_the_whole_group():
    group = SymmetryGroup({"k": Factor(2), "v": Factor(2, "k")})
    rng = np.random.default_rng(0)
    seen = {tuple(np.concatenate([p["k"], p["v"].ravel()])) for p in map(group.random, [rng] * 200)}
    assert len(seen) == 8  # 2! for k, times 2! for each of the two v
    assert 10**group.log10_order == pytest.approx(8)


def test_moving_elements_leave_no_row_as_it_is_but_those_of_one_unit():
    group = SymmetryGroup({"k": Factor(2), "v": Factor(2, "k"), "one": Factor(1)})
    for seed in range(50):
        element = group.moving(["k", "v", "one"], np.random.default_rng(seed))
        assert element["k"].tolist() == [1, 0]
        assert element["v"].tolist() == [[1, 0], [1, 0]]
        assert element["one"].tolist() == [0]
    assert group.moving(["k"], np.random.default_rng(0))["v"].tolist() == [[0, 1], [0, 1]]


GROUP = SymmetryGroup({"k": Factor(2), "v": Factor(3, "k")})
GOOD = GROUP.identity()


@pytest.mark.parametrize(
    ("element", "message"),
    [
        ({"k": GOOD["k"]}, "they lack v"),
        ({**GOOD, "w": GOOD["k"]}, "they have besides w"),
        ({**GOOD, "v": GOOD["v"][0]}, r"'v' has shape \(3,\), this model needs \(2, 3\)"),
        ({**GOOD, "k": np.array([0, 0])}, "'k' is not one"),
        ({**GOOD, "k": np.array([0, 2])}, "'k' is not one"),
        ({**GOOD, "v": np.array([[0, 1, 2], [0, 1, 1]])}, "'v' is not one"),
        ({**GOOD, "k": np.array([0.0, 1.0])}, "holds float64, not integers"),
    ],
)
def test_what_is_no_element_is_refused(element, message):
    with pytest.raises(PermutationError, match=message):
        GROUP.check(element)


def test_a_parent_comes_before_its_children():
    with pytest.raises(PermutationError, match="depends on 'k', which must come before it"):
        SymmetryGroup({"v": Factor(3, "k"), "k": Factor(2)})
