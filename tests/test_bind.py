"""Binding: sizes, instances and axes mean what the spec says, and every mismatch is told."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_specs import Case, cases

from rebasin_hub.bind import Binding, bind
from rebasin_hub.errors import BindingError
from rebasin_hub.rearrange import plan, rearranged
from rebasin_hub.spec.pattern import Wildcard, parse_pattern
from rebasin_hub.specfile import parse_spec
from rebasin_hub.tensors import TensorInfo

SEEDS = st.integers(0, 2**32 - 1)


def spec_of(body: str):
    return parse_spec(f"spec: 1\nname: t\n{body}", "t.yaml")


def header_of(**shapes: tuple[int, ...]) -> dict[str, TensorInfo]:
    return {name.replace("__", "."): TensorInfo("F32", s) for name, s in shapes.items()}


def renumber(binding: Binding, element, tensors):
    read = rearranged(binding, element, tensors.__getitem__)
    return {name: read(name) for name in tensors}


def equal(one, other) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


# Laws on random specs


@settings(max_examples=40)
@given(cases(), SEEDS)
def test_renumbering_is_an_action_of_the_group(case: Case, seed: int) -> None:
    binding = bind(case.spec, case.header)
    group, tensors = binding.group, case.checkpoint()
    rng = np.random.default_rng(seed)
    p, q = group.random(rng), group.random(rng)
    moved = renumber(binding, p, tensors)
    assert equal(renumber(binding, group.invert(p), moved), tensors)
    assert equal(renumber(binding, q, moved), renumber(binding, group.compose(q, p), tensors))
    assert equal(renumber(binding, group.identity(), tensors), tensors)
    assert sorted(itertools.chain(*(t.flat for t in moved.values()))) == sorted(
        itertools.chain(*(t.flat for t in tensors.values()))
    )


@settings(max_examples=40)
@given(cases(), SEEDS)
def test_renumbering_means_what_the_pattern_says(case: Case, seed: int) -> None:
    """Compare with a slow reading: the element at new coordinates comes from the old ones."""
    binding = bind(case.spec, case.header)
    element = binding.group.random(np.random.default_rng(seed))
    tensors = case.checkpoint()
    moved = renumber(binding, element, tensors)
    for name, (_, variables) in case.tensors.items():
        axes = case.coordinates(name)
        where = [{c: i for i, c in enumerate(axis)} for axis in axes]
        assert all(len(w) == len(axis) for w, axis in zip(where, axes, strict=True))
        for position in itertools.product(*map(range, tensors[name].shape)):
            new = [axis[i] for axis, i in zip(axes, position, strict=True)]
            named = dict(named_of(variables))
            old = [source(c, new, named, binding, element) for c in new]
            origin = name
            if "expert" in variables:
                key = f"expert[{variables['block']}]"
                expert = element[key][variables["expert"]]
                origin = f"moe.{variables['block']}.{expert}.{name.rpartition('.')[2]}"
            index = tuple(w[c] for w, c in zip(where, old, strict=True))
            assert moved[name][position] == tensors[origin][index], (name, position)


def named_of(variables):
    if "expert" in variables:
        yield f"expert[{variables['block']}]", variables["expert"]


def source(coordinate, all_axes, named, binding: Binding, element):
    """Return the old coordinate of a new one; a child is read with its parent's new index."""
    parents = {k: f.parent for k, f in binding.group.factors.items()}

    def old(key: str | None, index: int) -> int:
        if key is None or key not in parents:
            return index
        parent = parents[key]
        if parent is None:
            return int(element[key][index])
        same = [i for k, i in coordinate if k == parent]
        across = [i for c in all_axes for k, i in c if k == parent]
        found = same or across or [named[parent]]
        return int(element[key][found[0], index])

    return tuple((key, old(key, index)) for key, index in coordinate)


