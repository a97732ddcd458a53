"""References: `name`, `name@alias`, `name:3`, each with or without `registry:` before it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

from rebasin_hub.errors import InputError

__all__ = [
    "LATEST",
    "PREFIX",
    "Reference",
    "check_alias",
    "check_key",
    "check_name",
    "is_reference",
]

PREFIX = "registry:"
LATEST = "latest"
"""What an alias cannot be called: it always means the newest version."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_LONGEST = 200
_MOST_DIGITS = 9


@dataclass(frozen=True)
class Reference:
    """A version as a user names it: by number, by alias, or the newest one of a model."""

    name: str
    alias: str | None = None
    number: int | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `[registry:]NAME[@ALIAS|:N]`.

        Raises:
            InputError: it is of another form.

        """
        rest = text.removeprefix(PREFIX)
        name, at, alias = rest.partition("@")
        if at:
            check_name(name, text)
            return cls(name) if alias == LATEST else cls(name, alias=check_alias(alias))
        name, colon, number = rest.partition(":")
        check_name(name, text)
        if not colon:
            return cls(name)
        if not (number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS):
            raise InputError(f"'{text}': '{number}' is no version's number; NAME:3 is of that form")
        return cls(name, number=int(number))

    def __str__(self) -> str:
        if self.number is not None:
            return f"{self.name}:{self.number}"
        return f"{self.name}@{self.alias or LATEST}"


def is_reference(text: str) -> bool:
    """Tell whether a text is meant as `registry:…`."""
    return text.startswith(PREFIX)


def check_name(name: str, shown: str | None = None) -> str:
    """Return a model's name; refuse one that could not be typed or stored anywhere.

    Raises:
        InputError: it is of another form.

    """
    if len(name) > _LONGEST or not _NAME.fullmatch(name):
        raise InputError(
            f"'{shown or name}': a model's name is made of letters, digits, '.', '_', '-' and "
            f"single '/', such as team/resnet20, at most {_LONGEST} characters"
        )
    return name


def check_alias(alias: str) -> str:
    """Return an alias that may be set.

    Raises:
        InputError: it is of another form, or `latest`.

    """
    if alias == LATEST:
        raise InputError("the alias 'latest' always means the newest version; choose another one")
    if len(alias) > _LONGEST or not _ALIAS.fullmatch(alias):
        raise InputError(
            f"'{alias}': an alias starts with a letter and is made of letters, digits, '.', '_' "
            "and '-', such as champion"
        )
    return alias


def check_key(key: str, what: str) -> str:
    """Return a tag's key or a metric's name.

    Raises:
        InputError: it is empty, too long, or holds characters that cannot be printed.

    """
    if not key or len(key) > _LONGEST or not key.isprintable():
        raise InputError(f"{key!r:.80}: {what} is 1 to {_LONGEST} printable characters")
    return key
