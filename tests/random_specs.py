"""Random specs with checkpoints that fit them, and a second, slow reading of what they mean.

A spec here is text, as a user writes it; the checkpoint's shapes are computed from the pattern's
text by `positions`, which shares nothing with the program but the parser.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from rebasin_hub.spec.pattern import Before, Integer, Product, Sum, Wildcard, Word, parse_pattern
from rebasin_hub.specfile import parse_spec
from rebasin_hub.tensors import TensorInfo

# A coordinate along one axis: for each factor of the axis the permutation that moves it (None for
# one that stays) and its index.
Coordinate = tuple[tuple[str | None, int], ...]

FIXED_AXES = ["_", "3", "(2 2)"]
FREE_AXES = ["e", "(2 e)", "(e 2)", "(e + 3 + e)", "(low + e + high)", "(2 (low + e + high))"]
HEAD_AXES = [
    "(h d)",
    "(h 2 d)",
    "(d h)",
    "(e + h d)",
    "(h d + 1 + h d)",
    "h",
    "(2 h)",
    "((e + h d) 2)",
]
ACROSS = [["h", "d"], ["d", "2", "h"], ["(h e)", "d"], ["(e + 2)", "(h d)", "(2 d)"]]


@dataclass(frozen=True)
class Case:
    """A spec's text, each tensor's pattern with its variables, and the size of every word."""

    text: str
    tensors: dict[str, tuple[str, dict[str, int]]]
    sizes: dict[str, int]
    layers: tuple[int, ...]

    @property
    def spec(self):
        return parse_spec(self.text, "random.yaml")

    @property
    def header(self) -> dict[str, TensorInfo]:
        return {name: TensorInfo("I64", self.shape(name)) for name in self.tensors}

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(len(axis) for axis in self.coordinates(name))

    def checkpoint(self) -> dict[str, np.ndarray]:
        """Return tensors of which no two elements are equal."""
        counter = itertools.count()
        return {
            name: np.fromiter(counter, np.int64, int(np.prod(self.shape(name)))).reshape(
                self.shape(name)
            )
            for name in self.tensors
        }

    def coordinates(self, name: str) -> list[list[Coordinate]]:
        """Return for each axis of a tensor what stands at each of its positions."""
        pattern, variables = self.tensors[name]
        return [self.positions(axis, variables) for axis in parse_pattern(pattern)]

    def positions(self, axis, variables) -> list[Coordinate]:
        match axis:
            case Integer(value):
                return [((None, i),) for i in range(value)]
            case Wildcard():
                return [((None, i),) for i in range(self.sizes["_"])]
            case Product(factors):
                each = [self.positions(factor, variables) for factor in factors]
                return [sum(choice, ()) for choice in itertools.product(*each)]
            case Sum(terms):
                # A mark that stays tells the terms apart, but parts trade places with one another.
                return [
                    c if self.is_part(term) else ((None, -1 - number), *c)
                    for number, term in enumerate(terms)
                    for c in self.positions(term, variables)
                ]
            case Word():
                return self.word(axis, variables)
        raise AssertionError(axis)

    @staticmethod
    def is_part(term) -> bool:
        return isinstance(term, Word) and term.name in {"low", "high"}

    def word(self, word: Word, variables) -> list[Coordinate]:
        if word.name in {"low", "high"}:
            offset = self.sizes["low"] if word.name == "high" else 0
            return [(("pad", offset + i),) for i in range(self.sizes["low"])]
        if word.name in {"e", "h", "d"}:
            return [((word.name, i),) for i in range(self.sizes[word.name])]
        if word.name in {"expert", "f"}:
            key = f"{word.name}[{variables['block']}]"
            return [((key, i),) for i in range(self.sizes[word.name])]
        assert word.name == "hidden"
        layer = variables["layer"]
        if word.index is not None:
            assert isinstance(word.index[-1], Before)
            below = [number for number in self.layers if number < layer]
            if not below:
                return [((None, i),) for i in range(self.sizes["input"])]
            layer = below[-1]
        if layer == self.layers[-1]:
            return [((None, i),) for i in range(self.sizes["output"])]
        return [((f"hidden[{layer}]", i),) for i in range(self.sizes[f"hidden[{layer}]"])]


@st.composite
def cases(draw) -> Case:
    """Draw a spec and the sizes of one checkpoint."""
    small = st.integers(1, 3)
    sizes = {word: draw(small) for word in ("e", "h", "d", "low", "f", "input", "output")}
    sizes |= {"_": 2, "expert": draw(small)}
    lines: dict[str, str] = {}
    tensors: dict[str, tuple[str, dict[str, int]]] = {}

    def line(key: str, pattern: str) -> None:
        lines[key] = pattern
        tensors[key] = (pattern, {})

    # Every permutation stands on two matrices, and alone somewhere, so that its size follows.
    for word in ("e", "(h d)", "(low + e + high)"):
        line(f"norm {word}", word)
        line(f"in {word}", f"{word} _")
        line(f"out {word}", f"_ {word}")
    layers = tuple(sorted(draw(st.sets(st.integers(0, 9), min_size=1, max_size=4))))
    sizes |= {f"hidden[{layer}]": draw(small) for layer in layers}
    lines["net.{layer}.weight"] = "hidden hidden[<layer]"
    lines["net.{layer}.bias"] = "hidden"
    for layer in layers:
        tensors[f"net.{layer}.weight"] = ("hidden hidden[<layer]", {"layer": layer})
        tensors[f"net.{layer}.bias"] = ("hidden", {"layer": layer})
    expert_axes = draw(st.sampled_from(["f e", "e f", "f (e + 2)", "(2 f) e"]))
    lines["moe.{block}.router"] = "expert e"
    lines["moe.{block}.{expert}.up"] = expert_axes
    lines["moe.{block}.{expert}.down"] = "e f"
    for block in range(draw(st.integers(1, 2))):
        tensors[f"moe.{block}.router"] = ("expert e", {"block": block})
        for expert in range(sizes["expert"]):
            at = {"block": block, "expert": expert}
            tensors[f"moe.{block}.{expert}.up"] = (expert_axes, at)
            tensors[f"moe.{block}.{expert}.down"] = ("e f", at)
    plain = st.lists(
        st.sampled_from(FIXED_AXES + FREE_AXES + HEAD_AXES[:1]), min_size=1, max_size=3
    )
    headed = st.sampled_from(HEAD_AXES).map(lambda axis: [axis])
    for number, axes in enumerate(
        draw(st.lists(st.one_of(plain, headed, st.sampled_from(ACROSS)), max_size=5))
    ):
        line(f"extra.{'abcde'[number]}", " ".join(axes))
    body = "".join(f'  "{key}": {pattern}\n' for key, pattern in lines.items())
    text = (
        "spec: 1\nname: random\n"
        f"sizes: {{h: {sizes['h']}}}\n"
        "permutations:\n  e:\n  h:\n  d: {within: h}\n  pad: {parts: [low, high]}\n"
        "  hidden[layer]: {from: input, to: output}\n"
        "  expert[block]:\n  f[block]: {within: expert}\n"
        f"tensors:\n{body}"
    )
    return Case(text, tensors, sizes, layers)
