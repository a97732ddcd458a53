"""Read spec files: YAML to `Spec`, with everything that is wrong reported at once.

A file is read in four steps, each of which adds to one list of problems: YAML (`yamlfile`), the
structure (`structure`), the languages of patterns, templates and sizes (`compile`), and last what
the spec as a whole says (`spec.check`). A step leaves out what an earlier one found wrong and looks
at the rest, so that one run shows all there is to mend.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rebasin_hub.errors import Problem, SpecError
from rebasin_hub.specfile.compile import compile_spec
from rebasin_hub.specfile.structure import read_structure
from rebasin_hub.yamlfile import safe
from rebasin_hub.yamlfile.explain import Finding
from rebasin_hub.yamlfile.read import problems_of, text_of, unflawed
from rebasin_hub.yamlfile.safe import Document

if TYPE_CHECKING:
    from rebasin_hub.spec import Spec
    from rebasin_hub.spec.pattern import Axis

__all__ = ["load_spec", "parse_spec", "spec_digest", "validate_files"]


def load_spec(path: str | Path) -> Spec:
    """Read a spec file.

    Raises:
        SpecError: with every problem.

    """
    text = text_of(Path(path))
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
        text = text_of(Path(path))
        problems += [text] if isinstance(text, Problem) else _read(text, str(path))[1]
    return problems


def spec_digest(spec: Spec) -> str:
    """Return the SHA-256 of what a spec means for a checkpoint, in hexadecimal.

    The same for two specs that bind every checkpoint alike as written: comments, layout, the order
    of keys, names, descriptions, sources, examples, reasons, other layouts and how a checkpoint is
    recognized do not count, and alternatives count as the lines that they stand for.
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


def _read(text: str, file: str) -> tuple[Spec | None, list[Problem]]:
    """Return a spec as far as it could be read, and every problem."""
    document = safe.read_yaml(text)
    spec, found = _understood(document) if document.whole else (None, [])
    return spec, problems_of(document, found, file)


def _understood(document: Document) -> tuple[Spec | None, list[Finding]]:
    structure = read_structure(document.value)
    findings = unflawed(document, structure.findings)
    if structure.file is None:
        return None, findings
    spec, more = compile_spec(structure.file, structure.left_out)
    return spec, [*findings, *more]
