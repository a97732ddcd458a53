"""Match a checkpoint's tensor names with a spec's lines."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from rebasin_hub.errors import Mismatch
from rebasin_hub.spec import Line, Spec
from rebasin_hub.tensors import Header

__all__ = ["Matches", "Values", "match_names"]

Values: TypeAlias = Mapping[str, int | str]
"""What the variables of a name stand for."""


@dataclass
class Matches:
    """Each matched name's line and values, the ignored names' reasons, and what went wrong."""

    found: dict[str, tuple[Line, Values]] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    mismatches: list[Mismatch] = field(default_factory=list)


def match_names(spec: Spec, header: Header) -> Matches:
    """Match every tensor with the line of its name and rank.

    Of several lines that fit, the one with the fewest variables counts. Names may carry one of
    the spec's prefixes. A tensor of a template must be there for every index at which another
    tensor with the same variables is, unless its line is optional.
    """
    matches = Matches()
    for name in header:
        _match_one(spec, header, name, matches)
    matches.mismatches += _one_text(matches)
    matches.mismatches += _repeated(matches)
    matches.mismatches += _missing(spec, matches)
    return matches


def _match_one(spec: Spec, header: Header, name: str, matches: Matches) -> None:
    rank = len(header[name].shape)
    candidates: list[tuple[Line, Values]] = []
    for bare in _bare_names(spec, name):
        for line in spec.lines:
            values = line.template.match(bare)
            if values is not None:
                candidates.append((line, values))
        for ignore in spec.ignores:
            if ignore.template.match(bare) is not None:
                matches.ignored[name] = ignore.reason
                return
    fitting = [c for c in candidates if len(c[0].pattern) == rank]
    if fitting:
        fewest = min(len(values) for _, values in fitting)
        best = [c for c in fitting if len(c[1]) == fewest]
        if len(best) > 1:
            lines = " and ".join(f"'{line.key}'" for line, _ in best)
            message = f"fits the lines {lines}; let one of them say more"
            matches.mismatches.append(Mismatch("ambiguous", name, message))
        else:
            matches.found[name] = best[0]
    elif candidates:
        wanted = " or ".join(sorted({str(len(line.pattern)) for line, _ in candidates}))
        message = f"has {rank} axes {list(header[name].shape)}, expected {wanted}"
        matches.mismatches.append(Mismatch("rank", name, message))
    else:
        hint = _nearest_line(spec, name)
        matches.mismatches.append(Mismatch("unexpected", name, f"is in no line of the spec{hint}"))


def _bare_names(spec: Spec, name: str) -> Iterator[str]:
    yield name
    for prefix in spec.prefixes:
        if name.startswith(prefix) and name != prefix:
            yield name.removeprefix(prefix)


def _nearest_line(spec: Spec, name: str) -> str:
    digits = str.maketrans(dict.fromkeys("0123456789", "0"))
    templates = {
        str(line.template.fill(dict.fromkeys(line.template.variables, 0))): line.key
        for line in spec.lines
    }
    close = difflib.get_close_matches(name.translate(digits), templates, n=1, cutoff=0.8)
    return f"; the nearest is '{templates[close[0]]}'" if close else ""


def _one_text(matches: Matches) -> Iterator[Mismatch]:
    """`{prefix*}` stands for the same text in all names."""
    texts: dict[str, dict[str | int, str]] = {}
    for name, (line, values) in matches.found.items():
        if line.template.text is not None:
            variable = line.template.text
            texts.setdefault(variable, {}).setdefault(values[variable], name)
    for variable, found in texts.items():
        if len(found) > 1:
            shown = ", ".join(f"'{text}' ({name})" for text, name in list(found.items())[:4])
            message = f"{{{variable}*}} must be the same text in all names, found {shown}"
            yield Mismatch("ambiguous", "", message)


def _repeated(matches: Matches) -> Iterator[Mismatch]:
    """Two names that mean the same tensor, once with and once without a prefix."""
    seen: dict[str, str] = {}
    for name, (line, values) in matches.found.items():
        meaning = line.template.fill(values)
        if meaning in seen:
            message = f"means the same tensor as '{seen[meaning]}'; keep one of them"
            yield Mismatch("ambiguous", name, message)
        seen[meaning] = name


def _missing(spec: Spec, matches: Matches) -> Iterator[Mismatch]:
    domains: dict[frozenset[str], set[tuple[tuple[str, int | str], ...]]] = {}
    wanted = {frozenset(line.template.variables) for line in spec.lines}
    present: dict[int, set[tuple[tuple[str, int | str], ...]]] = {}
    for line, values in matches.found.values():
        own = frozenset(line.template.variables)
        present.setdefault(id(line), set()).add(_project(values, own))
        for variables in wanted:
            if variables <= own:
                domains.setdefault(variables, set()).add(_project(values, variables))
    text = {
        v: values[v]
        for line, values in matches.found.values()
        for v in ([line.template.text] if line.template.text else [])
    }
    for line in spec.lines:
        if line.optional:
            continue
        variables = frozenset(line.template.variables)
        needed = domains.get(variables, set()) if variables else {()}
        if (
            variables
            and not needed
            and not any(variables < other and domains.get(other) for other in wanted)
        ):
            yield Mismatch("missing", line.template.fill(text), "is missing (none was found)")
        for absent in sorted(needed - present.get(id(line), set()), key=str):
            name = line.template.fill({**text, **dict(absent)})
            yield Mismatch("missing", name, "is missing")


def _project(values: Values, variables: frozenset[str]) -> tuple[tuple[str, int | str], ...]:
    return tuple(sorted((k, v) for k, v in values.items() if k in variables))
