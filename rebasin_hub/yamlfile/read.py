"""Read a YAML file into a pydantic model, with everything that is wrong reported at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from rebasin_hub.errors import FileError, Problem
from rebasin_hub.yamlfile import safe
from rebasin_hub.yamlfile.explain import Finding, described, explain
from rebasin_hub.yamlfile.safe import Document, Flaw

__all__ = ["load", "parse", "problems_of", "text_of", "unflawed"]

MAX_PROBLEMS = 100

M = TypeVar("M", bound=BaseModel)


def load(path: Path, model: type[M], what: str) -> M:
    """Read a file.

    Args:
        path: a YAML file.
        model: what the file has to hold; derive it from `Strict`.
        what: what the file is, such as "recipe", for messages.

    Raises:
        FileError: with every problem.

    """
    text = text_of(path)
    if isinstance(text, Problem):
        raise FileError([text])
    return parse(text, model, what, str(path))


def parse(text: str, model: type[M], what: str, file: str = "<text>") -> M:
    """Read text as `load` reads a file; `file` stands in messages.

    Raises:
        FileError: with every problem.

    """
    document = safe.read_yaml(text)
    value, found = _validated(document.value, model, what) if document.whole else (None, [])
    problems = problems_of(document, unflawed(document, found), file)
    if value is None or problems:
        raise FileError(problems)
    return value


def _validated(data: object, model: type[M], what: str) -> tuple[M | None, list[Finding]]:
    if not isinstance(data, dict):
        return None, [((), f"expected the keys of a {what}, found {described(data)}")]
    try:
        return model.model_validate(data), []
    except ValidationError as error:
        return None, explain(error, data, model, what)


def text_of(path: Path) -> str | Problem:
    """Return a file's text, or why it cannot be read."""
    try:
        if path.exists() and not path.is_file():
            return Problem(str(path), 0, "", "is not a file")
        with path.open("rb") as file:
            return safe.decode(file.read(safe.MAX_BYTES + 1))
    except OSError as error:
        return Problem(str(path), 0, "", f"cannot be read: {error.strerror}")
    except ValueError as error:
        return Problem(str(path), 0, "", str(error))


def unflawed(document: Document, findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what only has the wrong type because YAML was told to be wrong there already."""
    flawed = {flaw.path for flaw in document.flaws}
    return [finding for finding in findings if finding[0] not in flawed]


def problems_of(document: Document, findings: Iterable[Finding], file: str) -> list[Problem]:
    """Return what is wrong with a document and its content, in file order, and not too much."""
    found = [Flaw(document.line_of(path), path, message) for path, message in findings]
    flaws = [*document.flaws, *found]
    problems = sorted({Problem(file, f.line, ".".join(map(str, f.path)), f.message) for f in flaws})
    if len(problems) <= MAX_PROBLEMS:
        return problems
    more = Problem(file, 0, "", f"has {len(problems) - MAX_PROBLEMS} more problems")
    return [*problems[:MAX_PROBLEMS], more]