@settings(max_examples=25)
@given(cases())
def test_the_sizes_of_random_specs_are_solved(case: Case) -> None:
    binding = bind(case.spec, case.header)
    sizes = {k: f.size for k, f in binding.group.factors.items()}
    expected = {"e": "e", "h": "h", "d": "d"}
    assert {k: sizes[k] for k in expected} == {k: case.sizes[v] for k, v in expected.items()}
    assert sizes["pad"] == 2 * case.sizes["low"]
    for layer in case.layers[:-1]:
        assert sizes[f"hidden[{layer}]"] == case.sizes[f"hidden[{layer}]"]
    assert f"hidden[{case.layers[-1]}]" not in sizes
    assert sizes["expert[0]"] == case.sizes["expert"]
    assert sizes["f[0]"] == case.sizes["f"]
    assert set(plan(binding, binding.group.identity())) == set(case.tensors)


@settings(max_examples=25)
@given(cases(), st.data())
def test_a_tensor_of_a_wrong_shape_is_never_bound(case: Case, data) -> None:
    header = case.header
    name = data.draw(st.sampled_from(sorted(header)))
    shape = list(header[name].shape)
    axis = data.draw(st.integers(0, len(shape) - 1))
    shape[axis] += 1
    header[name] = TensorInfo("I64", tuple(shape))
    # Only an axis that nothing else shares can have another size.
    first = name == f"net.{case.layers[0]}.weight" and axis == 1
    if first or isinstance(parse_pattern(case.tensors[name][0])[axis], Wildcard):
        assert bind(case.spec, header).of_name[name].shape == tuple(shape)
        return
    with pytest.raises(BindingError) as caught:
        bind(case.spec, header)
    assert {m.kind for m in caught.value.mismatches} <= {"size", "missing"}


# Functions


def test_a_network_of_numbered_layers_keeps_its_function() -> None:
    spec = spec_of("""permutations:
  hidden[layer]: {from: input, to: output}
tensors:
  "{prefix*}{layer}.weight": hidden hidden[<layer]
  "{prefix*}{layer}.bias?": hidden
""")
    rng = np.random.default_rng(0)
    widths = {0: (6, 4), 3: (5, 6), 7: (3, 5)}
    tensors = {f"net.{n}.weight": rng.normal(size=s) for n, s in widths.items()}
    tensors |= {f"net.{n}.bias": rng.normal(size=s[0]) for n, s in widths.items() if n != 7}
    header = {name: TensorInfo("F64", t.shape) for name, t in tensors.items()}
    binding = bind(spec, header)
    assert {k: f.size for k, f in binding.group.factors.items()} == {"hidden[0]": 6, "hidden[3]": 5}

    def run(weights, x):
        for n in widths:
            x = x @ weights[f"net.{n}.weight"].T + weights.get(f"net.{n}.bias", 0)
            x = np.maximum(x, 0) if n != 7 else x
        return x

    x = rng.normal(size=(9, 4))
    moved = renumber(binding, binding.group.random(rng), tensors)
    assert not equal(moved, tensors)
    np.testing.assert_allclose(run(moved, x), run(tensors, x), rtol=1e-12)


def test_a_mixture_of_experts_keeps_its_function() -> None:
    spec = spec_of("""permutations:
  embed:
  expert[layer]:
  ff[layer]: {within: expert}
tensors:
  embed: vocab embed
  "{layer}.router": expert embed
  "{layer}.{expert}.up": ff embed
  "{layer}.{expert}.down": embed ff
""")
    rng = np.random.default_rng(0)
    tensors = {"embed": rng.normal(size=(7, 6))}
    for n in range(2):
        tensors[f"{n}.router"] = rng.normal(size=(4, 6))
        for e in range(4):
            tensors[f"{n}.{e}.up"] = rng.normal(size=(5, 6))
            tensors[f"{n}.{e}.down"] = rng.normal(size=(6, 5))
    binding = bind(spec, {name: TensorInfo("F64", t.shape) for name, t in tensors.items()})

    def run(w):
        x = w["embed"]
        for n in range(2):
            gate = np.exp(x @ w[f"{n}.router"].T)
            gate /= gate.sum(axis=1, keepdims=True)
            x = x + sum(
                gate[:, [e]] * (np.maximum(x @ w[f"{n}.{e}.up"].T, 0) @ w[f"{n}.{e}.down"].T)
                for e in range(4)
            )
        return x @ w["embed"].T

    moved = renumber(binding, binding.group.random(rng), tensors)
    np.testing.assert_allclose(run(moved), run(tensors), rtol=1e-12)


