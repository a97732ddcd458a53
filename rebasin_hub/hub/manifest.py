"""`rebasin-hub.json`: what a published repository promises, so that it can be checked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from rebasin_hub.errors import InputError
from rebasin_hub.yamlfile import Strict

__all__ = ["FILE", "BaseEntry", "Manifest", "read_manifest"]

FILE = "rebasin-hub.json"

Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class BaseEntry(Strict):
    """A model that was made use of."""

    model: str
    """On the Hub."""
    revision: Annotated[str, Field(pattern="^[0-9a-f]{40}$")]
    """The commit."""
    digest: Digest | None = None
    """The plain digest of its weights, where it is known."""


class Manifest(Strict):
    """What a repository holds."""

    rebasin: Literal[1] = 1
    """The version of this format."""
    kind: Literal["model", "permutation"]
    """Weights, or only the permutations that lead to them from the first base model."""
    tool: str
    """The program with its version."""
    main: str
    """The file to open; empty for the whole folder."""
    digest: Digest
    """The plain digest of the weights; of a permutation, of those that it leads to."""
    files: dict[str, Digest]
    """The SHA-256 of every file but the card and this one."""
    bases: list[BaseEntry] = Field(default=[])
    permutations: str | None = None
    """The permutation file, where there is one."""
    record: str | None = None
    """What was measured, where something was."""

    def text(self) -> str:
        """Return it as it is published."""
        return self.model_dump_json(indent=1) + "\n"


def read_manifest(content: bytes, where: str) -> Manifest:
    """Read a manifest.

    Raises:
        InputError: it is none; the first reason is named.

    """
    try:
        return Manifest.model_validate_json(content)
    except ValidationError as problem:
        first = problem.errors(include_url=False, include_context=False)[0]
        key = ".".join(map(str, first["loc"])) or "its JSON"
        raise InputError(
            f"{where}: {FILE} is not one of version 1 ({key}: {first['msg']}); it was written by "
            "another program, or by a later version of this one"
        ) from None
