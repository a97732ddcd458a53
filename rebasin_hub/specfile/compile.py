"""Compile a spec file's structure to a `Spec`: the languages of patterns, templates and sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from rebasin_hub.spec import Ignore, Line, Permutation, Spec
from rebasin_hub.spec.check import check_spec
from rebasin_hub.spec.layout import Layout, LayoutLine, Missing, Turn, check_turn
from rebasin_hub.spec.pattern import Axis, Product, parse_pattern
from rebasin_hub.spec.sizes import config_tokens
from rebasin_hub.spec.template import Template, parse_template
from rebasin_hub.specfile.schema import LayoutEntry, LayoutTensor, PermutationEntry, SpecFile
from rebasin_hub.yamlfile.explain import Finding
from rebasin_hub.yamlfile.safe import Path

__all__ = ["compile_spec"]

MAX_TEMPLATES = 20_000
RESERVED_WORDS = frozenset({"_", "scalar"})

Parsed = TypeVar("Parsed")


def compile_spec(file: SpecFile, left_out: frozenset[str]) -> tuple[Spec, list[Finding]]:
    """Return what a file means, and everything that is wrong with what it says.

    Args:
        file: the file's structure.
        left_out: sections of the file of which entries are left out, because they are wrong.

    """
    compiler = _Compiler(file)
    spec = compiler.spec()
    findings = compiler.findings
    if left_out & {"permutations", "sizes"}:
        return spec, findings
    whole = not left_out and not findings
    return spec, [*findings, *(compiler.placed(f) for f in check_spec(spec, whole=whole))]


@dataclass(eq=False)
class _Compiler:
    file: SpecFile
    findings: list[Finding] = field(default_factory=list)
    keys: dict[str, str] = field(default_factory=dict)
    """For each permutation the key that declares it."""
    templates: int = 0

    def spec(self) -> Spec:
        file = self.file
        return Spec(
            name=file.name,
            permutations=self.permutations(),
            lines=(
                *self.lines("tensors", file.tensors),
                *self.lines("statistics", file.statistics, statistic=True),
            ),
            ignores=tuple(self.ignores()),
            sizes=self.sizes(),
            prefixes=tuple(self.prefixes()),
            description=file.description,
            source=file.source,
            match={key: tuple(values) for key, values in file.match.model_dump().items() if values},
            examples=tuple(e.model_dump(exclude_unset=True) for e in file.example),
            layouts={name: self.layout(name, entry) for name, entry in file.layouts.items()},
        )

    def placed(self, finding: Finding) -> Finding:
        """Give a finding of `check_spec` the path that its key has in the file."""
        match finding:
            case (("permutations", str(name), *rest), message):
                return ("permutations", self.keys.get(name, name), *rest), message
            case _:
                return finding

    def note(self, path: Path, message: str) -> None:
        self.findings.append((path, message))

    def permutations(self) -> dict[str, Permutation]:
        found: dict[str, Permutation] = {}
        for key, entry in self.file.permutations.items():
            path = ("permutations", key)
            name, _, inside = key.removesuffix("]").partition("[")
            indices = tuple(index.strip() for index in inside.split(",") if index.strip())
            if name in found:
                self.note(path, f"'{name}' is declared already, as '{self.keys[name]}'")
                continue
            if len(set(indices)) < len(indices):
                self.note(path, "an index stands twice")
            found[name] = self.permutation(path, name, indices, entry or PermutationEntry())
            self.keys[name] = key
        return found

    def permutation(
        self, path: Path, name: str, indices: tuple[str, ...], entry: PermutationEntry
    ) -> Permutation:
        for word in (name, *(entry.parts or ()), entry.to):
            if word in RESERVED_WORDS:
                self.note(path, f"'{word}' means something else in patterns; choose another word")
        if entry.group != "permutation":
            self.note(
                (*path, "group"),
                f"'{entry.group}' is reserved, and not supported yet; leave it out",
            )
        return Permutation(
            name=name,
            indices=indices,
            within=entry.within,
            parts=tuple(entry.parts or ()),
            begin=self.begin((*path, "from"), entry.from_),
            end=entry.to,
        )

    def begin(self, path: Path, text: str | None) -> Axis | None:
        pattern = None if text is None else self.parsed(path, parse_pattern, text)
        if pattern is None:
            return None
        if not pattern:
            self.note(path, "expected what stands at the first index, such as 'input'")
            return None
        return pattern[0] if len(pattern) == 1 else Product(pattern)

    def lines(
        self, section: str, entries: Mapping[str, list[str]], *, statistic: bool = False
    ) -> Iterator[Line]:
        for key, texts in entries.items():
            templates, optional = self.names(section, key)
            for number, text in enumerate(texts):
                place = (section, key) if len(texts) == 1 else (section, key, number)
                pattern = self.parsed(place, parse_pattern, text)
                if pattern is not None:
                    for template in templates:
                        yield Line(template, pattern, optional, statistic, key)

    def ignores(self) -> Iterator[Ignore]:
        for key, reason in self.file.ignore.items():
            for template in self.names("ignore", key)[0]:
                yield Ignore(template, reason, key)

    def names(self, section: str | Path, key: str) -> tuple[tuple[Template, ...], bool]:
        if self.templates > MAX_TEMPLATES:
            return (), False
        path = (section, key) if isinstance(section, str) else (*section, key)
        templates, optional = self.parsed(path, parse_template, key) or ((), False)
        self.templates += len(templates)
        if self.templates > MAX_TEMPLATES:
            self.note(path, f"the lines stand for more than {MAX_TEMPLATES} names")
        return templates, optional

    def prefixes(self) -> Iterator[str]:
        for number, prefix in enumerate(self.file.prefixes):
            if set(prefix) & set("{}"):
                self.note(("prefixes", number), f"'{prefix}' is no plain text: it has braces")
            yield prefix

    def sizes(self) -> dict[str, int | str | None]:
        return self.sizes_of(self.file.sizes, ("sizes",))

    def sizes_of(
        self, entries: Mapping[str, str | None], section: Path
    ) -> dict[str, int | str | None]:
        found: dict[str, int | str | None] = {}
        for word, text in entries.items():
            path = (*section, word)
            if word in RESERVED_WORDS:
                self.note(path, f"'{word}' means something else; choose another word")
            found[word] = text
            tokens = text and self.parsed(path, config_tokens, text)
            if tokens and len(tokens) == 1 and tokens[0].isdigit():
                found[word] = int(tokens[0])
                if found[word] == 0:
                    self.note(path, "a size is 1 or more")
        return found

    def layout(self, name: str, entry: LayoutEntry) -> Layout:
        place: Path = ("layouts", name)
        missing = [
            Missing(template, reason)
            for key, reason in entry.missing.items()
            for template in self.names((*place, "missing"), key)[0]
        ]
        return Layout(
            name=name,
            lines=tuple(self.layout_lines((*place, "tensors"), entry.tensors)),
            missing=tuple(missing),
            sizes=self.sizes_of(entry.sizes, (*place, "sizes")),
            prefixes=entry.prefixes,
            description=entry.description,
        )

    def layout_lines(
        self, section: Path, entries: Mapping[str, LayoutTensor]
    ) -> Iterator[LayoutLine]:
        for key, entry in entries.items():
            place = (*section, key)
            here, _ = self.names(section, key)
            there, optional = self.parsed((*place, "name"), parse_template, entry.name) or (
                (),
                False,
            )
            if not (here and there):
                continue
            if optional:
                self.note((*place, "name"), "a '?' has no meaning in a layout; leave it out")
            if len(here) != len(there):
                self.note(
                    (*place, "name"),
                    f"stands for {len(there)} names, '{key}' for {len(here)}; give as many",
                )
                continue
            turn = None if entry.axes is None else self.turn((*place, "axes"), entry.axes)
            for one, other in zip(here, there, strict=True):
                if _variables(one) != _variables(other):
                    self.note((*place, "name"), f"needs the same variables as '{key}'")
                    break
                yield LayoutLine(one, other, turn, key)

    def turn(self, path: Path, text: str) -> Turn | None:
        before, arrow, after = text.partition("->")
        if not arrow:
            self.note(path, f"expected 'axes here -> axes there', found '{text}'")
            return None
        sides = [self.parsed(path, parse_pattern, side.strip()) for side in (before, after)]
        if sides[0] is None or sides[1] is None:
            return None
        turn = Turn(sides[0], sides[1])
        if (reason := check_turn(turn)) is not None:
            self.note(path, reason)
        return turn

    def parsed(self, path: Path, parse: Callable[[str], Parsed], text: str) -> Parsed | None:
        """Parse text of one of the small languages, or note what is wrong with it."""
        try:
            return parse(text)
        except ValueError as error:
            self.note(path, str(error))
            return None


def _variables(template: Template) -> set[object]:
    """Return what a name's variables are: numbers, choices and the text, by their names."""
    return {*template.variables, *template.choices, template.text}
