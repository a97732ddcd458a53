"""Read spec files: YAML to `Spec`, with everything that is wrong reported at once.

A file is read in four steps, each of which adds to one list of problems: YAML (`yamlsafe`), the
structure (`specschema`), the languages of patterns, templates and sizes, and last what the spec
as a whole says (`speccheck`). A step leaves out what an earlier one found wrong and looks at the
rest, so that one run shows all there is to mend.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rebasin_hub.errors import Problem, SpecError
from rebasin_hub.specfile import yamlsafe
from rebasin_hub.specfile.compile import compile_spec
from rebasin_hub.specfile.structure import Finding, read_structure
from rebasin_hub.specfile.yamlsafe import Document, Flaw

if TYPE_CHECKING:
    from rebasin_hub.spec import Spec
    from rebasin_hub.spec.pattern import Axis

__all__ = ["load_spec", "parse_spec", "spec_digest", "validate_files"]

MAX_PROBLEMS = 100


def load_spec(path: str | Path) -> Spec:
    """Read a spec file.

    Raises:
        SpecError: with every problem.

    """
    text = _text(Path(path))
    if isinstance(text, Problem):
        raise SpecError([text])
    return parse_spec(text, str(path))


def parse_spec(text: str, file: str = "<text>") -> Spec:
    """Read a spec from text; `file` stands in messages.

    Raises:
        SpecError: with every problem.

    """
    spec, problems = _read(text, file)
    if spec is None or problems:
        raise SpecError(problems)
    return spec


def validate_files(paths: Iterable[str | Path]) -> list[Problem]:
    """Return every problem of several spec files, in the order of the files and their lines."""
    problems: list[Problem] = []
    for path in paths:
        text = _text(Path(path))
        problems += [text] if isinstance(text, Problem) else _read(text, str(path))[1]
    return problems


def spec_digest(spec: Spec) -> str:
    """Return the SHA-256 of what a spec means for a checkpoint, in hexadecimal.

    The same for two specs that bind every checkpoint alike as written: comments, layout, the order
    of keys, names, descriptions, sources, examples, reasons and how a checkpoint is recognized do
    not count, and alternatives count as the lines that they stand for.
    """
    meaning = {
        "spec": 1,
        "prefixes": sorted(set(spec.prefixes)),
        "sizes": {word: size for word, size in spec.sizes.items() if size is not None},
        "permutations": {
            p.name: [list(p.indices), p.within, list(p.parts), _shown(p.begin), p.end, p.group]
            for p in spec.permutations.values()
        },
        "lines": sorted(
            [str(n.template), [str(a) for a in n.pattern], n.optional, n.statistic]
            for n in spec.lines
        ),
        "ignore": sorted(str(ignore.template) for ignore in spec.ignores),
    }
    canonical = json.dumps(meaning, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _shown(axis: Axis | None) -> str | None:
    return None if axis is None else str(axis)


def _text(path: Path) -> str | Problem:
    try:
        if path.exists() and not path.is_file():
            return Problem(str(path), 0, "", "is not a file")
        with path.open("rb") as file:
            return yamlsafe.decode(file.read(yamlsafe.MAX_BYTES + 1))
    except OSError as error:
        return Problem(str(path), 0, "", f"cannot be read: {error.strerror}")
    except ValueError as error:
        return Problem(str(path), 0, "", str(error))


def _read(text: str, file: str) -> tuple[Spec | None, list[Problem]]:
    """Return a spec as far as it could be read, and every problem."""
    document = yamlsafe.read_yaml(text)
    spec, found = _understood(document) if document.whole else (None, [])
    flaws = [*document.flaws, *(Flaw(document.line_of(path), path, told) for path, told in found)]
    problems = {Problem(file, f.line, ".".join(map(str, f.path)), f.message) for f in flaws}
    return spec, _first(sorted(problems), file)


def _understood(document: Document) -> tuple[Spec | None, list[Finding]]:
    structure = read_structure(document.value)
    # What YAML was already told to be wrong need not be told to have the wrong type.
    flawed = {flaw.path for flaw in document.flaws}
    findings = [finding for finding in structure.findings if finding[0] not in flawed]
    if structure.file is None:
        return None, findings
    spec, more = compile_spec(structure.file, structure.left_out)
    return spec, [*findings, *more]


def _first(problems: list[Problem], file: str) -> list[Problem]:
    if len(problems) <= MAX_PROBLEMS:
        return problems
    more = Problem(file, 0, "", f"has {len(problems) - MAX_PROBLEMS} more problems")
    return [*problems[:MAX_PROBLEMS], more]
