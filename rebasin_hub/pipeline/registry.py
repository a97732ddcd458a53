"""Where checkpoints and the registry meet: what identifies a file, and which version it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rebasin_hub.bind import Binding
from rebasin_hub.errors import BindingError, DetectionError, FormatError, InputError
from rebasin_hub.formats import Checkpoint, open_checkpoint
from rebasin_hub.formats.directory import DirectoryCheckpoint
from rebasin_hub.permfile import FORMAT, PermutationFile
from rebasin_hub.pipeline.compacting import compacted
from rebasin_hub.pipeline.matching import WEIGHT_MATCHING, Matching
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, Model
from rebasin_hub.pipeline.ordering import NOT_EXACT, canonical_digest_of
from rebasin_hub.pipeline.progress import Progress, counting
from rebasin_hub.record import Record
from rebasin_hub.record import load as load_record
from rebasin_hub.registry import (
    Facts,
    FileFacts,
    Kept,
    Metric,
    Parent,
    ParentKind,
    Registry,
    default_place,
)
from rebasin_hub.registry.names import check_name
from rebasin_hub.registry.results import Added, Version
from rebasin_hub.registry.schema import FILE
from rebasin_hub.registry.store import digest_of_file
from rebasin_hub.specfile import spec_digest

__all__ = [
    "Adding",
    "Match",
    "Which",
    "add",
    "add_record",
    "facts_of",
    "reference_for",
    "resolve",
    "signature_of",
    "which",
]

PERMUTATION, RECORD, OTHER = "permutation", "record", "file"
"""Roles of artefacts."""


@dataclass(frozen=True)
class Adding:
    """How a version is to be registered.

    `keep` says where its files are kept; `base` is the version that a compact one is a difference
    to, looked for among its relatives by default. `artefacts` are small files that belong to it: a
    permutation file tells its parents too.
    """

    keep: Kept = Kept.IN_PLACE
    base: str | None = None
    source: str | None = None
    parents: Sequence[Parent] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    artefacts: Sequence[Path] = ()


@dataclass(frozen=True)
class Match:
    """A version that a checkpoint is, and how: `same files`, `same weights` or `renumbered`."""

    version: Version
    how: str


@dataclass(frozen=True)
class Which:
    """The versions that a checkpoint is; its digests as far as they were needed."""

    path: Path
    digest: str | None
    canonical: str | None
    matches: tuple[Match, ...]
    notes: tuple[str, ...] = ()


def add(
    registry: Registry,
    path: Path,
    name: str,
    adding: Adding | None = None,
    *,
    choice: Choice = AUTOMATIC,
    matching: Matching = WEIGHT_MATCHING,
    progress: Progress | None = None,
) -> Added:
    """Register a checkpoint as the next version of a model.

    Args:
        registry: where.
        path: the checkpoint.
        name: the model.
        adding: where it is kept, and what is noted with it.
        choice: the spec; found by itself by default. Without one, a version has no canonical
            digest, and is found by its weights as they are numbered alone.
        matching: how a compact version is aligned to its base.
        progress: told of each stage.

    Raises:
        InputError: the checkpoint, the spec, a parent or an artefact cannot be used.
        OutputError: the registry cannot be written.

    """
    adding = adding or Adding()
    check_name(name)
    matching.check()
    for parent in adding.parents:
        if not parent.model.startswith("hf://"):
            registry.show(parent.model)  # before the long work
    artefacts = [(file, _role(file)) for file in adding.artefacts]
    base = None if adding.base is None else registry.base_for(adding.base)[0].reference
    facts = facts_of(path, choice=choice, progress=progress)
    parents = [*adding.parents, *_told_by(registry, artefacts, facts)]
    keep, recipe = adding.keep, None
    if keep is Kept.COMPACT:
        base = base or _base_for(registry, facts, parents)
        found = compacted(
            registry, path, facts, base, choice=choice, matching=matching, progress=progress
        )
        recipe, facts = found.recipe, found.facts
        keep = Kept.STORED if recipe is None else Kept.COMPACT
    try:
        return registry.add(
            name,
            facts,
            keep=keep,
            source=str(path) if adding.source is None else adding.source,
            parents=parents,
            tags=dict(adding.tags),
            artefacts=artefacts,
            recipe=None if recipe is None or base is None else (recipe, base),
        )
    finally:
        if recipe is not None:
            recipe.path.unlink(missing_ok=True)


def _role(path: Path) -> str:
    if path.suffix == ".json":
        load_record(path)
        return RECORD
    if path.suffix != ".safetensors":
        return OTHER
    with open_checkpoint(path) as checkpoint:
        return PERMUTATION if checkpoint.metadata.get("format") == FORMAT else OTHER


def _told_by(
    registry: Registry, artefacts: Sequence[tuple[Path, str]], facts: Facts
) -> Iterator[Parent]:
    """Yield the parents that a permutation file tells, where they are registered.

    Raises:
        InputError: the file leads to another model than the one that it is to belong to.

    """
    for path, role in artefacts:
        if role != PERMUTATION:
            continue
        file = PermutationFile.load(path)
        if facts.digest not in {file.source, file.result}:
            raise InputError(
                f"{path}: leads from model {file.source[:12]} to {file.result[:12]}; the model to "
                f"register is {facts.digest[:12]}: it is the permutation file of another one"
            )
        if file.result != facts.digest or file.source == file.result:
            continue
        reference = file.details.get("reference")
        for digest, kind in (
            (file.source, ParentKind.CANONICALIZED_FROM),
            (reference, ParentKind.ALIGNED_TO),
        ):
            for version in registry.by_digest(digest)[-1:] if digest else ():
                yield Parent(kind, version.reference)


def _base_for(registry: Registry, facts: Facts, parents: Sequence[Parent]) -> str:
    """Return the version that a compact one is kept as a difference to.

    Raises:
        InputError: there is none in the store.

    """
    candidates = [parent.model for parent in parents if not parent.model.startswith("hf://")]
    candidates += [v.reference for v in registry.by_digest(facts.digest)]
    if facts.canonical is not None:
        candidates += [v.reference for v in registry.by_canonical(facts.canonical)]
    if facts.spec_digest is not None and facts.signature is not None:
        reference = registry.reference_for(facts.spec_digest, facts.signature)
        candidates += [] if reference is None else [reference.reference]
    for candidate in candidates:
        try:
            return registry.base_for(candidate)[0].reference
        except InputError:
            continue
    raise InputError(
        "no version in the store is known to be related to this model; name the one that it is a "
        "fine-tuned or renumbered copy of with --base, or a parent with --parent"
    )


def facts_of(path: Path, *, choice: Choice = AUTOMATIC, progress: Progress | None = None) -> Facts:
    """Find out what identifies and describes a checkpoint.

    Every file is read once for its SHA-256; the weights once more for the plain digest, and for
    the canonical order and digest.

    Raises:
        InputError: the checkpoint cannot be used, or the chosen spec does not fit.

    """
    with open_checkpoint(path) as checkpoint:
        binding, notes = _binding(checkpoint, choice)
        main, named = _files(checkpoint)
        files = tuple(_file(name, place, weights) for name, place, weights in named)
        model = Model(checkpoint, binding) if binding is not None else None
        header, tied = checkpoint.header, checkpoint.tied
        canonical, exact = None, True
        if model is not None:
            canonical, exact = canonical_digest_of(model, progress)
            notes += () if exact else (NOT_EXACT,)
        dtypes: dict[str, int] = {}
        for name in header.keys() - tied.keys():
            dtypes[header[name].dtype] = dtypes.get(header[name].dtype, 0) + header[name].size
        return Facts(
            files=files,
            main=main,
            format=checkpoint.format,
            digest=_plain(checkpoint, progress),
            canonical=canonical,
            exact=exact,
            spec=None if binding is None else binding.spec.name,
            spec_digest=None if binding is None else spec_digest(binding.spec),
            signature=None if binding is None else signature_of(binding),
            sizes={} if binding is None else dict(binding.sizes),
            dtypes=dict(sorted(dtypes.items())),
            parameters=sum(dtypes.values()),
            nbytes=sum(file.nbytes for file in files),
            notes=(*checkpoint.notes, *notes),
        )


def _binding(checkpoint: Checkpoint, choice: Choice) -> tuple[Binding | None, tuple[str, ...]]:
    try:
        return choice.bind(checkpoint), ()
    except (BindingError, DetectionError) as error:
        if choice.spec is not None:
            raise
        first = str(error).splitlines()[0].rstrip(":")
        return None, (f"no canonical digest, since no spec fits: {first}",)


def _plain(checkpoint: Checkpoint, progress: Progress | None) -> str:
    from rebasin_hub.digest import plain_digest

    read = counting(checkpoint.read, checkpoint.header, progress, "digesting")
    return plain_digest(checkpoint.header, read, checkpoint.tied)


def _files(checkpoint: Checkpoint) -> tuple[str, list[tuple[str, Path, bool]]]:
    """Return the name of the file to open (empty: the directory), and all files of a version."""
    path = checkpoint.path
    if not isinstance(checkpoint, DirectoryCheckpoint):
        files = [(path.name, path, True)]
        if checkpoint.config is not None:  # it may tell the sizes that the spec needs
            files.append(("config.json", path.with_name("config.json"), False))
        return path.name, files
    files = [(file.name, file, True) for file in checkpoint.files]
    if checkpoint.index is not None:
        files.append((checkpoint.index.path.name, checkpoint.index.path, False))
    return "", files + [(name, path / name, False) for name in checkpoint.side_files]


def _file(name: str, path: Path, weights: bool) -> FileFacts:
    place = path.absolute()
    before = place.stat()
    digest = digest_of_file(place)
    after = place.stat()
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise FormatError(f"{path}: was changed while it was read; add it again when it is done")
    return FileFacts(name, place, digest, after.st_size, after.st_mtime_ns, weights)


def signature_of(binding: Binding) -> str:
    """Return a digest of a model's sizes and group: equal for models that can be aligned.

    Element types, sharding and tied copies do not count.
    """
    factors = {name: [f.size, f.parent] for name, f in binding.group.factors.items()}
    text = json.dumps({"sizes": dict(binding.sizes), "factors": factors}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def which(
    registry: Registry,
    path: Path,
    *,
    choice: Choice = AUTOMATIC,
    progress: Progress | None = None,
) -> Which:
    """Tell which versions a checkpoint is: by its files, by its weights, up to renumbering.

    Each step is taken only if those before it find nothing.

    Raises:
        InputError: the checkpoint cannot be used, or the chosen spec does not fit.

    """
    with open_checkpoint(path) as checkpoint:
        found = registry.by_files(digest_of_file(file) for file in checkpoint.files)
        if found:
            return Which(path, None, None, _matches(found, "same files"))
        digest = _plain(checkpoint, progress)
        if found := registry.by_digest(digest):
            return Which(path, digest, None, _matches(found, "same weights"))
        binding, notes = _binding(checkpoint, choice)
        if binding is None:
            return Which(path, digest, None, (), notes)
        canonical, exact = canonical_digest_of(Model(checkpoint, binding), progress)
        notes += () if exact else (NOT_EXACT,)
        found = registry.by_canonical(canonical)
        return Which(path, digest, canonical, _matches(found, "renumbered"), notes)


def _matches(found: Sequence[Version], how: str) -> tuple[Match, ...]:
    return tuple(Match(version, how) for version in found)


def resolve(reference: str, root: Path | None = None) -> Path:
    """Return a path from which `registry:name[@alias|:N]` can be opened.

    Raises:
        InputError: there is no such version, or its file was moved or changed.

    """
    with Registry(root) as registry:
        return registry.resolve(reference)


def reference_for(binding: Binding, root: Path | None = None) -> Path | None:
    """Return the checkpoint that is set as reference for a model's architecture and sizes.

    None where there is none, or no registry at all.

    Raises:
        InputError: it was moved or changed.

    """
    if not ((root or default_place()) / FILE).is_file():
        return None
    with Registry(root) as registry:
        version = registry.reference_for(spec_digest(binding.spec), signature_of(binding))
        return None if version is None else registry.resolve(version.reference)


def add_record(registry: Registry, reference: str, path: Path) -> tuple[Metric, ...]:
    """Note the barriers of a record (`rebasin.json`) as metrics of a version, and keep the record.

    Raises:
        InputError: the record is of other models.

    """
    record, version = load_record(path), registry.show(reference).version
    if version.digest not in {model.digest for model in record.models.values()}:
        raise InputError(
            f"{path}: was measured between "
            + " and ".join(f"{m.name} ({m.digest[:12]})" for m in record.models.values())
            + f"; {version.reference} is {version.digest[:12]}"
        )
    return registry.metric(reference, [*_barriers(record)], record=path)


def _barriers(record: Record) -> Iterator[Metric]:
    task = json.dumps(record.task.model_dump(mode="json"), sort_keys=True)
    digest = hashlib.sha256(task.encode()).hexdigest()
    for curve in record.curves:
        column = f"{curve.split}, {curve.numbering}, {curve.treatment}"
        for definition, found in (("Entezari", curve.entezari), ("Frankle", curve.frankle)):
            for what, figure in (("loss", found.loss), ("error", found.error)):
                name = f"barrier in {what} ({definition}; {column})"
                yield Metric(name, figure.value, record.task.name, digest, None, record.created)
