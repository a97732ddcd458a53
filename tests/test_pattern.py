"""The languages of patterns and of tensor names: what is printed is read back, traps are none."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rebasin_hub.spec.pattern import (
    All,
    Before,
    Integer,
    Literal,
    Product,
    Sum,
    Variable,
    Wildcard,
    Word,
    blocks,
    parse_pattern,
    words,
)
from rebasin_hub.spec.template import parse_template

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True).filter(
    lambda name: name not in {"_", "scalar"}
)
INDICES = st.one_of(
    st.builds(Variable, NAMES),
    st.builds(Literal, st.integers(-9, 99)),
    st.builds(Before, NAMES, st.booleans()),
    st.builds(All, st.none() | NAMES),
)
WORDS = st.builds(Word, NAMES, st.none() | st.lists(INDICES, min_size=1, max_size=3).map(tuple))
LEAVES = st.one_of(WORDS, st.builds(Integer, st.integers(1, 2**31 - 1)), st.just(Wildcard()))


def _sum(terms):
    """A sum directly inside a sum is one sum."""
    return Sum(tuple(p for t in terms for p in (t.terms if isinstance(t, Sum) else (t,))))


AXES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda factors: Product(tuple(factors))),
        st.lists(inner, min_size=2, max_size=3).map(_sum),
    ),
    max_leaves=6,
)
PATTERNS = st.lists(AXES, max_size=4).map(tuple)


def shown(pattern) -> str:
    return " ".join(map(str, pattern)) or "scalar"


@given(PATTERNS)
def test_patterns_are_printed_as_they_are_read(pattern) -> None:
    assert parse_pattern(shown(pattern)) == pattern
    assert parse_pattern(f"  {shown(pattern).replace(' ', '   ')} ") == pattern


@given(PATTERNS)
def test_words_and_blocks(pattern) -> None:
    assert all(str(word) in shown(pattern) for axis in pattern for word in words(axis))
    assert blocks(pattern) >= 1
    if "+" not in shown(pattern):
        assert blocks(pattern) == 1


@given(st.text(alphabet="ab1_ ()[]+<=:,-{}*?", max_size=20))
def test_any_text_is_a_pattern_or_a_value_error(text: str) -> None:
    try:
        pattern = parse_pattern(text)
    except ValueError:
        return
    assert parse_pattern(shown(pattern)) == pattern


@given(st.text(alphabet="ab1_.={}*?,", min_size=1, max_size=20))
def test_any_text_is_a_template_or_a_value_error(text: str) -> None:
    try:
        templates, optional = parse_template(text)
    except ValueError:
        return
    assert optional == text.endswith("?")
    for template in templates:
        assert parse_template(str(template) + "?")[0] == (template,)
        values = dict.fromkeys(template.variables, 7)
        values |= {name: options[0] for name, options in template.choices}
        if template.text is not None:
            values[template.text] = "x"
        assert template.match(template.fill(values)) is not None


def test_a_pattern_in_full() -> None:
    assert parse_pattern("(kv group 2) _ ff[<layer,-1] (a + b[:] c)") == (
        Product((Word("kv"), Word("group"), Integer(2))),
        Wildcard(),
        Word("ff", (Before("layer"), Literal(-1))),
        Sum((Word("a"), Product((Word("b", (All(),)), Word("c"))))),
    )
    assert parse_pattern("((a))") == (Word("a"),)
    assert parse_pattern("(a + (b + c))") == parse_pattern("(a + b + c)")
    assert parse_pattern("scalar") == ()
    assert parse_pattern("x[<=i] x[:i] x[0]") == (
        Word("x", (Before("i", inclusive=True),)),
        Word("x", (All("i"),)),
        Word("x", (Literal(0),)),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a pattern is empty"),
        ("a $", r"unexpected '\$' at column 3"),
        ("(a", "ends too early"),
        ("a)", r"found '\)' at column 2"),
        ("a + b", r"found '\+' at column 3"),
        ("a scalar", "'scalar' stands alone"),
        ("0", "0 is not between 1 and 2147483647"),
        ("9" * 5_000, "at most 2000 characters"),
        ("9" * 1_900, "999999999999… is not between"),
        ("a[", "ends too early"),
        ("a[-0]", "0 is not between 1"),
        ("(" * 20 + "a" + ")" * 20, "more than 8 deep"),
        ("a " * 17, "at most 16 axes"),
        ("(" + "a + " * 63 + "a) (" + "a + " * 64 + "a)", "4160 products, at most 4096"),
    ],
)
def test_wrong_patterns(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_pattern(text)


def test_templates() -> None:
    (template,), optional = parse_template("h.{layer}.attn.weight?")
    assert optional
    assert template.variables == ("layer",)
    assert template.match("h.12.attn.weight") == {"layer": 12}
    for name in ("h.012.attn.weight", "h.-1.attn.weight", "h.x.attn.weight", "h.1.attn.weight.b"):
        assert template.match(name) is None
    assert template.match("h.1234567890.attn.weight") is None
    assert template.fill({"layer": 3}) == "h.3.attn.weight"
    assert template.fill({}) == "h.{layer}.attn.weight"


def test_alternatives_are_spread_out() -> None:
    templates, _ = parse_template("{gate,up}.{weight,bias}")
    assert [str(t) for t in templates] == ["gate.weight", "gate.bias", "up.weight", "up.bias"]
    templates, _ = parse_template("{tower=text,vision}.{a,b}")
    assert [str(t) for t in templates] == ["{tower=text,vision}.a", "{tower=text,vision}.b"]
    assert templates[0].match("vision.a") == {"tower": "vision"}
    assert templates[0].match("audio.a") is None


def test_any_text_is_the_shortest_that_fits() -> None:
    (template,), _ = parse_template("{prefix*}{layer}.weight")
    assert template.variables == ("layer",)
    assert template.match("net.10.weight") == {"prefix": "net.", "layer": 10}
    assert template.match("7.weight") == {"prefix": "", "layer": 7}
    assert template.match("a.weight.1.weight") == {"prefix": "a.weight.", "layer": 1}


def test_signs_of_regular_expressions_are_text() -> None:
    (template,), _ = parse_template("a.*(b|c)+[d]^$\\w{i}")
    assert template.match("a.*(b|c)+[d]^$\\w3") == {"i": 3}
    assert template.match("aXb3") is None


TRAPS = {
    "text": ("{p*}" + "a" * 900 + "b", "a" * 1_999),
    "text and numbers": ("{p*}1.{i}1.{j}1.{k}1.x", "1." * 999),
    "numbers": (
        ".".join(f"{{{letter}}}" for letter in string.ascii_lowercase) + ".x",
        ".".join(["123456789"] * 26) + ".y",
    ),
    "choices": ("{i=a,aa}a{j=a,aa}a{k=a,aa}a{l=a,aa}a{m=a,aa}{n=a,aa}{o=a,aa}b", "a" * 1_999),
    "a name of 100 kB": ("{p*}{i}.weight", "1" * 100_000),
    "a prefix of 100 kB": ("{p*}.weight", "a" * 100_000 + ".weight"),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_matching_takes_no_time(trap: str) -> None:
    text, name = TRAPS[trap]
    (template,), _ = parse_template(text)
    begin = time.perf_counter()
    for _ in range(10):
        assert template.match(name) is None
    assert time.perf_counter() - begin < 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{a*}{a*}", "has two texts"),
        ("{a*}.{b*}", "has two texts"),
        ("{a}{b}", "two numbers touch"),
        ("{a}12{b}", "two numbers touch"),
        ("{a}{b=x,y}{c}", "two numbers touch"),
        ("{a}.{a}", "stands twice"),
        ("{a=x,y}.{a}", "stands twice"),
        ("{a", "braces do not pair up"),
        ("{{a}}", "braces do not pair up"),
        ("{1a}", "is no variable"),
        ("{a,a}", "empty or not distinct"),
        ("{a=}", "empty or not distinct"),
        ("?", "a tensor's name is empty"),
        ("{a,b}" * 9, "stands for 512 names"),
        ("{x=a,b,c}" * 300, "at most 2000 characters"),
        ("x" * 2_001, "at most 2000 characters"),
    ],
)
def test_wrong_templates(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_template(text)
