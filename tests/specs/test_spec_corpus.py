"""Every file in `valid` is a spec; every file in `invalid` is refused in the words beside it."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from rebasin_hub.errors import SpecError
from rebasin_hub.specfile import load_spec, shipped_specs, validate_files
from rebasin_hub.specfile.schema import SCHEMA_ID, schema_text
from rebasin_hub.specfile.structure import read_structure
from rebasin_hub.yamlfile.safe import decode, read_yaml

HERE = Path(__file__).parent
VALID = sorted((HERE / "valid").glob("*.yaml"))
INVALID = sorted((HERE / "invalid").glob("*.yaml"))
SCHEMA = HERE.parents[1] / "specs" / "schema.json"


def names(paths: list[Path]) -> list[str]:
    return [path.stem for path in paths]


def content(path: Path) -> object:
    return read_yaml(decode(path.read_bytes())).value


@pytest.fixture(scope="module")
def schema() -> jsonschema.Draft202012Validator:
    text = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(text)
    return jsonschema.Draft202012Validator(text)


def test_the_corpus_is_there() -> None:
    assert len(VALID) >= 12
    assert len(INVALID) >= 40
    assert set(names(INVALID)) == {path.stem for path in (HERE / "invalid").glob("*.txt")}


@pytest.mark.parametrize("path", VALID, ids=names(VALID))
def test_valid(path: Path, schema) -> None:
    assert load_spec(path).name == path.stem
    schema.validate(content(path))


@pytest.mark.parametrize("path", INVALID, ids=names(INVALID))
def test_invalid(path: Path, monkeypatch) -> None:
    monkeypatch.chdir(path.parent)
    with pytest.raises(SpecError) as caught:
        load_spec(path.name)
    assert str(caught.value) + "\n" == path.with_suffix(".txt").read_text(encoding="utf-8")
    problems = caught.value.problems
    assert list(problems) == sorted(problems)
    assert validate_files([path.name]) == list(problems)


@pytest.mark.parametrize("path", INVALID, ids=names(INVALID))
def test_the_schema_refuses_what_the_program_refuses_in_structure(path: Path, schema) -> None:
    try:
        document = read_yaml(decode(path.read_bytes()))
    except ValueError:
        pytest.skip("is no text")
    if not document.whole:
        pytest.skip("is no YAML")
    assert schema.is_valid(document.value) == (not read_structure(document.value).findings)


@pytest.mark.parametrize("name", shipped_specs())
def test_shipped(name: str, schema) -> None:
    path = shipped_specs()[name]
    assert load_spec(path).name == name
    schema.validate(content(path))
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    assert first == "# yaml-language-server: $schema=schema.json"


def test_the_schema_is_the_one_that_the_models_make() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema_text(), (
        "run: python -m rebasin_hub.specfile.schema > specs/schema.json"
    )


def test_the_schema_tells_editors_what_each_key_means() -> None:
    schema = json.loads(schema_text())
    assert schema["$id"] == SCHEMA_ID
    assert schema["title"] == "rebasin-hub spec"
    kinds = [schema, *(kind for kind in schema["$defs"].values() if "properties" in kind)]
    for kind in kinds:
        for key, value in kind["properties"].items():
            assert value.get("description") or "$ref" in value, f"{kind['title']}.{key}"
