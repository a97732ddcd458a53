"""The one signature that all methods of aligning share, and how a method is described."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias

from rebasin_hub.align.evidence import Evidence
from rebasin_hub.align.result import Goal
from rebasin_hub.align.state import State
from rebasin_hub.align.watch import Watch
from rebasin_hub.bind import Binding
from rebasin_hub.errors import InputError
from rebasin_hub.permute import Element, Index
from rebasin_hub.rearrange import Read
from rebasin_hub.spec.check import nearest

__all__ = ["Found", "Method", "MethodKind", "Models", "NoSettings", "Options", "Search"]


@dataclass(frozen=True, eq=False)
class Models:
    """Two models as they are stored: for what the state's blocks leave out, such as statistics.

    `read_a` reads the reference, `read_b` the model in its own numbering.
    """

    binding: Binding
    read_a: Read
    read_b: Read


@dataclass(frozen=True)
class NoSettings:
    """Nothing can be set."""


@dataclass(frozen=True, eq=False)
class Options:
    """What a method may be told: see `align`.

    settings: an instance of the method's own `Method.settings`.
    models: as stored.
    evidence: there for methods that need it.
    watch: to be asked for the time, and told of progress and of the best so far.
    """

    seed: int = 0
    restarts: int = 1
    max_sweeps: int = 100
    start: Element | None = None
    settings: Any = field(default_factory=NoSettings)
    models: Models | None = None
    evidence: Evidence | None = None
    watch: Watch = field(default_factory=Watch)


@dataclass(frozen=True, eq=False)
class Found:
    """What a method found: the fields of the same names of `Alignment`."""

    element: dict[str, Index]
    history: tuple[float, ...]
    restarts: tuple[float, ...]
    converged: bool
    goal: Goal | None = None
    notes: tuple[str, ...] = ()


Search: TypeAlias = Callable[[State, Options], Found]
"""Search for an element of the group, starting with the state at the identity.

`history` and `restarts` are in the measure of the goal where the result has one."""


@dataclass(frozen=True)
class Method:
    """A way to find the renumbering of a model that brings it to a reference.

    search: the search itself.
    summary: what it does, in a few words.
    settings: a frozen dataclass of numbers, booleans and texts, each with a default.
    needs: `evidence` if there has to be a network with data, `either` if a setting decides.
    source: paper and section.
    streams: whether it takes blocks one after the other, and so from where they are stored.
    """

    search: Search
    summary: str
    settings: type = NoSettings
    needs: Literal["weights", "evidence", "either"] = "weights"
    source: str = ""
    streams: bool = False

    def with_settings(self, name: str, given: Mapping[str, str]) -> object:
        """Return the method's settings with some of them read from text.

        Raises:
            InputError: an unknown setting, or a value of another type.

        """
        known = {f.name: f.default for f in fields(self.settings)}
        values: dict[str, object] = {}
        for key, text in given.items():
            if key not in known:
                there = ", ".join(known) or "none"
                raise InputError(
                    f"method '{name}' has no setting '{key}'{nearest(key, known)}; there are: "
                    f"{there}"
                )
            values[key] = _read(f"{name}:{key}", text, known[key])
        settings: object = self.settings(**values)
        return settings


@dataclass(frozen=True)
class MethodKind:
    """A method as it is listed: with the defaults of its settings."""

    name: str
    summary: str
    needs: str
    settings: Mapping[str, object]
    source: str

    @classmethod
    def of(cls, name: str, method: Method) -> MethodKind:
        """Describe an entry of the table."""
        settings = {f.name: f.default for f in fields(method.settings)}
        return cls(name, method.summary, method.needs, settings, method.source)


def _read(place: str, text: str, default: object) -> object:
    """Read a value of the type that its default has."""
    if isinstance(default, bool):
        if text.lower() in {"true", "yes", "1", "false", "no", "0"}:
            return text.lower() in {"true", "yes", "1"}
        raise InputError(f"{place}: '{text}' is neither true nor false")
    if isinstance(default, int | float):
        try:
            return type(default)(text)
        except ValueError:
            kind = "an integer" if isinstance(default, int) else "a number"
            raise InputError(f"{place}: '{text}' is not {kind}; such as {default}") from None
    return text
