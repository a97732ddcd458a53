"""Read YAML that may be hostile, in bounded time and memory, and know every key's line.

What is read is the part of YAML on which all readers agree: mappings with text as keys, lists,
text, whole numbers, decimals, true, false and null. Tags, anchors, aliases and merge keys are
refused, and so is plain text that YAML 1.1 and 1.2 read differently (`on`, `0777`, `1e-5`).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

import yaml

__all__ = ["MAX_BYTES", "Document", "Flaw", "Path", "decode", "read_yaml"]

MAX_BYTES = 2**20
MAX_NODES = 20_000
MAX_DEPTH = 16
MAX_SCALAR = 10_000
MAX_DIGITS = 15
MAX_FLAWS = 100

Path: TypeAlias = tuple[str | int, ...]
"""The keys and list positions that lead to a value."""

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True)
class Flaw:
    """One thing that is wrong: the line (1-based), the key's path, and what."""

    line: int
    path: Path
    message: str


@dataclass(frozen=True)
class Document:
    """A file's content as plain data, the line of every key and list item, and what is wrong.

    `whole` is False where reading stopped early; `value` then is None.
    """

    value: object
    lines: Mapping[Path, int]
    flaws: tuple[Flaw, ...]
    whole: bool = True

    def line_of(self, path: Path) -> int:
        """Return the line of the innermost part of a path that is there."""
        while path not in self.lines and path:
            path = path[:-1]
        return self.lines.get(path, 1)


# What YAML forbids: control characters, lone surrogates, the two noncharacters.
_FORBIDDEN = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def decode(data: bytes) -> str:
    """Decode a file's bytes.

    Raises:
        ValueError: the file is too large, not UTF-8, or holds control characters.

    """
    if len(data) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES} bytes, the most that is read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (byte {error.start})") from error


def read_yaml(text: str) -> Document:
    """Read one YAML document; what is wrong with it is listed, never raised."""
    reader = _Reader()
    try:
        value, whole = reader.document(text), True
    except _StopReadingError:
        value, whole = None, False
    return Document(value, reader.lines, tuple(reader.flaws), whole)


class _StopReadingError(Exception):
    """Reading cannot go on; the reason is in the flaws."""


@dataclass(eq=False)
class _Reader:
    lines: dict[Path, int] = field(default_factory=dict)
    flaws: list[Flaw] = field(default_factory=list)
    nodes: int = 0

    def document(self, text: str) -> object:
        if len(text) > MAX_BYTES:
            self.stop(0, (), f"is larger than {MAX_BYTES} bytes, the most that is read")
        if (bad := _FORBIDDEN.search(text)) is not None:
            line = text.count("\n", 0, bad.start()) + 1
            self.stop(line, (), f"holds the control character U+{ord(bad.group()):04X}")
        events = yaml.parse(text, Loader=_Loader)
        try:
            return self.one_document(events)
        except yaml.MarkedYAMLError as error:
            line = getattr(error.problem_mark or error.context_mark, "line", 0)
            self.stop(*_syntax(text, line, str(error.problem)))
        except yaml.YAMLError as error:
            self.stop(0, (), f"is not YAML: {error}")

    def one_document(self, events: Iterator[yaml.Event]) -> object:
        value, documents = None, 0
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    self.stop(_line(event), (), "a second document begins; a file holds one")
                value = self.node(next(events), events, ())
        return value

    def flaw(self, line: int, path: Path, message: str) -> None:
        self.flaws.append(Flaw(line, path, message))
        if len(self.flaws) >= MAX_FLAWS:
            self.stop(line, (), "and more; reading stopped here")

    def stop(self, line: int, path: Path, message: str) -> NoReturn:
        self.flaws.append(Flaw(line, path, message))
        raise _StopReadingError

    def node(self, event: yaml.Event, events: Iterator[yaml.Event], path: Path) -> object:
        line = _line(event)
        self.lines.setdefault(path, line)
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self.stop(line, (), f"holds more than {MAX_NODES} values, the most that are read")
        if len(path) > MAX_DEPTH:
            self.stop(line, (), f"is nested more than {MAX_DEPTH} deep")
        match event:
            case yaml.ScalarEvent():
                return self.scalar(event, path)
            case yaml.MappingStartEvent():
                self.refuse_extras(event, path)
                return self.mapping(events, path)
            case yaml.SequenceStartEvent():
                self.refuse_extras(event, path)
                return self.sequence(events, path)
            case _:
                alias = _extra(event, "anchor")
                self.flaw(line, path, f"'*{alias}' is a YAML alias; {_WITHOUT.format('*')}")
                return None

    def refuse_extras(self, event: yaml.Event, path: Path) -> None:
        """Refuse an anchor or a tag: neither is needed, and both can do harm."""
        if anchor := _extra(event, "anchor"):
            message = f"'&{anchor}' is a YAML anchor; {_WITHOUT.format('&')}"
            self.flaw(_line(event), path, message)
        if tag := _extra(event, "tag"):
            tag = tag.replace("tag:yaml.org,2002:", "!!")
            self.flaw(_line(event), path, f"'{tag}' is a YAML tag; {_WITHOUT.format('!')}")

    def mapping(self, events: Iterator[yaml.Event], path: Path) -> dict[str, object]:
        content: dict[str, object] = {}
        while not isinstance(event := next(events), yaml.MappingEndEvent):
            key = self.key(event, path)
            here = (*path, key)
            if key in content:
                self.flaw(_line(event), here, f"stands twice; first on line {self.lines[here]}")
                self.skip(events, here)
                continue
            self.lines[here] = _line(event)
            content[key] = self.node(next(events), events, here)
        return content

    def key(self, event: yaml.Event, path: Path) -> str:
        line = _line(event)
        if not isinstance(event, yaml.ScalarEvent):
            self.stop(line, path, f"a key must be text{_QUOTE}")
        key = str(event.value)
        if _is_plain(event) and key == "<<":
            self.flaw(line, (*path, key), "is a YAML merge key; write the entries out")
        else:
            flaws = len(self.flaws)
            if not isinstance(self.scalar(event, (*path, key)), str) and len(self.flaws) == flaws:
                self.flaw(line, (*path, key), "is not text, which keys are; write it in quotes")
        return key

    def sequence(self, events: Iterator[yaml.Event], path: Path) -> list[object]:
        content: list[object] = []
        while not isinstance(event := next(events), yaml.SequenceEndEvent):
            content.append(self.node(event, events, (*path, len(content))))
        return content

    def skip(self, events: Iterator[yaml.Event], path: Path) -> None:
        """Pass over one value; its lines are of no interest, but the limits hold for it too."""
        ignored = _Reader(flaws=self.flaws, nodes=self.nodes)
        ignored.node(next(events), events, path)
        self.nodes = ignored.nodes

    def scalar(self, event: yaml.ScalarEvent, path: Path) -> object:
        text, line = str(event.value), _line(event)
        self.refuse_extras(event, path)
        if len(text) > MAX_SCALAR:
            self.stop(line, path, f"is {len(text)} characters long, at most {MAX_SCALAR} are read")
        if not _is_plain(event):
            return text
        value, problem = _plain(text)
        if problem:
            self.flaw(line, path, problem)
        return value