# Indices and sizes


def factors(binding: Binding) -> dict[str, int]:
    return {name: factor.size for name, factor in binding.group.factors.items()}


def test_every_earlier_index_side_by_side() -> None:
    spec = spec_of("""permutations:
  stem:
  new[layer]:
tensors:
  stem: stem rgb
  "{layer}.norm": (stem + new[:layer])
  "{layer}.conv": new (stem + new[:layer])
  head: classes (stem + new[:])
""")
    shapes = {"stem": (4, 3), "head": (5, 12)}
    for layer, width in ((2, 4), (5, 6), (9, 9)):
        shapes |= {f"{layer}.norm": (width,), f"{layer}.conv": (2 if layer == 2 else 3, width)}
    binding = bind(spec, {name: TensorInfo("F32", shape) for name, shape in shapes.items()})
    assert factors(binding) == {"stem": 4, "new[2]": 2, "new[5]": 3, "new[9]": 3}
    head = binding.of_name["head"].axes[1]
    assert [s.atoms[0].word for s in head.segments] == ["stem", "new[2]", "new[5]", "new[9]"]


def test_the_nearest_index_at_or_before() -> None:
    spec = spec_of("""permutations:
  channel[conv]: {from: rgb}
tensors:
  "features.{conv}.weight": channel channel[<conv] 3 3
  "features.{norm}.bias": channel[<=norm]
  head: classes channel[-1]
""")
    shapes = {"head": (5, 7)}
    for n, (out, into) in {0: (4, 3), 4: (7, 4)}.items():
        shapes |= {f"features.{n}.weight": (out, into, 3, 3), f"features.{n}.bias": (out,)}
        shapes |= {f"features.{n + 2}.bias": (out,)}
    binding = bind(spec, {name: TensorInfo("F32", shape) for name, shape in shapes.items()})
    assert factors(binding) == {"channel[0]": 4, "channel[4]": 7}
    assert binding.of_name["features.2.bias"].permutations == ("channel[0]",)
    assert binding.of_name["features.6.bias"].permutations == ("channel[4]",)


HEADS = """sizes: {head: num_heads | n_head}
permutations:
  head:
  value: {within: head}
tensors:
  v: (head value) _
  o: _ (head value)
"""


@pytest.mark.parametrize(
    ("config", "sizes", "expected"),
    [
        ({"num_heads": 4}, {}, {"head": 4, "value": 3}),
        ({"n_head": 6}, {}, {"head": 6, "value": 2}),
        ({"num_heads": 4, "n_head": 6}, {}, {"head": 4, "value": 3}),
        ({}, {"head": 2}, {"head": 2, "value": 6}),
        (None, {"value": 4}, {"head": 3, "value": 4}),
    ],
)
def test_sizes_come_from_the_user_then_config_then_shapes(config, sizes, expected) -> None:
    binding = bind(spec_of(HEADS), header_of(v=(12, 5), o=(5, 12)), config=config, sizes=sizes)
    assert factors(binding) == expected


def test_a_given_size_cannot_contradict_config() -> None:
    with pytest.raises(BindingError, match=r"'head' was given as 2, but is 4 \(num_heads"):
        bind(
            spec_of(HEADS), header_of(v=(12, 5), o=(5, 12)),
            config={"num_heads": 4}, sizes={"head": 2},
        )  # fmt: skip
    fallback = spec_of(HEADS.replace("num_heads | n_head", "num_heads | 6"))
    binding = bind(fallback, header_of(v=(12, 5), o=(5, 12)), sizes={"head": 2})
    assert factors(binding) == {"head": 2, "value": 6}


