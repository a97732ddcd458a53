"""Open a checkpoint and bind the spec that describes it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path

from rebasin_hub.bind import Binding, bind
from rebasin_hub.bind.detect import detect
from rebasin_hub.digest import plain_digest
from rebasin_hub.errors import DetectionError, IncompatibleError
from rebasin_hub.formats import open_checkpoint
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.pipeline.graphs import (
    GraphBinding,
    against_graph,
    infer_binding,
    require_same_graph,
)
from rebasin_hub.rearrange import Array, Read
from rebasin_hub.spec import Spec
from rebasin_hub.spec.sizes import config_size
from rebasin_hub.specfile import find_spec, load_spec, shipped_specs, spec_digest
from rebasin_hub.stream import A_FEW, Bound
from rebasin_hub.tasks import Subject
from rebasin_hub.tensors import DTYPES, Header

__all__ = [
    "AUTOMATIC",
    "Choice",
    "Model",
    "all_specs",
    "open_like",
    "open_model",
    "require_averages",
]

COUNTER = "num_batches_tracked"
"""What BatchNorm counts; checkpoints in the wild lack it."""
SHOWN = 10
"""Differences that a message lists."""


@dataclass(frozen=True)
class Choice:
    """How a user chose the spec: by name or path, or not at all, and sizes that were given."""

    spec: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)

    def bind(self, checkpoint: Checkpoint) -> Binding:
        """Bind the chosen spec, or the one that fits, to an open checkpoint.

        Where an ONNX model or a .pt2 file holds the graph, that decides: a spec that fits by names
        and shapes is taken if the graph allows what it renumbers; else, and where none fits, one is
        inferred from the graph. The checkpoint's notes say which.

        Raises:
            BindingError: the chosen spec does not fit.
            DetectionError: none, or more than one, fits, and none can be inferred.
            MissingExtraError: onnx or torch, which reads the graph, is not installed.

        """
        if self.spec is not None:
            spec = find_spec(self.spec)
            return bind(spec, checkpoint.header, config=checkpoint.config, sizes=self.sizes)
        try:
            found = detect(checkpoint.header, checkpoint.config, all_specs(), self.sizes)
        except DetectionError as problem:
            bound: Binding = infer_binding(checkpoint, problem)
        else:
            bound = against_graph(checkpoint, found)
        if isinstance(bound, GraphBinding):
            checkpoint.notes = (*checkpoint.notes, bound.note)
        return bound


AUTOMATIC = Choice()
"""The spec that fits, with no sizes given."""


@dataclass(frozen=True, eq=False)
class Model:
    """An open checkpoint with its binding.

    `elsewhere` says where tensors are read that the binding has and the checkpoint does not store.
    """

    checkpoint: Checkpoint
    binding: Binding
    elsewhere: Mapping[str, tuple[Checkpoint, str]] = field(default_factory=dict)

    @property
    def header(self) -> Header:
        """The tensors that the binding describes."""
        return self.binding.header

    def read(self, name: str) -> Array:
        """Read one tensor that the binding has."""
        checkpoint, stored = self.elsewhere.get(name, (self.checkpoint, name))
        return checkpoint.read(stored)

    @property
    def subject(self) -> Subject:
        """What a task builds the network from."""
        opened = self.checkpoint
        return Subject(opened.path, self.binding, opened.config, opened.tied)

    @property
    def borrowed(self) -> tuple[str, ...]:
        """What a user should know of counters that were missing."""
        names = [n for n, (from_, _) in self.elsewhere.items() if from_ is not self.checkpoint]
        if not names:
            return ()
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        other = self.elsewhere[names[0]][0].path
        return (f"{self.checkpoint.path} lacks {names[0]}{more}; those of {other} were taken",)

    @property
    def inferred(self) -> tuple[str, ...]:
        """What a user should know of a spec that a graph speaks for."""
        return (self.binding.note,) if isinstance(self.binding, GraphBinding) else ()

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

    def digest(
        self,
        read: Read | None = None,
        skip: Collection[str] | None = None,
        bound: Bound = A_FEW,
    ) -> str:
        """Return the plain digest of the weights.

        Args:
            read: reads the weights in another numbering.
            skip: names to leave out; those that are tied to others by default.
            bound: how many bytes of tensors are held at a time.

        """
        skip = self.checkpoint.tied if skip is None else skip
        return plain_digest(self.header, read or self.read, skip, bound=bound)


@cache
def all_specs() -> tuple[Spec, ...]:
    """Load every shipped spec, once."""
    return tuple(load_spec(path) for path in shipped_specs().values())


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

    It may lack a tied tensor, or a counter such as BatchNorm's `num_batches_tracked`, that the
    other one has: then the tensor that it is tied to, or the other one's counter, is read.

    Raises:
        IncompatibleError: tensors are missing, or differ in shape; or the graph in its file
            does not allow the spec.

    """
    with open_checkpoint(path) as checkpoint:
        elsewhere = _elsewhere(model, checkpoint)
        require_same_tensors(model, checkpoint, elsewhere)
        require_same_sizes(model, checkpoint)
        require_same_graph(model.binding, checkpoint)
        header = {name: checkpoint.header.get(name, info) for name, info in model.header.items()}
        yield Model(checkpoint, replace(model.binding, header=header), elsewhere)


def _elsewhere(model: Model, other: Checkpoint) -> dict[str, tuple[Checkpoint, str]]:
    """Return where another checkpoint's missing tensors are read, as far as they may be missing."""
    found = {}
    for name in (n for n in model.header if n not in other.header):
        first = model.checkpoint.tied.get(name)
        if first is not None:
            found[name] = (other, first)
        elif _is_counter(model, name):
            found[name] = (model.checkpoint, name)
    return found


def _is_counter(model: Model, name: str) -> bool:
    tensor = model.binding.of_name.get(name)
    floating = DTYPES[model.header[name].dtype].floating
    return tensor is not None and tensor.statistic and not floating


def require_same_tensors(model: Model, other: Checkpoint, elsewhere: Collection[str] = ()) -> None:
    """Refuse a checkpoint that has not the same tensor names and shapes as a model.

    Names in `elsewhere` may be missing, and tied ones and counters be there besides.

    Raises:
        IncompatibleError: with the first few differences and their number.

    """
    differences = []
    for name in sorted(model.header.keys() | other.header.keys()):
        mine, theirs = model.header.get(name), other.header.get(name)
        if mine is None:
            if name not in other.tied and not name.endswith(COUNTER):
                differences.append(f"{name}: is missing in {model.checkpoint.path}")
        elif theirs is None:
            if name not in elsewhere:
                differences.append(f"{name}: is missing in {other.path}")
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


def require_averages(model: Model) -> None:
    """Refuse a model whose quantized weights no average can be taken of.

    Raises:
        IncompatibleError: whole numbers are renumbered, as weights are; with the first tensor.

    """
    for tensor in model.binding.tensors:
        name = str(tensor.names.flat[0])
        atoms = (atom for axis in tensor.axes for s in axis.segments for atom in s.atoms)
        moved = len(model.header[name].shape) > 1 and any(a.permutation for a in atoms)
        if moved and not DTYPES[model.header[name].dtype].floating:
            raise IncompatibleError(
                f"{model.checkpoint.path}: '{name}' holds quantized weights, which cannot be "
                "averaged; merge the models before they are quantized"
            )


def _sizes_of(binding: Binding, word: str) -> set[int]:
    """Return the solved sizes of all instances of a word."""
    return {n for key, n in binding.sizes.items() if key == word or key.startswith(f"{word}[")}
