"""What a merge will do and take, from headers and a quick probe of the machine."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rebasin_hub.errors import OutputError
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.pipeline.memory import held
from rebasin_hub.pipeline.merging.probe import Speed, probe
from rebasin_hub.pipeline.merging.recipe import Recipe
from rebasin_hub.pipeline.models import Model
from rebasin_hub.stream import A_FEW, Bound
from rebasin_hub.tensors import DTYPES, Header

__all__ = ["Disk", "Estimate", "MergePlan", "WeightGroup", "Weights", "disk_of", "estimate_of"]

Weights = Mapping[str, tuple[float, ...]]
"""For each tensor the weight of each model."""

SWEEPS = 6
"""Passes of one descent over all permutations, the start among them, as it is often seen."""
ROUNDS = 3
"""Rounds of merge-many, as it is often seen."""
RESTARTS = 3


@dataclass(frozen=True)
class WeightGroup:
    """Tensors that are merged with the same weights, one for each model."""

    weights: tuple[float, ...]
    tensors: tuple[str, ...]

    @classmethod
    def of(cls, weights: Weights, header: Header) -> tuple[WeightGroup, ...]:
        """Group the tensors that are merged (integers are not) by their weights."""
        groups: dict[tuple[float, ...], list[str]] = {}
        for name, info in header.items():
            if DTYPES[info.dtype].floating:
                groups.setdefault(weights[name], []).append(name)
        return tuple(cls(shared, tuple(names)) for shared, names in groups.items())


@dataclass(frozen=True)
class Disk:
    """Bytes that an output takes while it is written, and that its disk has left."""

    needed: int
    free: int

    def check(self, output: Path) -> None:
        """Refuse an output that does not fit.

        Raises:
            OutputError: with both sizes.

        """
        if self.needed > self.free:
            raise OutputError(
                f"{output}: needs {self.needed:,} bytes, and the disk has {self.free:,} left; "
                "free some space or choose another place"
            )


@dataclass(frozen=True)
class Estimate:
    """What a merge takes, about.

    memory: bytes at the worst moment of each part; the largest of them, with the program's own,
        is the peak.
    seconds: of each part.
    """

    memory: Mapping[str, int]
    seconds: Mapping[str, float]

    @property
    def peak(self) -> int:
        """Bytes of memory at the worst moment."""
        parts = dict(self.memory)
        return parts.pop("program") + max(parts.values())

    @property
    def total(self) -> float:
        """Seconds in all."""
        return math.fsum(self.seconds.values())


@dataclass(frozen=True)
class MergePlan:
    """What a merge will do, known before the weights are read.

    weights: one for each model, where all tensors have the same.
    groups: the tensors by their weights.
    read_bytes: what the models hold; aligning reads it more than once.
    write_bytes: the tensors of the result.
    estimate: of a dry run.
    """

    models: tuple[Path, ...]
    weights: tuple[float, ...] | None
    groups: tuple[WeightGroup, ...]
    method: str
    align: bool
    strategy: str
    output: Path
    spec: str
    dtypes: Mapping[str, int]
    tensors: int
    parameters: int
    read_bytes: int
    write_bytes: int
    disk: Disk
    task: str | None = None
    repair: str | None = None
    estimate: Estimate | None = None
    notes: tuple[str, ...] = ()


def disk_of(source: Checkpoint, output: Path, header: Header) -> Disk:
    """Return what writing an output like a checkpoint takes of its disk.

    The output stands beside what it replaces until it is whole.
    """
    sides = getattr(source, "side_files", ()) if output.suffix.lower() != ".safetensors" else ()
    beside = sum((source.path / name).stat().st_size for name in sides)
    free = shutil.disk_usage(output.absolute().parent).free
    return Disk(sum(info.nbytes for info in header.values()) + beside, free)


def estimate_of(
    models: Sequence[Model],
    header: Header,
    recipe: Recipe,
    matching: Matching,
    bound: Bound = A_FEW,
) -> Estimate:
    """Estimate memory and time of a merge.

    Aligning counts as weight matching, on the CPU; measuring on a task is not counted.
    """
    speed = probe(models[0].checkpoint.files[0])
    nbytes = sum(model.nbytes for model in models)
    written = sum(info.nbytes for info in header.values())
    seconds = {
        "reading": nbytes / speed.read + nbytes / len(models) / speed.hashed,
        "merging": sum(info.size for info in header.values()) * len(models) / speed.merged,
        "writing": written / speed.read + 2 * written / speed.hashed,
    }
    memory = {"program": _own_memory(), "merging": _merging_memory(models, header, recipe, bound)}
    if recipe.align:
        runs, readers = _alignments(recipe, len(models))
        each = _alignment_seconds(models[0], speed)
        restarts = RESTARTS if matching.restarts is None else matching.restarts
        work = each * runs * SWEEPS * (restarts if matching.method == "weight" else 0)
        seconds["aligning"] = work + readers * models[0].nbytes / speed.read
        memory["aligning"] = matching.memory(models[0].binding) or held(models[0].binding)
    if recipe.measured is not None:
        states = len(models) + 2
        memory["task"] = states * 4 * models[0].parameters
    return Estimate(memory, seconds)


def _alignments(recipe: Recipe, count: int) -> tuple[int, int]:
    """Return how many alignments a strategy takes, and how many models are read for them."""
    pairs = count - 1
    if recipe.strategy == "merge-many" and count > 2:  # noqa: PLR2004
        return pairs + ROUNDS * count, 2 * pairs + ROUNDS * count * (count + 1)
    if recipe.strategy == "hierarchical":
        return pairs, count * max(1, math.ceil(math.log2(count)))
    return pairs, 2 * pairs


def _merging_memory(models: Sequence[Model], header: Header, recipe: Recipe, bound: Bound) -> int:
    """Return the bytes of tensors held at a time: of every model, renumbered, and merged."""
    copies = 2 if recipe.align else 1
    each = [
        copies * sum(model.header[name].nbytes for model in models) + info.nbytes
        for name, info in header.items()
    ]
    return max(0, *each, min(sum(each), bound.over(each)))


def _alignment_seconds(model: Model, speed: Speed) -> float:
    """Return the time of one pass over all permutations."""
    group = model.binding.group
    products = 0.0
    for tensor in model.binding.tensors:
        if not tensor.statistic:
            size = math.prod(tensor.shape) * tensor.names.size
            products += sum(2.0 * size * group.factors[name].size for name in tensor.permutations)
    pairs = sum(
        math.prod(group.shape(name)[:-1]) * factor.size**3 for name, factor in group.factors.items()
    )
    return products / speed.product + pairs * speed.pairing


def _own_memory() -> int:
    """Return what the program holds already, 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # pragma: no cover - Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
