"""The blend of weights and activations."""

import pytest
from test_activation import literal, matched, strangers

from rebasin_hub.align import align


@pytest.mark.parametrize("kind", ["mlp", "resnet"])
@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_goal_is_the_weighted_mean_of_both_measures(kind, share) -> None:
    p, read_b = strangers(kind)
    found = matched(p, f"blend:share={share}", read_b=read_b)
    correlation = literal(p, read_b, found.element)
    assert found.goal.end == pytest.approx(
        (1 - share) * found.cosine + share * correlation, abs=1e-6
    )
    assert found.goal.name.startswith(f"{1 - share:g} · cosine")
    assert max(found.restarts) == found.goal.end


def test_with_hardly_a_share_it_is_weight_matching() -> None:
    p, read_b = strangers("mlp")
    found = matched(p, "blend:share=1e-9", read_b=read_b)
    weight = align(p.binding, p.read_a, read_b, start=found.element)
    assert p.binding.group.equal(found.element, weight.element)
    assert found.goal.end == pytest.approx(weight.cosine, abs=1e-7)


def test_with_nearly_the_whole_share_it_is_activation_matching() -> None:
    p, read_b = strangers("resnet")
    found = matched(p, "blend:share=0.999999", read_b=read_b)
    assert p.binding.group.equal(found.element, matched(p, read_b=read_b).element)


def test_each_part_is_better_than_in_a_match_by_the_other_alone() -> None:
    p, read_b = strangers("mlp")
    both = matched(p, "blend", read_b=read_b)
    weight, activation = align(p.binding, p.read_a, read_b), matched(p, read_b=read_b)
    assert activation.cosine < both.cosine <= weight.cosine
    assert literal(p, read_b, weight.element) < literal(p, read_b, both.element)
    assert literal(p, read_b, both.element) <= activation.goal.end
