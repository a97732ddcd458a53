"""Reading spec files: where they lie, what their digest means, and what is not imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import rebasin_hub.specfile.shipped as shipped_module
from rebasin_hub.errors import InputError, SpecError
from rebasin_hub.specfile import (
    find_spec,
    load_spec,
    parse_spec,
    shipped_specs,
    spec_digest,
    spec_path,
    validate_files,
)

SPEC = """spec: 1
name: two
permutations:
  hidden:
  other[layer]:
tensors:
  first.weight: hidden input
  second.{weight,bias}?: [output hidden, output]
  "{layer}.up": other hidden
  "{layer}.down": hidden other
"""


def digest(text: str) -> str:
    return spec_digest(parse_spec(text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("spec: 1\n", "# a comment\n\nspec: 1\n"),
        ("name: two", "name: three\ndescription: other\nsource: elsewhere"),
        ("name: two", "name: two\nmatch: {model_type: [a]}\nexample: {zoo: MLP}\nprefixes: []"),
        ("  hidden:\n  other[layer]:\n", "  other[ layer ]:\n  hidden: {group: permutation}\n"),
        ("hidden input", " ( hidden )   input"),
        ("[output hidden, output]", "[output, output hidden]"),
        (
            "  second.{weight,bias}?: [output hidden, output]\n",
            "  second.weight?: [output hidden, output]\n  second.bias?: [output hidden, output]\n",
        ),
        ("name: two", "name: two\nsizes: {input: null}"),
    ],
)
def test_the_digest_stays_where_the_meaning_does(old: str, new: str) -> None:
    assert old in SPEC
    assert digest(SPEC.replace(old, new)) == digest(SPEC)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("name: two", "name: two\nprefixes: [a.]"),
        ("name: two", "name: two\nsizes: {input: 3}"),
        ("name: two", "name: two\nignore: {mask: nothing}"),
        ("  hidden:\n", "  hidden:\n  within: {within: hidden}\n"),
        ("other[layer]:", "other[layer]: {from: input}"),
        ("other[layer]:", "other[layer]: {to: output}"),
        ("hidden input", "hidden _"),
        ("bias}?", "bias}"),
        ("{layer}.up", "{layer}.upper"),
        ("up", "{up,down2}"),
        (
            "tensors:\n  first.weight: hidden input\n",
            "statistics:\n  first.weight: hidden input\ntensors:\n",
        ),
    ],
)
def test_the_digest_changes_with_the_meaning(old: str, new: str) -> None:
    assert old in SPEC
    text = SPEC.replace(old, new)
    if "within" in new:
        text += "  a: (hidden within) _\n  b: _ (hidden within)\n"
    if "statistics" in new:
        text += "  third.weight: hidden _\n"
    assert digest(text) != digest(SPEC)


def test_the_digest_is_stored_in_permutation_files() -> None:
    """Where this digest changes, permutation files that exist already can no longer be used."""
    assert digest(SPEC) == "e5daadb99678d230d1a336eac90e1dc3eca1be2699ab9a2c1326fe2a4dabb015"


def test_everything_of_a_spec_is_kept() -> None:
    spec = parse_spec(
        SPEC
        + "description: d\nsource: s\nprefixes: [p.]\nmatch: {model_type: [m]}\n"
        "sizes: {input: a | 2, output: 3, free:}\nignore: {mask: why}\n"
        "example: {zoo: MLP, arguments: {a: 1}}\n  \n".replace(", free:", "")
    )
    assert (spec.name, spec.description, spec.source) == ("two", "d", "s")
    assert spec.prefixes == ("p.",)
    assert spec.match == {"model_type": ("m",)}
    assert spec.sizes == {"input": "a | 2", "output": 3}
    assert [(str(i.template), i.reason) for i in spec.ignores] == [("mask", "why")]
    assert spec.examples == ({"zoo": "MLP", "arguments": {"a": 1}},)
    assert {n: p.indices for n, p in spec.permutations.items()} == {
        "hidden": (),
        "other": ("layer",),
    }
    assert [(str(n.template), n.rank, n.optional, n.key) for n in spec.lines[:3]] == [
        ("first.weight", 2, False, "first.weight"),
        ("second.weight", 2, True, "second.{weight,bias}?"),
        ("second.bias", 2, True, "second.{weight,bias}?"),
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    good = tmp_path / "good.yaml"
    good.write_text(SPEC, encoding="utf-8")
    bad = tmp_path / "bad.yaml"
    bad.write_text("spec: 2\n", encoding="utf-8")
    paths = [tmp_path / "missing.yaml", good, tmp_path, bad]
    found = [(Path(p.file).name, p.line, p.key) for p in validate_files(paths)]
    assert found[:2] == [("missing.yaml", 0, ""), (tmp_path.name, 0, "")]
    assert {name for name, _, _ in found[2:]} == {"bad.yaml"}
    with pytest.raises(SpecError, match=r"missing\.yaml cannot be read: No such file"):
        load_spec(paths[0])


@pytest.mark.skipif(os.name == "nt", reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(SpecError, match="is not a file"):
        load_spec(tmp_path / "pipe.yaml")


def test_too_many_problems_are_counted() -> None:
    text = SPEC + "".join(f"  t{i}: (hidden\n" for i in range(300))
    with pytest.raises(SpecError) as caught:
        parse_spec(text, "many.yaml")
    assert str(caught.value.problems[-1]) == "many.yaml has 200 more problems"


def test_shipped_specs_are_found_by_name_and_by_path() -> None:
    paths = shipped_specs()
    assert {"bert", "gpt2", "llama", "mlp", "resnet", "resnet-cifar", "vgg"} <= set(paths)
    assert list(paths) == sorted(paths)
    for name, path in paths.items():
        assert find_spec(name).name == name
        assert spec_path(str(path)) == path


def test_a_spec_that_is_nowhere(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"'lama' is neither.*did you mean 'llama'\?"):
        find_spec("lama")
    with pytest.raises(InputError, match=r"'zzzz' is neither.*there are bert"):
        find_spec("zzzz")
    for path in ("own.yaml", "folder/own"):
        with pytest.raises(InputError, match="there is no such spec file"):
            find_spec(path)
    Path("own").write_text(SPEC, encoding="utf-8")
    assert find_spec("own").name == "two"


def test_shipped_specs_are_found_inside_a_wheel(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "site-packages" / "rebasin_hub" / "specs"
    folder.mkdir(parents=True)
    (folder / "two.yaml").write_text(SPEC, encoding="utf-8")
    monkeypatch.setattr(shipped_module, "_PACKAGE", folder.parent)
    assert shipped_specs() == {"two": folder / "two.yaml"}
    assert find_spec("two").name == "two"


def test_validation_imports_nothing_heavy() -> None:
    program = (
        "import sys; from rebasin_hub.specfile import validate_files; "
        "assert not validate_files(sys.argv[1:]); "
        "print([m for m in ('numpy', 'scipy', 'torch', 'typer', 'rich') if m in sys.modules])"
    )
    command = [sys.executable, "-c", program, *map(str, shipped_specs().values())]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    assert result.stdout == "[]\n"
