"""Detection: the spec that fits a checkpoint is found, and if none does, the nearest are told."""

from __future__ import annotations

import pytest

from rebasin_hub.bind.detect import detect
from rebasin_hub.errors import DetectionError
from rebasin_hub.specfile import load_spec, parse_spec, shipped_specs
from rebasin_hub.tensors import TensorInfo


def spec(name: str, lines: str, *, model_type: str = "", permutations: str = "  embed:\n"):
    match = f"match: {{model_type: [{model_type}]}}\n" if model_type else ""
    return parse_spec(
        f"spec: 1\nname: {name}\n{match}permutations:\n{permutations}tensors:\n{lines}"
    )


def header(**shapes: tuple[int, ...]) -> dict[str, TensorInfo]:
    return {name.replace("__", "."): TensorInfo("F32", shape) for name, shape in shapes.items()}


LINES = "  wte.weight: vocab embed\n  norm.weight: embed\n  head.weight: classes embed\n"
EXACT = spec("exact", LINES)
LOOSE = spec("loose", '  "{m=wte,norm,head}.weight": [_ embed, embed]\n')
NAMED = spec("named", LINES, model_type="tiny")
OTHER = spec("other", "  a.weight: _ embed\n  b.weight: embed _\n")
MODEL = header(wte__weight=(9, 4), norm__weight=(4,), head__weight=(5, 4))


def found(specs, config=None, tensors=MODEL, sizes=None) -> str:
    return detect(tensors, config, specs, sizes).spec.name


def refusal(specs, config=None, tensors=MODEL, sizes=None) -> str:
    with pytest.raises(DetectionError) as caught:
        detect(tensors, config, specs, sizes)
    return str(caught.value)


def test_the_one_that_fits() -> None:
    assert found([OTHER, EXACT]) == "exact"
    binding = detect(MODEL, None, [OTHER, EXACT])
    assert binding.group.factors["embed"].size == 4


def test_the_one_that_spells_out_more_goes_first() -> None:
    assert found([LOOSE, EXACT]) == found([EXACT, LOOSE]) == "exact"


def test_the_one_that_names_the_model_type_goes_first() -> None:
    assert found([EXACT, NAMED], {"model_type": "tiny"}) == "named"
    named_loose = spec("named", '  "{m=wte,norm,head}.weight": [_ embed, embed]\n', model_type="t")
    assert found([EXACT, named_loose], {"model_type": "t"}) == "named"


def test_a_spec_of_another_model_type_does_not_fit() -> None:
    assert found([EXACT, NAMED], {"model_type": "huge"}) == "exact"
    text = refusal([NAMED], {"model_type": "huge"})
    assert "spec 'named' describes every tensor, but is for tiny, and config.json says huge" in text
    assert "give --spec named" in text


def test_an_architecture_decides_between_models_of_one_type() -> None:
    def model(name: str, architecture: str):
        match = f"match: {{model_type: [t], architectures: [{architecture}]}}\n"
        return parse_spec(
            f"spec: 1\nname: {name}\n{match}permutations:\n  embed:\ntensors:\n{LINES}"
        )

    specs = [model("one", "OneModel"), model("two", "TwoModel")]
    assert found(specs, {"model_type": "t", "architectures": ["TwoModel"]}) == "two"
    assert "equally well" in refusal(specs, {"model_type": "t"})
    text = refusal(specs[:1], {"model_type": "t", "architectures": ["TwoModel"]})
    assert "is for t, OneModel, and config.json says t, TwoModel" in text


def test_a_model_type_is_asked_for_only_where_there_is_one() -> None:
    assert found([NAMED]) == "named"
    assert found([NAMED], {"hidden_size": 4}) == "named"
    assert found([EXACT], {"model_type": "tiny"}) == "exact"


def test_two_that_fit_equally_well() -> None:
    text = refusal([EXACT, OTHER, spec("twin", LINES)])
    assert text.startswith("these specs fit equally well; choose one with --spec\n")
    assert [line.split(":")[0].strip() for line in text.splitlines()[1:]] == ["exact", "twin"]


def test_none_fits() -> None:
    text = refusal([EXACT, OTHER], tensors={**MODEL, **header(extra=(3,), more=(2,))})
    assert text.splitlines() == [
        "none of 2 specs fits this checkpoint of 5 tensors",
        "spec 'exact' matched 3 of 5 tensors:",
        "  extra: is in no line of the spec",
        "  more: is in no line of the spec",
        "Give a spec of your own with --spec FILE; specs/README.md tells how to write it.",
    ]


def test_the_nearest_three_are_told_nearest_first() -> None:
    words = ["amber", "birch", "cedar", "dogwood", "elm", "fir"]
    tensors = header(**dict.fromkeys(words, (4, 4)))
    specs = [
        spec(f"s{n}", "".join(f"  {word}: embed embed\n" for word in words[:n]))
        for n in range(1, 6)
    ]
    lines = refusal(specs, tensors=tensors).splitlines()
    assert [line for line in lines if line.startswith("spec ")] == [
        f"spec 's{n}' matched {n} of 6 tensors:" for n in (5, 4, 3)
    ]
    assert "  … and 0 more" not in lines
    few = refusal(specs[:1], tensors=tensors).splitlines()
    assert few[2:6] == [
        *(f"  {word}: is in no line of the spec" for word in words[1:4]),
        "  … and 2 more",
    ]


def test_none_knows_any_name() -> None:
    text = refusal([EXACT, OTHER], tensors=header(x=(1,), y=(1,), z=(1,), w=(1,)))
    assert "none has a line for any of its names, such as 'x', 'y', 'z'" in text
    assert "spec '" not in text
    assert "such as none at all" in refusal([EXACT], tensors={})


def test_the_spec_that_the_config_names_comes_first_and_in_full() -> None:
    tensors = {
        **MODEL,
        **header(a__weight=(3, 4), b__weight=(4, 3), **{f"x{n}": (1,) for n in range(9)}),
    }
    lines = refusal([OTHER, NAMED, EXACT], {"model_type": "tiny"}, tensors).splitlines()
    assert lines[1] == "config.json says model_type 'tiny':"
    assert lines[2] == "spec 'named' does not fit (11 mismatches):"
    assert lines[13] == "  x8: is in no line of the spec"
    assert lines[14] == "spec 'exact' matched 3 of 14 tensors:"


def test_sizes_decide_too() -> None:
    heads = spec(
        "heads",
        "  v: (head value) _\n  o: _ (head value)\n",
        permutations="  head:\n  value: {within: head}\nsizes: {head: num_heads}\n",
    )
    tensors = header(v=(12, 5), o=(5, 12))
    text = refusal([heads, EXACT], tensors=tensors)
    assert text == (
        "spec 'heads' describes every tensor, but the shapes do not tell 'head' "
        "(num_heads in config.json); give config.json or --size head=N"
    )
    assert found([heads], tensors=tensors, sizes={"head": 3}) == "heads"


def test_shipped_specs_are_told_apart_by_a_whole_network() -> None:
    specs = [load_spec(path) for path in shipped_specs().values()]
    tensors = {}
    for n, (out, into) in enumerate([(30, 10), (20, 30), (5, 20)]):
        tensors[f"layers.{n}.weight"] = TensorInfo("F32", (out, into))
        tensors[f"layers.{n}.bias"] = TensorInfo("F32", (out,))
    assert found(specs, tensors=tensors) == "mlp"
    del tensors["layers.1.weight"]
    text = refusal(specs, tensors=tensors)
    assert "spec 'mlp' matched 5 of 5 tensors:" in text
    assert "layers.1.weight: is missing" in text
