"""What a user may set of a text task, checked before any data is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

from pydantic import Field

from rebasin_hub.errors import InputError
from rebasin_hub.tasks.task import Options
from rebasin_hub.yamlfile import Strict

__all__ = ["BYTES", "ClassificationSettings", "LanguageSettings", "data_of", "names_in"]

BYTES = "bytes"
"""The tokenizer for which each byte is a token, 0 to 255."""

Name: TypeAlias = Annotated[str, Field(min_length=1)]
Count: TypeAlias = Annotated[int, Field(gt=0)]


class _Settings(Strict):
    context: Count | None = None
    """Tokens of a window, or of a row at most; by default what the model takes, at most 1024."""
    tokenizer: Name | None = None
    """The directory of a tokenizer; by default the checkpoint's."""
    split: Name | Annotated[list[Name], Field(min_length=1)] | None = None
    """Which splits are measured; by default all."""


class LanguageSettings(_Settings):
    """Settings of `text`; the tokenizer may be `bytes`."""

    stride: Count | None = None
    """Tokens from one window to the next; by default `context`."""


class ClassificationSettings(_Settings):
    """Settings of `text-classification`."""

    columns: Name | Annotated[list[Name], Field(min_length=1, max_length=2)] | None = None
    """One column of texts or two; by default those of GLUE that are there."""
    label: Name | None = None
    """The column of labels; by default `label` or `labels`."""
    labels: Annotated[dict[str | int, Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = (
        None
    )
    """The class of each label; by default label2id of config.json."""

    @property
    def ids(self) -> dict[str, int]:
        """The class of each label that the user gave one."""
        return {str(label): number for label, number in (self.labels or {}).items()}


def names_in(value: str | list[str] | None) -> tuple[str, ...] | None:
    """Return one name or several as several, None where nothing was said."""
    return (value,) if isinstance(value, str) else None if value is None else tuple(value)


def data_of(task: str, options: Options, expected: str) -> Path:
    """Return where the data is.

    Raises:
        InputError: nothing was given, or nothing is there.

    """
    if options.data is None:
        raise InputError(f"--task {task} needs data: give --data {expected}")
    if not options.data.exists():
        raise InputError(f"{options.data}: is not there; give --data {expected}")
    return options.data
