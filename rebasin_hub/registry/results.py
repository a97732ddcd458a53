"""What the registry is told and what it answers, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

__all__ = [
    "Added",
    "Alias",
    "AliasEvent",
    "Artefact",
    "Collected",
    "CompactFacts",
    "Duplicates",
    "Edge",
    "Facts",
    "FileFacts",
    "Finding",
    "Imported",
    "Kept",
    "Lineage",
    "Metric",
    "ModelSummary",
    "Parent",
    "ParentKind",
    "ReferenceModel",
    "Transferred",
    "Verified",
    "Version",
    "VersionDetails",
]


class Kept(StrEnum):
    """How the registry keeps a version's files."""

    IN_PLACE = "in place"
    STORED = "stored"
    LINKED = "linked"
    COMPACT = "compact"


class ParentKind(StrEnum):
    """How a version came from a parent."""

    CANONICALIZED_FROM = "canonicalized-from"
    ALIGNED_TO = "aligned-to"
    MERGED_FROM = "merged-from"
    CONVERTED_FROM = "converted-from"
    FINE_TUNED_FROM = "fine-tuned-from"


@dataclass(frozen=True)
class FileFacts:
    """One file of a version: its name inside it, where it lay, and what identifies it."""

    name: str
    path: Path
    digest: str
    nbytes: int
    mtime_ns: int
    weights: bool


@dataclass(frozen=True)
class Facts:
    """What identifies and describes a checkpoint.

    `main` is the name of the file to open, empty where the directory is. `digest` is the plain
    digest of the weights, `canonical` the one in canonical order, None where no spec fits;
    `exact` tells whether every renumbered copy has the same one. `signature` is a digest of the
    sizes and the group: equal for models that can be aligned. `dtypes` maps a type to its elements.
    """

    files: tuple[FileFacts, ...]
    main: str
    format: str
    digest: str
    canonical: str | None
    exact: bool
    spec: str | None
    spec_digest: str | None
    signature: str | None
    sizes: Mapping[str, int]
    dtypes: Mapping[str, int]
    parameters: int
    nbytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Parent:
    """A parent of a version: `model` is a reference, or `hf://…` for one that lies elsewhere."""

    kind: ParentKind
    model: str


@dataclass(frozen=True)
class Artefact:
    """A small file that belongs to a version, such as a permutation file or a record."""

    name: str
    role: str
    digest: str
    nbytes: int


@dataclass(frozen=True)
class CompactFacts:
    """How a version is kept compactly: its base, the recipe's digest, and the bytes it takes."""

    base: str
    recipe: str
    nbytes: int


@dataclass(frozen=True)
class Version:
    """One immutable version of a model, as lists show it; `bytes_on_disk` counts its files."""

    name: str
    number: int
    kept: Kept
    format: str
    digest: str
    canonical: str | None
    spec: str | None
    parameters: int
    nbytes: int
    created: str
    source: str
    aliases: tuple[str, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    removed: str | None = None

    @property
    def reference(self) -> str:
        """The version as it can be typed: `name:3`."""
        return f"{self.name}:{self.number}"


@dataclass(frozen=True)
class Metric:
    """A measured number: what, on which task, and the record that proves it."""

    name: str
    value: float | None
    task: str
    task_digest: str
    record: str | None
    created: str


@dataclass(frozen=True)
class VersionDetails:
    """Everything that is known of one version."""

    version: Version
    main: str
    exact: bool
    spec_digest: str | None
    signature: str | None
    sizes: Mapping[str, int]
    dtypes: Mapping[str, int]
    files: tuple[FileFacts, ...]
    artefacts: tuple[Artefact, ...]
    metrics: tuple[Metric, ...]
    parents: tuple[Parent, ...]
    children: tuple[Parent, ...]
    compact: CompactFacts | None
    reference_of: bool


@dataclass(frozen=True)
class Added:
    """A version that was registered.

    `same_as` names versions with the same weights up to renumbering; `stored_bytes` counts what
    the store grew by, `shared_bytes` what it had already.
    """

    version: Version
    same_as: tuple[str, ...]
    parents: tuple[Parent, ...]
    stored_bytes: int
    shared_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelSummary:
    """One model with its newest version."""

    name: str
    versions: int
    latest: int
    created: str
    spec: str | None
    parameters: int
    aliases: Mapping[str, int]


@dataclass(frozen=True)
class Alias:
    """Where an alias points."""

    name: str
    alias: str
    number: int


@dataclass(frozen=True)
class AliasEvent:
    """One step in an alias's history; `number` is where it points from then on."""

    name: str
    alias: str
    action: str
    number: int | None
    created: str


@dataclass(frozen=True)
class Edge:
    """A child, how it came from a parent, and the parent (`hf://…` where it lies elsewhere)."""

    child: str
    kind: ParentKind
    parent: str


@dataclass(frozen=True)
class Lineage:
    """All ancestors and descendants of a version, with every edge between them."""

    root: str
    versions: Mapping[str, Version]
    edges: tuple[Edge, ...]


@dataclass(frozen=True)
class Duplicates:
    """Versions that are the same model; `identical` if they are so without renumbering too."""

    digest: str
    identical: bool
    versions: tuple[str, ...]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: with what (a version, an object, the database), and what to do."""

    subject: str
    message: str

    def __str__(self) -> str:
        return f"{self.subject}: {self.message}"


@dataclass(frozen=True)
class Verified:
    """What was checked, and everything that is wrong; `objects_unused` is what gc would take."""

    versions: int
    files_in_place: int
    objects: int
    objects_unused: int
    nbytes: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


@dataclass(frozen=True)
class Collected:
    """What garbage collection took away, or would take away."""

    dry_run: bool
    versions: tuple[str, ...]
    objects: int
    temporary: int
    restored: int
    nbytes: int


@dataclass(frozen=True)
class Transferred:
    """What was written to an archive."""

    path: Path
    versions: tuple[str, ...]
    objects: int
    nbytes: int


@dataclass(frozen=True)
class Imported:
    """What was taken over from an archive; `known` were here already."""

    path: Path
    versions: tuple[str, ...]
    known: tuple[str, ...]
    objects: int
    nbytes: int


@dataclass(frozen=True)
class ReferenceModel:
    """The reference of an architecture at its sizes."""

    spec: str
    spec_digest: str
    signature: str
    version: str
    created: str