def test_the_fewest_variables_win() -> None:
    spec = spec_of("""permutations:
  embed:
  first:
tensors:
  "{layer}.in": embed _
  "0.in": first _
  "{layer}.out": _ (embed + first)
ignore:
  mask: nothing
  "{layer}.{any}.mask": nothing
""")
    header = header_of(mask=(9,)) | {
        "0.in": TensorInfo("F32", (2, 5)),
        "1.in": TensorInfo("F32", (3, 5)),
        "1.2.mask": TensorInfo("BOOL", (1, 1)),
        "0.out": TensorInfo("F32", (5, 5)),
        "1.out": TensorInfo("F32", (5, 5)),
    }
    binding = bind(spec, header)
    assert factors(binding) == {"embed": 3, "first": 2}
    assert set(binding.ignored) == {"mask", "1.2.mask"}


def test_prefixes_may_stand_before_some_names() -> None:
    spec = spec_of("""prefixes: [bert., model.]
permutations:
  embed:
tensors:
  wte: vocab embed
  head: classes embed
""")
    binding = bind(spec, header_of(bert__wte=(7, 3), head=(5, 3)))
    assert set(binding.of_name) == {"bert.wte", "head"}
    with pytest.raises(BindingError, match=r"model\.wte: means the same tensor as 'bert\.wte'"):
        bind(spec, header_of(bert__wte=(7, 3), model__wte=(7, 3), head=(5, 3)))


# Mismatches

PLAIN = """permutations:
  embed:
  ff[layer]:
tensors:
  wte.weight: vocab embed
  "{layer}.{gate,up}.weight": ff embed
  "{layer}.down.weight": embed ff
  "{layer}.down.bias?": embed
  norm.weight: embed
"""
GOOD = {
    "wte.weight": (11, 4),
    "norm.weight": (4,),
    **{f"{n}.{m}.weight": (6, 4) for n in (0, 1) for m in ("gate", "up")},
    **{f"{n}.down.weight": (4, 6) for n in (0, 1)},
}


def mismatches(body: str, shapes, **given) -> dict[str, str]:
    """Return what does not fit, by kind and name."""
    with pytest.raises(BindingError) as caught:
        bind(spec_of(body), {n: TensorInfo("F32", s) for n, s in shapes.items()}, **given)
    found = {f"{m.kind} {m.name}".strip(): m.message for m in caught.value.mismatches}
    assert len(found) == len(caught.value.mismatches)
    return found


def without(*names: str):
    return {name: shape for name, shape in GOOD.items() if name not in names}


def test_the_plain_spec_binds() -> None:
    binding = bind(spec_of(PLAIN), {n: TensorInfo("F32", s) for n, s in GOOD.items()})
    assert factors(binding) == {"embed": 4, "ff[0]": 6, "ff[1]": 6}


def test_missing() -> None:
    found = mismatches(PLAIN, without("0.up.weight", "norm.weight"))
    assert found == {"missing 0.up.weight": "is missing", "missing norm.weight": "is missing"}
    found = mismatches(PLAIN, {"wte.weight": (11, 4)})
    assert found["missing {layer}.gate.weight"] == "is missing (none was found)"
    assert "missing norm.weight" in found


def test_unexpected() -> None:
    found = mismatches(PLAIN, {**GOOD, "0.gaet.weight": (6, 4), "other": (1,)})
    assert found == {
        "unexpected 0.gaet.weight": "is in no line of the spec; the nearest is "
        "'{layer}.{gate,up}.weight'",
        "unexpected other": "is in no line of the spec",
    }


def test_hints_are_given_for_the_first_names_only() -> None:
    names = {f"{n}.gaet.weight": (6, 4) for n in range(100)}
    found = mismatches(PLAIN, {**GOOD, **names})
    assert sum("nearest" in message for message in found.values()) == 20


def test_many_unexpected_names_take_no_time() -> None:
    shapes = {f"{n}.weight.of.something.else": (6, 4) for n in range(30_000)}
    begin = time.perf_counter()
    assert len(mismatches(PLAIN, {**GOOD, **shapes})) == 30_000
    assert time.perf_counter() - begin < 10


