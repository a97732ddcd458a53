"""Everything that the program refuses to do, as one tree of errors.

::

    RebasinError                 a known failure: one message, exit code 1, no traceback
    ├── InputError               something that was given cannot be used
    │   ├── FormatError          a checkpoint file is damaged, hostile or of an unknown kind
    │   ├── FileError            a YAML file is wrong; carries every Problem at once
    │   │   └── SpecError        that file is a spec
    │   ├── BindingError         a spec does not fit a checkpoint; carries every Mismatch at once
    │   ├── DetectionError       no spec, or more than one, fits a checkpoint
    │   ├── PermutationError     permutations are malformed or belong to another model
    │   ├── IncompatibleError    two checkpoints cannot be compared or merged
    │   └── NotFiniteError       weights hold NaN or infinity where numbers are compared
    ├── OutputError              an output exists, cannot be written, or is the input itself
    ├── MissingExtraError        an optional dependency is not installed
    ├── StoppedError             the user stopped a search; its best so far was kept
    └── ProofError               a check of the result failed: nothing was written

Messages name the place, what was found, what was expected and what to do about it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "BindingError",
    "DetectionError",
    "FileError",
    "FormatError",
    "IncompatibleError",
    "InputError",
    "Mismatch",
    "MissingExtraError",
    "NotFiniteError",
    "OutputError",
    "PermutationError",
    "Problem",
    "ProofError",
    "RebasinError",
    "SpecError",
    "StoppedError",
]


class RebasinError(Exception):
    """A known failure; its text is the whole message that a user sees."""


class StoppedError(RebasinError):
    """The user stopped a search, whose best so far was kept; exit code 130."""


class InputError(RebasinError):
    """Something that was given cannot be used."""


class FormatError(InputError):
    """A checkpoint file is damaged, hostile or of an unknown kind."""


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a YAML file: where (line 1-based, 0 unknown), and what."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place} {self.key}: {self.message}" if self.key else f"{place} {self.message}"


class FileError(InputError):
    """A YAML file is wrong; `problems` holds every reason, in file order."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class SpecError(FileError):
    """A spec file is wrong; `problems` holds every reason, in file order."""


@dataclass(frozen=True)
class Mismatch:
    """One tensor (or size) of a checkpoint that a spec does not describe."""

    kind: str
    """`missing`, `unexpected`, `rank`, `size`, `unsolved`, `index`, `ambiguous` or `config`."""
    name: str
    message: str

    def __str__(self) -> str:
        return f"{self.name}: {self.message}" if self.name else self.message


class BindingError(InputError):
    """A spec does not fit a checkpoint; `mismatches` holds every reason."""

    SHOWN = 20

    def __init__(self, spec: str, mismatches: Sequence[Mismatch]) -> None:
        self.spec = spec
        self.mismatches = tuple(mismatches)
        lines = [f"  {mismatch}" for mismatch in self.mismatches[: self.SHOWN]]
        if len(self.mismatches) > self.SHOWN:
            lines.append(f"  … and {len(self.mismatches) - self.SHOWN} more")
        count = f"{len(self.mismatches)} mismatch" + "es" * (len(self.mismatches) != 1)
        super().__init__("\n".join([f"spec '{spec}' does not fit ({count}):", *lines]))


class DetectionError(InputError):
    """No spec, or more than one, fits a checkpoint."""


class PermutationError(InputError):
    """Permutations are malformed, or belong to another model."""


class IncompatibleError(InputError):
    """Two checkpoints cannot be compared or merged with one another."""


class NotFiniteError(InputError):
    """Weights hold NaN or infinity where numbers have to be compared."""


class OutputError(RebasinError):
    """An output exists, cannot be written, or is the input itself."""


class MissingExtraError(RebasinError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        self.extra = extra
        super().__init__(f"{what} needs an extra: pip install 'rebasin-hub[{extra}]'")


class ProofError(RebasinError):
    """A check of the result failed; nothing was written."""
