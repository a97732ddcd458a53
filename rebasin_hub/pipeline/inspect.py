"""Say what a file holds: a checkpoint, its digests, or permutations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rebasin_hub.digest import both_digests, plain_digest
from rebasin_hub.errors import BindingError, DetectionError
from rebasin_hub.formats import open_checkpoint
from rebasin_hub.permfile import FORMAT, PermutationFile
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, open_model
from rebasin_hub.pipeline.ordering import ordered
from rebasin_hub.pipeline.progress import Progress, counting
from rebasin_hub.stream import A_FEW, Bound
from rebasin_hub.tensors import TensorInfo

__all__ = [
    "Digests",
    "Inspection",
    "PermutationInspection",
    "PlainDigest",
    "digests",
    "inspect_file",
    "stored_digest",
]


@dataclass(frozen=True)
class Inspection:
    """What the header of a checkpoint says, and the spec that fits it.

    `permutations` and `log10_order` are empty where no spec fits; `problem` then says why.
    """

    path: Path
    format: str
    tensors: Mapping[str, TensorInfo]
    parameters: int
    nbytes: int
    dtypes: Mapping[str, int]
    metadata: Mapping[str, str]
    tied: Mapping[str, str]
    notes: tuple[str, ...]
    spec: str | None
    permutations: Mapping[str, int]
    log10_order: float
    problem: str | None


@dataclass(frozen=True)
class PermutationInspection:
    """What a permutation file says, and how many units each permutation has and moves."""

    path: Path
    spec: str
    spec_digest: str
    source: str
    result: str
    method: str
    details: Mapping[str, str]
    sizes: Mapping[str, int]
    units: Mapping[str, int]
    moved: Mapping[str, int]


def inspect_file(path: Path, *, choice: Choice = AUTOMATIC) -> Inspection | PermutationInspection:
    """Describe a checkpoint from its header alone, or a permutation file.

    Raises:
        FormatError: the file is damaged or of an unknown kind.

    """
    with open_checkpoint(path) as checkpoint:
        if checkpoint.metadata.get("format") == FORMAT:
            return _inspect_permutations(path)
        header = checkpoint.header
        dtypes: dict[str, int] = {}
        for info in header.values():
            dtypes[info.dtype] = dtypes.get(info.dtype, 0) + info.size
        problem, binding = None, None
        try:
            binding = choice.bind(checkpoint)
        except (BindingError, DetectionError) as error:
            problem = str(error)
        factors = binding.group.factors if binding is not None else {}
        return Inspection(
            path=path,
            format=checkpoint.format,
            tensors=dict(header),
            parameters=sum(i.size for name, i in header.items() if name not in checkpoint.tied),
            nbytes=sum(info.nbytes for info in header.values()),
            dtypes=dtypes,
            metadata=dict(checkpoint.metadata),
            tied=dict(checkpoint.tied),
            notes=checkpoint.notes,
            spec=binding.spec.name if binding is not None else None,
            permutations={name: factor.size for name, factor in factors.items()},
            log10_order=binding.group.log10_order if binding is not None else 0.0,
            problem=problem,
        )


def _inspect_permutations(path: Path) -> PermutationInspection:
    file = PermutationFile.load(path)
    return PermutationInspection(
        path=path,
        spec=file.spec,
        spec_digest=file.spec_digest,
        source=file.source,
        result=file.result,
        method=file.method,
        details=file.details,
        sizes={name: factor.size for name, factor in file.group.factors.items()},
        units=file.group.units,
        moved=file.group.moved(file.element),
    )


@dataclass(frozen=True)
class Digests:
    """A checkpoint's digests: of the weights as stored, and in canonical order."""

    path: Path
    spec: str
    digest: str
    canonical: str
    exact: bool
    notes: tuple[str, ...] = ()


def digests(
    path: Path,
    *,
    choice: Choice = AUTOMATIC,
    bound: Bound = A_FEW,
    progress: Progress | None = None,
) -> Digests:
    """Compute the plain and the canonical digest of a checkpoint.

    Raises:
        InputError: the checkpoint or the spec cannot be used.

    """
    with open_model(path, choice) as model:
        tied = model.checkpoint.tied
        order = ordered(model, progress, tied, bound)
        plain, canonical = both_digests(
            model.binding, order.element, model.read, skip=tied, bound=bound
        )
        spec = model.binding.spec.name
        return Digests(path, spec, plain, canonical, order.exact, model.inferred)


@dataclass(frozen=True)
class PlainDigest:
    """The digest of a checkpoint's weights as they are stored."""

    path: Path
    digest: str
    notes: tuple[str, ...] = ()


def stored_digest(
    path: Path, *, bound: Bound = A_FEW, progress: Progress | None = None
) -> PlainDigest:
    """Compute the plain digest of a checkpoint, which takes no spec and one reading.

    Raises:
        FormatError: the file is damaged or of an unknown kind.

    """
    with open_checkpoint(path) as checkpoint:
        read = counting(checkpoint.read, checkpoint.header, progress, "hashing")
        digest = plain_digest(checkpoint.header, read, checkpoint.tied, bound=bound)
        return PlainDigest(path, digest, checkpoint.notes)