_QUOTE = "; text that begins with one of * & ! { [ needs quotes"
_WITHOUT = "leave it out; text that begins with '{}' needs quotes"


def _extra(event: yaml.Event, name: str) -> str:
    return str(getattr(event, name, None) or "")[:80]


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark is not None else 0


def _is_plain(event: yaml.ScalarEvent) -> bool:
    return not event.style and event.tag is None


# Where a key begins with a sign of YAML, or a value with one that text may well begin with.
_UNQUOTED = re.compile(r"\s*(?:- +)*[*&!{\[]|[^#]*?: +[*&!%@`]")


def _syntax(text: str, number: int, problem: str) -> tuple[int, Path, str]:
    """Describe a syntax error by its line (0-based), with a hint at what may have led to it."""
    line = next(itertools.islice(text.splitlines(), number, None), "")
    hint = _QUOTE if _UNQUOTED.match(line) else ""
    if line[: len(line) - len(line.lstrip())].count("\t"):
        hint = "; indent by spaces, not tabs"
    return number + 1, (), f"is not YAML: {problem}{hint}"


_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)", re.ASCII)
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+][0-9]{1,3})?", re.ASCII)
_NUMBER_1_2 = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|0o[0-7]+|0x[0-9a-fA-F]+", re.ASCII
)
_CONSTANTS = {"": None, "~": None, "null": None, "true": True, "false": False}
_KINDS = {"bool": "true or false", "null": "null", "timestamp": "a date"}


def _plain(text: str) -> tuple[object, str]:
    """Return the value of unquoted text, and a problem if readers of YAML disagree on it."""
    if text in _CONSTANTS:
        return _CONSTANTS[text], ""
    if len(text) > MAX_DIGITS:
        # No pattern but the simplest is tried on long text, and no long number is converted.
        digits = _INTEGER.fullmatch(text) is not None
        return (None, f"{text[:12]}… is a number of {len(text)} digits") if digits else (text, "")
    if _INTEGER.fullmatch(text):
        return int(text), ""
    if _DECIMAL.fullmatch(text):
        return float(text), ""
    kind = _yaml_1_1(text)
    if kind == "str" and _NUMBER_1_2.fullmatch(text) is None:
        return text, ""
    meaning = _KINDS.get(kind, "a number")
    return (
        None,
        f"'{text}' is {meaning} to some YAML readers and text to others; write it in quotes",
    )


def _yaml_1_1(text: str) -> str:
    for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(text[:1], ()):
        if pattern.match(text):
            return str(tag).rpartition(":")[2]
    return "str"
