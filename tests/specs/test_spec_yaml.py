"""Hostile YAML is refused in a moment, with little memory, and by its line."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from rebasin_hub.errors import SpecError
from rebasin_hub.specfile import parse_spec
from rebasin_hub.yamlfile.safe import MAX_BYTES, decode, read_yaml

SPEC = """spec: 1
name: x
permutations:
  h:
tensors:
  a: h _
  b: _ h
"""
FULL = MAX_BYTES - 1_000


def repeated(line: str, size: int = FULL) -> str:
    """Return numbered copies of a line, `size` characters in all."""
    count = size // len(line.format(99_999) + "\n")
    return "".join(line.format(number) + "\n" for number in range(count))


HOSTILE = {
    "brackets": "[" * FULL,
    "braces": "{" * FULL,
    "open braces with keys": "{a: " * (FULL // 4),
    "dashes": "- " * (FULL // 2),
    "question marks": "? " * (FULL // 2),
    "colons": ": " * (FULL // 2),
    "quotes": '"' * FULL,
    "steps": "\n".join(" " * step + "a:" for step in range(1_400)),
    "alias bomb": "a0: &a0 [x]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40)),
    "aliases": "a: &a x\n" + repeated("b{}: *a"),
    "anchors": repeated("b{0}: &a{0} x"),
    "a million digits": "spec: " + "9" * FULL,
    "a million digits as a key": "9" * FULL + ": 1",
    "a long decimal": "spec: 1." + "9" * FULL,
    "a long text": SPEC + "description: " + "x" * (FULL - 200),
    "a long block": SPEC + "description: |\n" + "  x\n" * (FULL // 4 - 100),
    "documents": "---\n" * (FULL // 4),
    "directives": "%TAG ! tag:x,2000:\n" * 9_000,
    "unknown keys": repeated("k{}: x"),
    "permutations": SPEC.replace("  h:\n", "  h:\n" + repeated("  p{}:", FULL - 200)),
    "names": SPEC + repeated("  t{}: h _", FULL - 200),
    "alternatives": SPEC + repeated("  '{}.{{a,b}}{{a,b}}{{a,b}}{{a,b}}{{a,b}}': h _", 400_000),
    "dependence": SPEC.replace(
        "  h:\n", "  h:\n" + "".join(f"  p{i + 1}: {{within: p{i}}}\n" for i in range(900))
    ),
    "duplicate keys": SPEC + "  a: h _\n" * 90_000,
    "dates": repeated("k{}: 2001-12-14t21:59:43"),
    "numbers": repeated("k{}: 1_2:3.4e5"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_refused_quickly(name: str) -> None:
    text = HOSTILE[name]
    assert len(text) <= MAX_BYTES
    begin = time.perf_counter()
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    # On a quiet machine each takes less than half a second.
    assert time.perf_counter() - begin < 10
    assert len(caught.value.problems) <= 102
    assert all(len(str(problem)) < 500 for problem in caught.value.problems)


@pytest.mark.parametrize("name", ["alias bomb", "brackets", "a million digits", "names"])
def test_hostile_text_takes_little_memory(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(SpecError):
            parse_spec(HOSTILE[name])
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


def test_near_words_are_not_looked_for_without_end() -> None:
    permutations = "".join(f"  permutation{i}:\n" for i in range(1_000))
    # The same letters in another order: not near, and slow to tell so.
    lines = "".join(
        f"  t{i}: {' '.join(f'noitatumrep{i * 16 + j}' for j in range(16))}\n" for i in range(3_500)
    )
    begin = time.perf_counter()
    with pytest.raises(SpecError):
        parse_spec(f"spec: 1\nname: x\npermutations:\n{permutations}tensors:\n{lines}")
    assert time.perf_counter() - begin < 20


def test_the_number_of_values_is_limited() -> None:
    with pytest.raises(SpecError, match="holds more than 20000 values"):
        parse_spec(HOSTILE["unknown keys"])


def test_a_file_over_the_limit() -> None:
    with pytest.raises(SpecError, match="larger than 1048576 bytes"):
        parse_spec(SPEC + "#" * MAX_BYTES)
    with pytest.raises(ValueError, match="larger than"):
        decode(b"#" * (MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 12", 12),
        ("a: -3", -3),
        ("a: 0", 0),
        ("a: 1.5", 1.5),
        ("a: 1.0e-5", 1e-5),
        ("a: true", True),
        ("a: false", False),
        ("a: null", None),
        ("a: ~", None),
        ("a:", None),
        ("a: '12'", "12"),
        ('a: "true"', "true"),
        ("a: |\n  12", "12"),
        ("a: 12 b", "12 b"),
        ("a: hidden[<layer]", "hidden[<layer]"),
        ("a: [1, b, [true]]", [1, "b", [True]]),
        ("a: {b: {c: 1}}", {"b": {"c": 1}}),
        ("\ufeffa: 1", 1),
        ("a: 999999999999999", 999999999999999),
    ],
)
def test_plain_values(text: str, value: object) -> None:
    document = read_yaml(decode(text.encode()))
    assert document.flaws == ()
    assert document.value == {"a": value}
    assert type(document.value["a"]) is type(value)


AMBIGUOUS = ["yes", "On", "0777", "0o17", "0x1F", "1e3", "1_000", "12:30", ".5", "+3", "2020-01-01"]


@pytest.mark.parametrize("text", [*AMBIGUOUS, "TRUE", "Null", ".inf", ".NaN", "=", "1e5"])
def test_text_that_readers_of_yaml_disagree_on(text: str) -> None:
    flaws = read_yaml(f"a: {text}").flaws
    assert [flaw.path for flaw in flaws] == [("a",)]
    assert "write it in quotes" in flaws[0].message
    assert read_yaml(f"a: '{text}'").flaws == ()


def test_lines() -> None:
    document = read_yaml("# a comment\na:\n  b: 1\n\n  c:\n    - x\n    - y\n")
    assert document.lines == {
        (): 2,
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 5,
        ("a", "c", 0): 6,
        ("a", "c", 1): 7,
    }
    assert document.line_of(("a", "c", 1, "no", "such")) == 7
    assert document.line_of(("z",)) == 2
