"""Open a checkpoint and bind the spec that describes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from rebasin_hub.bind import Binding, bind
from rebasin_hub.bind.detect import detect
from rebasin_hub.digest import plain_digest
from rebasin_hub.errors import IncompatibleError
from rebasin_hub.formats import open_checkpoint
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.rearrange import Array, Read
from rebasin_hub.spec import Spec
from rebasin_hub.spec.sizes import config_size
from rebasin_hub.specfile import find_spec, load_spec, shipped_specs, spec_digest
from rebasin_hub.tensors import Header

__all__ = ["Choice", "Model", "Progress", "all_specs", "counting", "open_like", "open_model"]

SHOWN = 10
"""Differences that a message lists."""

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told what is going on, how much of it is done, and how much there is in all."""


@dataclass(frozen=True)
class Choice:
    """How a user chose the spec: by name or path, or not at all, and sizes that were given."""

    spec: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)

    def bind(self, checkpoint: Checkpoint) -> Binding:
        """Bind the chosen spec, or the one that fits, to an open checkpoint.

        Raises:
            BindingError: the chosen spec does not fit.
            DetectionError: none, or more than one, fits.

        """
        if self.spec is not None:
            spec = find_spec(self.spec)
            return bind(spec, checkpoint.header, config=checkpoint.config, sizes=self.sizes)
        return detect(checkpoint.header, checkpoint.config, all_specs(), self.sizes)


@dataclass(frozen=True, eq=False)
class Model:
    """An open checkpoint with its binding."""

    checkpoint: Checkpoint
    binding: Binding

    @property
    def header(self) -> Header:
        """The checkpoint's tensors."""
        return self.checkpoint.header

    @property
    def read(self) -> Read:
        """The reader of the checkpoint's tensors."""
        return self.checkpoint.read

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(info.nbytes for info in self.header.values())

    @property
    def parameters(self) -> int:
        """Number of elements, those of tied tensors counted once."""
        tied = self.checkpoint.tied
        return sum(info.size for name, info in self.header.items() if name not in tied)

    @cached_property
    def spec_digest(self) -> str:
        """The digest of the spec's meaning."""
        return spec_digest(self.binding.spec)

    def digest(self, read: Read | None = None) -> str:
        """Return the plain digest of the weights, or of another reader's of the same tensors."""
        return plain_digest(self.header, read or self.read, self.checkpoint.tied)


def all_specs() -> list[Spec]:
    """Load every shipped spec."""
    return [load_spec(path) for path in shipped_specs().values()]


@contextmanager
def open_model(path: Path, choice: Choice) -> Iterator[Model]:
    """Open a checkpoint and bind its spec.

    Raises:
        FormatError: the file is damaged or of an unknown kind.
        BindingError, DetectionError: no spec fits.

    """
    with open_checkpoint(path) as checkpoint:
        yield Model(checkpoint, choice.bind(checkpoint))


@contextmanager
def open_like(path: Path, model: Model) -> Iterator[Model]:
    """Open a checkpoint of the same architecture and sizes as another one.

    Raises:
        IncompatibleError: tensors are missing, or differ in shape.

    """
    with open_checkpoint(path) as checkpoint:
        require_same_tensors(model, checkpoint)
        require_same_sizes(model, checkpoint)
        yield Model(checkpoint, replace(model.binding, header=checkpoint.header))


def require_same_tensors(model: Model, other: Checkpoint) -> None:
    """Refuse a checkpoint that has not the same tensor names and shapes as a model.

    Raises:
        IncompatibleError: with the first few differences and their number.

    """
    differences = []
    for name in sorted(model.header.keys() | other.header.keys()):
        mine, theirs = model.header.get(name), other.header.get(name)
        if mine is None or theirs is None:
            missing = model.checkpoint.path if mine is None else other.path
            differences.append(f"{name}: is missing in {missing}")
        elif mine.shape != theirs.shape:
            differences.append(f"{name}: {_axes_that_differ(model.binding, name, theirs.shape)}")
    if differences:
        shown = "\n".join(f"  {difference}" for difference in differences[:SHOWN])
        more = f"\n  … and {len(differences) - SHOWN} more" if len(differences) > SHOWN else ""
        raise IncompatibleError(
            f"{model.checkpoint.path} and {other.path} do not have the same tensors "
            f"({len(differences)} differ):\n{shown}{more}"
        )


def _axes_that_differ(binding: Binding, name: str, other: tuple[int, ...]) -> str:
    """Say in the words of the spec which axes of a tensor have another length."""
    shape = binding.header[name].shape
    tensor = binding.of_name.get(name)
    if tensor is None or len(shape) != len(other):
        return f"{list(shape)} against {list(other)}"
    found = []
    for number, (mine, theirs) in enumerate(zip(shape, other, strict=True)):
        if mine != theirs:
            atoms = [atom.word for s in tensor.axes[number].segments for atom in s.atoms]
            found.append(f"axis {number} ({' '.join(atoms)}) is {mine} against {theirs}")
    return ", ".join(found)


def require_same_sizes(model: Model, other: Checkpoint) -> None:
    """Refuse a checkpoint whose config.json contradicts sizes that shapes do not show.

    Raises:
        IncompatibleError: with the first such size, the number of attention heads, say.

    """
    for word, source in model.binding.spec.sizes.items():
        if not isinstance(source, str) or other.config is None:
            continue
        theirs = config_size(source, other.config)
        for mine in _sizes_of(model.binding, word):
            if theirs is not None and theirs != mine:
                raise IncompatibleError(
                    f"'{word}' is {mine} in {model.checkpoint.path} and {theirs} in {other.path} "
                    f"({source} in config.json): these are different architectures"
                )


def _sizes_of(binding: Binding, word: str) -> set[int]:
    """Return the solved sizes of all instances of a word."""
    return {n for key, n in binding.sizes.items() if key == word or key.startswith(f"{word}[")}


def counting(read: Read, header: Header, progress: Progress | None, stage: str) -> Read:
    """Return a reader that tells `progress(stage, done, total)` how many bytes it has read."""
    if progress is None:
        return read
    total, done = sum(info.nbytes for info in header.values()), 0

    def read_and_count(name: str) -> Array:
        nonlocal done
        array = read(name)
        done = min(total, done + header[name].nbytes)
        progress(stage, done, total)
        return array

    return read_and_count
