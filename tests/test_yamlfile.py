"""YAML files against models: every problem at once, by line, in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import jsonschema
import pytest
from pydantic import Field, ValidationError, model_validator

from rebasin_hub import errors
from rebasin_hub.yamlfile import Strict, json_schema, load, parse, schema_text

YAML_NAME = "^[a-z]+$"


class Model(Strict):
    """One model of a recipe."""

    path: str
    """Where it lies."""
    weight: float | list[float] = 1.0


class Options(Strict):
    lowest: Annotated[float, Field(gt=0, lt=2)] = 1.0
    nothing: None = None


class Recipe(Strict):
    """A recipe."""

    method: Literal["linear", "slerp"]
    models: Annotated[list[Model], Field(min_length=1, max_length=3)]
    rounds: Annotated[int, Field(ge=1, le=9)] = 1
    dry: bool = False
    options: Options | None = None
    base: Model | str | None = None
    note: Annotated[str, Field(min_length=1, max_length=10, pattern=YAML_NAME)] | None = None
    names: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _weights(self) -> Self:
        if self.method == "slerp" and len(self.models) > 2:
            raise ValueError("slerp takes two models")
        return self


GOOD = """method: linear
models:
  - path: a
  - path: b
    weight: [0.5, 1]
"""


def problems(text: str) -> list[str]:
    with pytest.raises(errors.FileError) as caught:
        parse(text, Recipe, "recipe", "r.yaml")
    assert str(caught.value).splitlines() == [str(p) for p in caught.value.problems]
    return [str(p).removeprefix("r.yaml") for p in caught.value.problems]


def test_a_good_file_is_its_model(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(GOOD + "names: {float: x}\n", encoding="utf-8")
    recipe = load(path, Recipe, "recipe")
    assert [m.weight for m in recipe.models] == [1.0, [0.5, 1]]
    assert recipe.names == {"float": "x"}
    assert parse(GOOD, Recipe, "recipe").models == recipe.models


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("round: 2", ":6 round: is no key of a recipe; did you mean 'rounds'?"),
        ("zzz: 2", ":6 zzz: is no key of a recipe"),
        ("rounds: 1.5", ":6 rounds: expected a whole number, found the number 1.5"),
        ("rounds: true", ":6 rounds: expected a whole number, found true"),
        ("rounds: two", ":6 rounds: expected a whole number, found 'two'"),
        ("rounds: 0", ":6 rounds: expected 1 or more, found the number 0"),
        ("rounds: 10", ":6 rounds: expected 9 or less, found the number 10"),
        ("dry: 1", ":6 dry: expected true or false, found the number 1"),
        ("options: 3", ":6 options: expected keys and values, found the number 3"),
        ("options: {lowest: 0}", ":6 options.lowest: expected a number above 0.0, found the num"),
        ("options: {lowest: 3}", ":6 options.lowest: expected a number below 2.0, found the num"),
        ("options: {lowest: x}", ":6 options.lowest: expected a number, found 'x'"),
        ("options: {nothing: x}", ":6 options.nothing: expected nothing, found 'x'"),
        ("options: {lovest: 1}", ":6 options.lovest: is no key of a recipe; did you mean 'lowest'"),
        ("names: {a: 1}", ":6 names.a: expected text, found the number 1"),
        ("names: [a]", ":6 names: expected keys and values, found a list"),
        ("base: 3", ":6 base: expected keys and values or text, found the number 3"),
        ("base: {path: 3}", ":6 base.path: expected text, found the number 3"),
        ("base: {pat: x}", ":6 base.pat: is no key of a recipe; did you mean 'path'?"),
        ("note: ''", ":6 note: is empty"),
        ("note: abcdefghijk", ":6 note: is longer than 10 characters"),
        ("note: A", ":6 note: expected text that matches ^[a-z]+$, found 'A'"),
        ("note: &x a", ":6 note: '&x' is a YAML anchor; leave it out"),
        ("rounds: 1e3", ":6 rounds: '1e3' is"),
        ("method: linear", ":6 method: stands twice; first on line 1"),
    ],
)
def test_what_is_wrong_is_told_by_its_line(change: str, expected: str) -> None:
    found = problems(GOOD + change + "\n")
    assert found[0].startswith(expected)
    assert len(found) == (2 if change.startswith("base: {pat:") else 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ":1 expected the keys of a recipe, found nothing"),
        ("- a", ":1 expected the keys of a recipe, found a list"),
        ("a: [", " is not YAML"),
        (GOOD.replace("linear", "lineer"), ":1 method: expected 'linear' or 'slerp', found 'line"),
        (GOOD.replace("[0.5, 1]", "x"), ":5 models.1.weight: expected a number or a list, found "),
        (GOOD.replace("[0.5, 1]", "[x]"), ":5 models.1.weight.0: expected a number, found 'x'"),
        (GOOD.replace("path: a", "pth: a"), ":3 models.0.path: is missing"),
        ("method: linear\nmodels: []", ":2 models: is empty"),
        ("method: slerp\nmodels:" + "\n- path: a" * 3, ":1 slerp takes two models"),
        ("method: linear\nmodels:" + "\n- path: a" * 4, ":2 models: has more than 3 entries"),
        ("models: [{path: a}]", ":1 method: is missing"),
    ],
)
def test_what_is_wrong_with_the_whole(text: str, expected: str) -> None:
    assert any(expected in problem for problem in problems(text))


def test_the_nearest_choice_is_named() -> None:
    assert problems(GOOD.replace("linear", "lineer"))[0].endswith("; did you mean 'linear'?")


def test_all_problems_come_at_once_in_file_order() -> None:
    text = "method: lineer\nmodels:\n  - path: 1\n    wight: 1\nround: 1\n"
    lines = [int(p.split()[0].lstrip(":")) for p in problems(text)]
    assert lines == [1, 3, 4, 5]


def test_too_many_problems_are_counted() -> None:
    found = problems("".join(f"k{i}: 1\n" for i in range(150)))
    assert len(found) <= 101
    names = "names: {" + ", ".join(f"k{i}: &a{i} x" for i in range(90)) + "}\n"
    found = problems(names + "".join(f"k{i}: 1\n" for i in range(60)))
    assert found[-1].endswith("more problems")
    assert len(found) == 101


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"note: \xff\n")
    for name, message in {
        "missing.yaml": "cannot be read: No such file",
        ".": "is not a file",
        "latin.yaml": "is not UTF-8",
    }.items():
        with pytest.raises(errors.FileError, match=message):
            load(tmp_path / name, Recipe, "recipe")


def test_a_strict_model_takes_no_infinity_and_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Options(lowest=float("nan"))
    model = Options(lowest=0.5)
    with pytest.raises(ValidationError):
        model.lowest = 1.0


def test_a_spec_is_wrong_in_the_same_way() -> None:
    assert issubclass(errors.SpecError, errors.FileError)
    assert issubclass(errors.FileError, errors.InputError)


def test_the_schema_says_what_the_model_takes() -> None:
    schema = json_schema(Recipe, "urn:test")
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"method": "linear", "models": [{"path": "a"}]})
    assert not validator.is_valid({"method": "linear", "models": [{"path": "a", "x": 1}]})
    assert schema["$defs"]["Model"]["properties"]["path"]["description"] == "Where it lies."
    assert schema_text(Recipe, "urn:test").endswith("}\n")
