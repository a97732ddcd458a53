"""The models that are connected: opened, digested, and read with their masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rebasin_hub.bind import Binding
from rebasin_hub.hub.reference import name_of
from rebasin_hub.pipeline.connect.masks import Masks, open_masks
from rebasin_hub.pipeline.models import Choice, Model, open_like, open_model
from rebasin_hub.pipeline.progress import Progress, counting
from rebasin_hub.rearrange import Read
from rebasin_hub.record.model import ModelRecord
from rebasin_hub.tensors import DTYPES

__all__ = [
    "Member",
    "Source",
    "cosine",
    "counted",
    "letters",
    "notes_of",
    "open_members",
    "sources_of",
]


@dataclass(frozen=True)
class Source:
    """A checkpoint as it is named in the record, with a mask file where there is one."""

    label: str
    path: Path
    masks: Path | None = None


@dataclass(frozen=True, eq=False)
class Member:
    """An open model. `digest` is the plain one of its weights, without masks."""

    label: str
    model: Model
    digest: str
    masks: Masks

    @property
    def read(self) -> Read:
        """Reads the weights that are measured: those that are pruned are zero."""
        return self.masks.on(self.model.read)

    @property
    def record(self) -> ModelRecord:
        """The model as a record names it."""
        return ModelRecord(name=name_of(self.model.checkpoint.path), digest=self.digest)


@contextmanager
def open_members(
    sources: Sequence[Source], choice: Choice, progress: Progress | None, *, read: bool
) -> Iterator[tuple[Member, ...]]:
    """Open models of one architecture, and digest them unless no weights shall be read.

    Raises:
        InputError: a checkpoint, the spec or a mask file cannot be used, or the models differ in
            architecture.

    """
    with ExitStack() as stack:
        first = stack.enter_context(open_model(sources[0].path, choice))
        others = [stack.enter_context(open_like(source.path, first)) for source in sources[1:]]
        members = []
        for source, model in zip(sources, (first, *others), strict=True):
            told = counting(model.read, model.header, progress, f"digesting {source.label}")
            digest = model.digest(told) if read else ""
            members.append(Member(source.label, model, digest, open_masks(source.masks, model)))
        yield tuple(members)


def notes_of(members: Sequence[Member]) -> tuple[str, ...]:
    """Return what a user should know of the checkpoints."""
    models = [member.model for member in members]
    told = [note for model in models for note in (*model.checkpoint.notes, *model.borrowed)]
    return tuple(dict.fromkeys(told))


def sources_of(paths: Sequence[Path]) -> list[Source]:
    """Return models without masks, named by letters."""
    return [Source(name, path) for name, path in zip(letters(len(paths)), paths, strict=True)]


def letters(count: int) -> tuple[str, ...]:
    """Return names of models: A to Z, and after that AA, AB and so on."""
    return tuple(_letter(number) for number in range(count))


def _letter(number: int) -> str:
    rest, last = divmod(number, 26)
    return (_letter(rest - 1) if rest else "") + chr(ord("A") + last)


def counted(binding: Binding) -> Iterator[str]:
    """Yield the names of the tensors that count in aligning: floats that are no statistics."""
    for tensor in binding.tensors:
        for name in tensor.names.flat:
            if not tensor.statistic and DTYPES[binding.header[str(name)].dtype].floating:
                yield str(name)


def cosine(binding: Binding, read_a: Read, read_b: Read) -> float:
    """Return the cosine of the angle between two models' weights that count; 1 for zeros."""
    products = np.zeros(3)
    for name in counted(binding):
        a, b = (np.asarray(read(name)).astype(np.float64).ravel() for read in (read_a, read_b))
        products += a @ b, a @ a, b @ b
    norms = float(np.sqrt(products[1] * products[2]))
    # Rounding may lead a hair beyond the ends.
    return float(np.clip(products[0] / norms, -1.0, 1.0)) if norms else 1.0
