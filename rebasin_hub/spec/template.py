"""The language of tensor names: templates with variables and alternatives.

A template is a tensor's name with `{layer}` for a number, `{gate,up}` for alternatives that are
all there, `{tower=text,vision}` for alternatives that index permutations, `{prefix*}` for any text
(the same one throughout a checkpoint), and a final `?` for a tensor that may be missing.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from rebasin_hub.spec.pattern import Variable

__all__ = ["Template", "parse_template"]

MAX_LENGTH = 2_000
MAX_ALTERNATIVES = 256


@dataclass(frozen=True)
class Template:
    """A tensor name with variables, its alternatives already spread out into templates.

    `parts` alternates literal text and variables; `choices` holds the values of variables that
    stand for named alternatives; `text` names the variable that stands for any text.
    """

    parts: tuple[str | Variable, ...]
    choices: tuple[tuple[str, tuple[str, ...]], ...] = ()
    text: str | None = None

    def __str__(self) -> str:
        choices = {name: f"{name}={','.join(options)}" for name, options in self.choices}
        if self.text is not None:
            choices[self.text] = f"{self.text}*"
        return "".join(
            part if isinstance(part, str) else f"{{{choices.get(part.name, part.name)}}}"
            for part in self.parts
        )

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """The variables that can index permutations, in written order."""
        return tuple(p.name for p in self.parts if isinstance(p, Variable) and p.name != self.text)

    @cached_property
    def _regex(self) -> re.Pattern[str]:
        # Built of escaped literals, numbers that end where their text does, a bounded number of
        # literal choices and at most one lazy run of text, so that there is little to backtrack.
        choices = dict(self.choices)

        def piece(part: str | Variable) -> str:
            if isinstance(part, str):
                return re.escape(part)
            if part.name == self.text:
                return f"(?P<{part.name}>.*?)"
            if part.name in choices:
                return f"(?P<{part.name}>{'|'.join(map(re.escape, choices[part.name]))})"
            return f"(?P<{part.name}>0|[1-9][0-9]{{0,8}})"

        return re.compile("".join(map(piece, self.parts)), re.DOTALL)

    def match(self, name: str) -> dict[str, int | str] | None:
        """Return the variables' values if a name fits, numbers as int; else None.

        A name of more than 2000 characters fits nothing.
        """
        found = self._regex.fullmatch(name) if len(name) <= MAX_LENGTH else None
        if found is None:
            return None
        return {
            key: int(value) if key in self._numbers else value
            for key, value in found.groupdict().items()
        }

    @cached_property
    def _numbers(self) -> frozenset[str]:
        return frozenset(self.variables) - {name for name, _ in self.choices}

    def fill(self, values: Mapping[str, int | str]) -> str:
        """Return the name with variables replaced; those without a value stay as `{name}`."""
        return "".join(
            part if isinstance(part, str) else str(values.get(part.name, f"{{{part.name}}}"))
            for part in self.parts
        )


_BRACE = re.compile(r"\{([^{}]*)\}")
_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def parse_template(text: str) -> tuple[tuple[Template, ...], bool]:
    """Read a tensor-name template.

    Returns the templates, one for each combination of unnamed alternatives, and whether the tensor
    may be missing.

    Raises:
        ValueError: with what is wrong and what was expected.

    """
    if len(text) > MAX_LENGTH:
        raise ValueError(f"a name has at most {MAX_LENGTH} characters, this has {len(text)}")
    optional = text.endswith("?")
    body = text.removesuffix("?")
    if not body:
        raise ValueError("a tensor's name is empty")
    pieces = _BRACE.split(body)
    if any(brace in piece for piece in pieces[::2] for brace in "{}"):
        raise ValueError(f"braces do not pair up in '{text}'")
    slots: list[tuple[str | Variable, ...]] = []
    choices: list[tuple[str, tuple[str, ...]]] = []
    free: str | None = None
    for number, piece in enumerate(pieces):
        if number % 2 == 0:
            slots.append((piece,))
        elif "=" in piece:
            name, _, options = piece.partition("=")
            choices.append((_variable(name, text), _options(options, text)))
            slots.append((Variable(name.strip()),))
        elif "," in piece:
            slots.append(_options(piece, text))
        elif piece.endswith("*"):
            if free is not None:
                raise ValueError(f"'{text}' has two texts; one '{{name*}}' is allowed")
            free = _variable(piece[:-1], text)
            slots.append((Variable(free),))
        else:
            slots.append((Variable(_variable(piece, text)),))
    count = math.prod(map(len, slots)) * math.prod(len(options) for _, options in choices)
    if count > MAX_ALTERNATIVES:
        raise ValueError(f"'{text}' stands for {count} names; at most {MAX_ALTERNATIVES}")
    templates = tuple(
        Template(_joined(parts), tuple(choices), free) for parts in itertools.product(*slots)
    )
    for template in templates:
        _check_variables(template, text)
    return templates, optional


def _variable(name: str, text: str) -> str:
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise ValueError(f"'{{{name}}}' in '{text}' is no variable: a name like {{layer}} is")
    return name


def _options(piece: str, text: str) -> tuple[str, ...]:
    options = tuple(option.strip() for option in piece.split(","))
    if len(set(options)) < len(options) or not all(options):
        raise ValueError(f"the alternatives '{{{piece}}}' in '{text}' are empty or not distinct")
    return options


def _check_variables(template: Template, text: str) -> None:
    names = [part.name for part in template.parts if isinstance(part, Variable)]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"'{{{repeated[0]}}}' stands twice in '{text}'")
    numbers = set(template.variables) - {name for name, _ in template.choices}
    apart = True
    for part in template.parts:
        if isinstance(part, str):
            apart = apart or not part.isdigit()
        elif part.name in numbers:
            # Without a character between them that is no digit, where one number ends and the
            # next begins would be a guess, and trying all would take exponential time.
            if not apart:
                raise ValueError(f"two numbers touch in '{text}': put text between them")
            apart = False


def _joined(parts: tuple[str | Variable, ...]) -> tuple[str | Variable, ...]:
    """Merge neighbouring literals, so that equal templates compare equal."""
    joined: list[str | Variable] = []
    for part in parts:
        if isinstance(part, str) and joined and isinstance(joined[-1], str):
            joined[-1] += part
        elif part != "":
            joined.append(part)
    return tuple(joined)
