"""The one signature of all methods: names, settings, functions, ready elements, limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from align_kinds import KINDS, planted, random_weights

from rebasin_hub.align import METHODS, Found, Goal, Watch, align, parse_method
from rebasin_hub.align.method import Method, MethodKind, NoSettings
from rebasin_hub.errors import InputError, PermutationError


@dataclass(frozen=True)
class Some:
    rate: float = 0.5
    steps: int = 3
    exact: bool = False
    kind: str = "plain"


METHOD = Method(lambda *_: None, "tries", Some)


def test_settings_have_the_types_of_their_defaults():
    given = {"rate": "1e-2", "steps": "7", "exact": "true", "kind": "other"}
    assert METHOD.with_settings("m", given) == Some(0.01, 7, True, "other")
    assert METHOD.with_settings("m", {}) == Some()
    assert METHOD.with_settings("m", {"exact": "no"}) == Some(exact=False)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"rte": "1"}, "no setting 'rte'; did you mean 'rate'?; there are: rate, steps"),
        ({"rate": "fast"}, "m:rate: 'fast' is not a number; such as 0.5"),
        ({"steps": "1.5"}, "m:steps: '1.5' is not an integer; such as 3"),
        ({"exact": "maybe"}, "m:exact: 'maybe' is neither true nor false"),
    ],
)
def test_wrong_settings_say_what_is_right(given, said):
    with pytest.raises(InputError, match=said.replace("?", r"\?")):
        METHOD.with_settings("m", given)


def test_a_method_is_named_with_its_settings():
    assert parse_method("weight") == ("weight", NoSettings())
    with pytest.raises(InputError, match="method 'wieght' is none of weight, "):
        parse_method("wieght")
    with pytest.raises(InputError, match="'7' is no setting; write KEY=VALUE"):
        parse_method("weight:7")
    with pytest.raises(InputError, match="method 'weight' has no setting 'x'; there are: none"):
        parse_method("weight:x=1")


def test_every_method_can_be_listed():
    for name, method in METHODS.items():
        kind = MethodKind.of(name, method)
        assert kind.summary
        assert method.with_settings(name, {k: str(v) for k, v in kind.settings.items()}) == (
            method.settings()
        )


@pytest.fixture
def two():
    binding = KINDS["mlp"]()
    return binding, *planted(binding, np.random.default_rng(0), 0.01)


def test_a_ready_element_is_taken_as_it_is(two):
    binding, a, b, element = two
    found = align(binding, a.__getitem__, b.__getitem__, method=element)
    assert binding.group.equal(found.element, element)
    assert found.method == "given"
    assert found.cosine > 0.9
    with pytest.raises(PermutationError):
        align(binding, a.__getitem__, b.__getitem__, method={"p": np.arange(2)})


def test_a_function_is_a_method(two):
    binding, a, b, element = two
    seen = {}

    def mine(state, options):
        seen.update(seed=options.seed, settings=options.settings)
        goal = Goal("wishes", 0.0, 1.0, 2.0, larger_is_better=True)
        return Found(dict(element), (1.0, 2.0), (2.0,), converged=True, goal=goal, notes=("so",))

    found = align(binding, a.__getitem__, b.__getitem__, method=mine, seed=5)
    assert seen == {"seed": 5, "settings": NoSettings()}
    assert (found.method, found.goal.end, found.notes, found.sweeps) == ("mine", 2.0, ("so",), 1)
    given = align(binding, a.__getitem__, b.__getitem__, method=element)
    assert found.objective == given.objective  # of the weights, whatever the method's goal is


def test_methods_that_need_data_ask_for_it(two):
    binding, a, b, _ = two
    for name, method in METHODS.items():
        if method.needs == "evidence":
            with pytest.raises(InputError, match=f"method '{name}' looks at .* name a task"):
                align(binding, a.__getitem__, b.__getitem__, method=name)


def test_time_that_is_up_ends_a_search_with_what_it_has():
    binding = KINDS["residual"]() if "residual" in KINDS else KINDS["mlp"]()
    rng = np.random.default_rng(1)
    a, b = random_weights(binding, rng), random_weights(binding, rng)
    watch = Watch(seconds=0)
    found = align(binding, a.__getitem__, b.__getitem__, watch=watch)
    assert found.sweeps == 0
    assert not found.converged
    assert len(found.restarts) == 1
    assert binding.group.equal(watch.best, found.element)


def test_the_best_is_kept_while_a_search_goes_on(two):
    binding, a, b, _ = two
    watch = Watch()
    found = align(binding, a.__getitem__, b.__getitem__, watch=watch)
    assert binding.group.equal(watch.best, found.element)