def test_a_wrong_rank_is_not_missing_too() -> None:
    found = mismatches(PLAIN, {**GOOD, "0.up.weight": (6,), "norm.weight": (4, 1)})
    assert found == {
        "rank 0.up.weight": "has 1 axes [6], expected 2 ('{layer}.{gate,up}.weight')",
        "rank norm.weight": "has 2 axes [4, 1], expected 1 ('norm.weight')",
    }


def test_wrong_sizes_name_the_expression_its_numbers_and_their_origin() -> None:
    found = mismatches(PLAIN, {**GOOD, "1.up.weight": (7, 4), "0.down.weight": (4, 9)})
    assert found == {
        "size 1.up.weight": "axis 0 is 7, expected ff[1] = 6 (ff[1] = 6 as in 1.gate.weight)",
        "size 0.down.weight": "axis 1 is 9, expected ff[0] = 6 (ff[0] = 6 as in 0.gate.weight)",
    }


def test_most_tensors_say_which_size_is_right() -> None:
    found = mismatches(PLAIN, {**GOOD, "wte.weight": (11, 5)})
    assert found == {
        "size wte.weight": "axis 1 is 5, expected embed = 4 (embed = 4 as in norm.weight)"
    }


def test_names_and_sizes_are_told_together() -> None:
    found = mismatches(PLAIN, {**without("norm.weight"), "other": (1,), "1.up.weight": (7, 4)})
    assert set(found) == {"missing norm.weight", "unexpected other", "size 1.up.weight"}


def test_sizes_from_config_are_checked_against_shapes() -> None:
    shapes = {"v": (12, 5), "o": (5, 12)}
    assert mismatches(HEADS, shapes, config={"num_heads": 5}) == {
        "size v": "axis 0 is 12, which does not solve (head value) = 5·value = ? "
        "(head = 5 is num_heads | n_head in config.json)",
        "size o": "axis 1 is 12, which does not solve (head value) = 5·value = ? "
        "(head = 5 is num_heads | n_head in config.json)",
    }
    assert mismatches(HEADS, shapes, sizes={"head": 3, "value": 5}) == {
        "size v": "axis 0 is 12, expected (head value) = 3·5 = 15 "
        "(head = 3 was given; value = 5 was given)",
        "size o": "axis 1 is 12, expected (head value) = 3·5 = 15 "
        "(head = 3 was given; value = 5 was given)",
    }


def test_sizes_that_nothing_tells() -> None:
    found = mismatches(HEADS, {"v": (12, 5), "o": (5, 12)})
    assert found == {
        "unsolved": "the shapes do not tell 'head' (num_heads | n_head in config.json); "
        "give config.json or --size head=N"
    }


def test_sizes_that_a_missing_tensor_would_tell_are_no_news() -> None:
    assert mismatches(HEADS, {"v": (12, 5)}) == {"missing o": "is missing"}


def test_sizes_that_the_spec_does_not_know() -> None:
    found = mismatches(HEADS, {"v": (12, 5), "o": (5, 12)}, sizes={"head": 3, "heads": 4})
    assert found == {"config": "the spec has no size 'heads'; did you mean 'head'?"}


def test_ambiguous() -> None:
    body = PLAIN + '  "{layer}.up.{kind=weight,bias}?": ff embed\n'
    body = body.replace('"{layer}.{gate,up}.weight"', '"{layer}.{m=gate,up}.weight"')
    found = mismatches(body, GOOD)
    assert found["ambiguous 0.up.weight"] == (
        "fits the lines '{layer}.{m=gate,up}.weight' and '{layer}.up.{kind=weight,bias}?'; "
        "let one of them say more"
    )
    assert not any(kind.startswith("missing") and "up" in kind for kind in found)


def test_one_text_in_all_names() -> None:
    body = """permutations:
  hidden[layer]: {from: input, to: output}
tensors:
  "{prefix*}{layer}.weight": hidden hidden[<layer]
"""
    found = mismatches(body, {"a.0.weight": (3, 2), "b.1.weight": (4, 3)})
    assert found == {
        "ambiguous": "{prefix*} must be the same text in all names, found 'a.' (a.0.weight), "
        "'b.' (b.1.weight)"
    }


