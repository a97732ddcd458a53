"""Match a checkpoint's tensor names with a spec's lines."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from rebasin_hub.errors import Mismatch
from rebasin_hub.spec import Ignore, Line, Spec
from rebasin_hub.tensors import Header

__all__ = ["Matches", "Values", "match_names"]

HINTS = 20
"""How many names the nearest line is looked for: that takes far longer than matching does."""

Values: TypeAlias = Mapping[str, int | str]
"""What the variables of a name stand for."""


@dataclass
class Matches:
    """Each matched name's line and values, the ignored names' reasons, and what went wrong."""

    found: dict[str, tuple[Line, Values]] = field(default_factory=dict)
    ignored: dict[str, str] = field(default_factory=dict)
    mismatches: list[Mismatch] = field(default_factory=list)
    hints: int = HINTS
    """How many more unexpected names the nearest line is looked for."""


def match_names(spec: Spec, header: Header) -> Matches:
    """Match every tensor with the line of its name and rank, or with an ignored name.

    Of several that fit, the one with the fewest variables counts. Names may carry one of the spec's
    prefixes. A tensor of a template must be there for every index at which another tensor with the
    same variables is, unless its line is optional.
    """
    matches = Matches()
    for name in header:
        _match_one(spec, header, name, matches)
    matches.mismatches += _one_text(matches)
    matches.mismatches += _repeated(matches)
    matches.mismatches += _missing(spec, header, matches)
    return matches


def _match_one(spec: Spec, header: Header, name: str, matches: Matches) -> None:
    shape = header[name].shape
    other_ranks: list[Line] = []
    for bare in _bare_names(spec, name):
        candidates = _candidates(spec, bare)
        fitting = [c for c in candidates if isinstance(c[0], Ignore) or c[0].rank == len(shape)]
        if fitting:
            _take(name, fitting, matches)
            return
        other_ranks += [line for line, _ in candidates if isinstance(line, Line)]
    if other_ranks:
        wanted = " or ".join(dict.fromkeys(f"{n.rank} ('{n.key}')" for n in other_ranks))
        message = f"has {len(shape)} axes {list(shape)}, expected {wanted}"
        matches.mismatches.append(Mismatch("rank", name, message))
    else:
        hint = _nearest_line(spec, name) if matches.hints > 0 else ""
        matches.hints -= 1
        matches.mismatches.append(Mismatch("unexpected", name, f"is in no line of the spec{hint}"))


def _candidates(spec: Spec, bare: str) -> list[tuple[Line | Ignore, Values]]:
    entries: list[Line | Ignore] = [*spec.lines, *spec.ignores]
    found = ((entry, entry.template.match(bare)) for entry in entries)
    return [(entry, values) for entry, values in found if values is not None]


def _take(name: str, fitting: list[tuple[Line | Ignore, Values]], matches: Matches) -> None:
    """Take the candidate with the fewest variables."""
    fewest = min(len(values) for _, values in fitting)
    best = [candidate for candidate in fitting if len(candidate[1]) == fewest]
    entry, values = best[0]
    if len(best) > 1:
        lines = " and ".join(f"'{other.key}'" for other, _ in best)
        message = f"fits the lines {lines}; let one of them say more"
        matches.mismatches.append(Mismatch("ambiguous", name, message))
    elif isinstance(entry, Ignore):
        matches.ignored[name] = entry.reason
    else:
        matches.found[name] = entry, values


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


def _texts(matches: Matches) -> dict[str, dict[str | int, str]]:
    """Return for each `{prefix*}` the texts that it stands for, each with a name that has it."""
    texts: dict[str, dict[str | int, str]] = {}
    for name, (line, values) in matches.found.items():
        if (variable := line.template.text) is not None:
            texts.setdefault(variable, {}).setdefault(values[variable], name)
    return texts


def _one_text(matches: Matches) -> Iterator[Mismatch]:
    """`{prefix*}` stands for the same text in all names."""
    for variable, found in _texts(matches).items():
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


_Assigned: TypeAlias = tuple[tuple[str, int | str], ...]
"""Variables with their values, in alphabetical order."""


def _missing(spec: Spec, header: Header, matches: Matches) -> Iterator[Mismatch]:
    # A tensor that is there, but in another line or of a wrong rank, is not missing.
    present = {bare for name in header for bare in _bare_names(spec, name)}
    domains = _domains(spec, matches)
    texts = _texts(matches)
    text = {variable: next(iter(found)) for variable, found in texts.items()}
    for line in spec.lines:
        # Where a text is not one, no name can be told.
        if line.optional or len(texts.get(line.template.text or "", ())) > 1:
            continue
        variables = frozenset(line.template.variables)
        if variables and not any(domains[other] for other in domains if variables <= other):
            yield Mismatch("missing", line.template.fill(text), "is missing (none was found)")
        for values in sorted(domains[variables] if variables else {()}, key=str):
            name = line.template.fill({**text, **dict(values)})
            if name not in present:
                yield Mismatch("missing", name, "is missing")


def _domains(spec: Spec, matches: Matches) -> dict[frozenset[str], set[_Assigned]]:
    """Return for each set of variables the values that they have together in some name."""
    domains: dict[frozenset[str], set[_Assigned]] = {
        frozenset(line.template.variables): set() for line in spec.lines
    }
    for line, values in matches.found.values():
        own = frozenset(line.template.variables)
        for variables, domain in domains.items():
            if variables <= own:
                domain.add(tuple(sorted((k, v) for k, v in values.items() if k in variables)))
    return domains