def test_indices_that_are_not_there() -> None:
    body = """permutations:
  a[layer]:
tensors:
  "{layer}.in": a _
  "{layer}.next": _ a[<layer]
  out: _ a[-3]
"""
    found = mismatches(
        body, {f"{n}.{m}": (2, 2) for n in (4, 5) for m in ("in", "next")} | {"out": (2, 2)}
    )
    assert found["index 4.next"] == "'a[<layer]' is none of the indices found (4, 5)"
    assert found["index out"] == "'a[-3]' is none of the indices found (4, 5)"


def test_a_permutation_that_would_show_from_outside() -> None:
    body = """permutations:
  channel[conv]: {from: rgb}
tensors:
  "{conv}.weight": channel channel[<conv]
  "{conv}.bias": channel
  head.weight?: classes channel[-1]
"""
    shapes = {"0.weight": (4, 3), "0.bias": (4,), "1.weight": (5, 4), "1.bias": (5,)}
    found = mismatches(body, shapes)
    assert set(found) == {"index channel[1]"}
    assert found["index channel[1]"].startswith("stands on one matrix axis alone")
    header = {n: TensorInfo("F32", s) for n, s in {**shapes, "head.weight": (9, 5)}.items()}
    assert factors(bind(spec_of(body), header)) == {"channel[0]": 4, "channel[1]": 5}


EXPERTS = """permutations:
  embed:
  expert:
tensors:
  router: expert embed
  "{expert}.up": _ embed
  wte: vocab embed
"""


def test_tensors_that_trade_places_must_be_alike_and_all_there() -> None:
    shapes = {"router": (3, 4), "wte": (9, 4), **{f"{e}.up": (5, 4) for e in range(3)}}
    found = mismatches(EXPERTS, {**shapes, "1.up": (6, 4)})
    assert found == {
        "size 1.up": "is F32 [6, 4], but '0.up', which it can trade places with, is F32 [5, 4]"
    }
    del shapes["2.up"]
    found = mismatches(EXPERTS, shapes)
    assert set(found) == {"size router"}
    assert found["size router"] == "axis 0 is 3, expected expert = 2"


def test_a_child_beside_two_parents() -> None:
    body = HEADS + "  x: head head value\n  y: value (head value)\n"
    shapes = {"v": (6, 5), "o": (5, 6), "x": (3, 3, 2), "y": (2, 6)}
    found = mismatches(body, shapes, sizes={"head": 3})
    assert found == {
        "index x": "'value' depends on 'head', which stands beside it 2 times, expected once"
    }


def test_patterns_that_blow_up_on_a_checkpoint() -> None:
    body = """permutations:
  a[layer]:
tensors:
  "{layer}.in": a _
  big: a[:] (a[:] a[:])
"""
    shapes = {f"{n}.in": (1, 2) for n in range(50)} | {"big": (50, 2500)}
    found = mismatches(body, shapes)
    assert found["index big"] == "'big' spreads out to 125000 products, at most 100000"


def test_a_long_list_is_cut_in_the_message() -> None:
    with pytest.raises(BindingError) as caught:
        bind(spec_of(PLAIN), {f"x{n}": TensorInfo("F32", (1,)) for n in range(50)})
    assert str(caught.value).count("\n") == 21
    assert "more" in str(caught.value).splitlines()[-1]


GROUPS = """sizes: {g: groups}
permutations:
  g:
  out: {within: g}
  in:  {within: g}
tensors:
  before: (g in) _
  conv: (g out) in 3 3
  after: _ (g out)
"""


def test_a_single_group_ties_nothing_together() -> None:
    header = header_of(before=(6, 2), conv=(8, 6, 3, 3), after=(5, 8))
    one = bind(spec_of(GROUPS), header, config={"groups": 1})
    assert [f.parent for f in one.group.factors.values()] == [None, None, None]
    assert one.group.shape("out") == (8,)
    header = header_of(before=(6, 2), conv=(8, 3, 3, 3), after=(5, 8))
    two = bind(spec_of(GROUPS), header, config={"groups": 2})
    assert two.group.factors["out"].parent == "g"
    assert two.group.shape("out") == (2, 4)
