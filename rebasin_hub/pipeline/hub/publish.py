"""Put together what is published of a model, and publish it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rebasin_hub import __version__
from rebasin_hub.card import Base, Card, card_text, resolve_license
from rebasin_hub.errors import FormatError, InputError, MissingExtraError
from rebasin_hub.formats import open_checkpoint
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.directory import DirectoryCheckpoint
from rebasin_hub.hub.client import connect
from rebasin_hub.hub.fetch import file_digest, look_up, peek
from rebasin_hub.hub.manifest import FILE as MANIFEST
from rebasin_hub.hub.manifest import BaseEntry, Manifest
from rebasin_hub.hub.push import (
    MAIN,
    Content,
    Destination,
    Pushed,
    PushPlan,
    carry_out,
    plan_push,
)
from rebasin_hub.hub.reference import HubReference
from rebasin_hub.permfile import PermutationFile
from rebasin_hub.pipeline.apply import check_spec
from rebasin_hub.pipeline.barrier.outputs import PICTURE, RECORD
from rebasin_hub.pipeline.hub.facts import (
    Measured,
    bases_of,
    find_record,
    permutation_facts,
    provenance_of,
)
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, open_model
from rebasin_hub.pipeline.progress import Progress, counting

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["CARD", "PERMUTATIONS", "Publication", "push", "written_card"]

CARD = "README.md"
PERMUTATIONS = "permutations.safetensors"
RECIPE = "recipe.yaml"
TOOL = f"rebasin-hub {__version__}"
_OURS = (CARD, MANIFEST, RECORD, PICTURE, PERMUTATIONS, RECIPE)


@dataclass(frozen=True)
class Publication:
    """What is to be published, and where.

    model: a checkpoint, or with `permutation_only` a permutation file.
    repo: `org/name` on the Hub.
    bases: names on the Hub of the models that it was made of, in their order, where it does not
        say so itself.
    record: a `rebasin.json`, or the folder with it; the one beside the model by default.
    license: overrides those of the base models.
    """

    model: Path
    repo: str
    permutation_only: bool = False
    permutations: Path | None = None
    record: Path | None = None
    recipe: Path | None = None
    bases: tuple[str, ...] = ()
    license: str | None = None
    branch: str = MAIN
    pull_request: bool = False
    private: bool = False
    message: str | None = None

    def check(self) -> None:
        """Refuse what cannot be published, before anything is read.

        Raises:
            InputError: with what to do.

        """
        reference = HubReference.parse(self.repo)
        if reference.revision is not None or reference.file is not None:
            raise InputError(
                f"'{self.repo}': name the repository alone; the branch is given by --revision"
            )
        if self.pull_request and self.branch != MAIN:
            raise InputError("a pull request is made onto main; give no --revision with it")
        if self.permutation_only and self.permutations is not None:
            raise InputError(
                "with --permutation-only, MODEL is the permutation file; give no --permutations"
            )


@dataclass
class _Parts:
    """Files to publish, and what the card says of them."""

    digest: str
    main: str
    files: list[Content]
    known: list[tuple[str, str | None]] = field(default_factory=list)
    card: dict[str, object] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def push(
    publication: Publication,
    *,
    choice: Choice = AUTOMATIC,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> PushPlan | Pushed:
    """Publish a model in one commit: weights, card, record, digests.

    Args:
        publication: what, and where.
        choice: the spec of a permutation file, where it is no shipped one.
        dry_run: only return the plan; nothing is sent.
        progress: told of each stage.

    Raises:
        InputError: the model or what belongs to it cannot be used, or licenses disagree.
        OutputError: the Hub refuses, or somebody committed in between; nothing was published.

    """
    publication.check()
    api = connect()
    plan = _plan(api, publication, choice, progress)
    return plan if dry_run else carry_out(api, plan)


def written_card(
    publication: Publication, *, choice: Choice = AUTOMATIC, progress: Progress | None = None
) -> str:
    """Return the card that `push` would publish; only base models are looked up on the Hub.

    Raises:
        InputError: the model or what belongs to it cannot be used, or licenses disagree.

    """
    publication.check()
    return _put_together(connect(), publication, choice, progress)[0]


def _plan(
    api: HfApi, publication: Publication, choice: Choice, progress: Progress | None
) -> PushPlan:
    text, files, notes = _put_together(api, publication, choice, progress)
    destination = Destination(
        publication.repo, publication.branch, publication.pull_request, publication.private
    )
    what = "the permutations" if publication.permutation_only else "a re-based model"
    message = publication.message or f"Publish {what} with rebasin-hub"
    return plan_push(api, destination, files, message=message, card=text, notes=notes)


def _put_together(
    api: HfApi, publication: Publication, choice: Choice, progress: Progress | None
) -> tuple[str, list[Content], list[str]]:
    """Return the card, all files, and notes."""
    parts = (
        _permutation(publication) if publication.permutation_only else _model(publication, progress)
    )
    bases = bases_of(api, publication.bases, parts.known)
    license_ = resolve_license(bases, publication.license)
    if publication.permutation_only:
        _check_base(api, publication.model, bases, choice)
    measured = find_record(
        publication.record,
        publication.model,
        [parts.digest, *(base.digest for base in bases if base.digest is not None)],
    )
    if measured is not None:
        _add_record(parts, measured)
    if publication.recipe is not None:
        parts.files.append(_content(RECIPE, publication.recipe))
        parts.card["recipe"] = publication.recipe.read_text(encoding="utf-8", errors="replace")
    if license_ is None:
        parts.notes.append("the card names no license; give one with --license")
    card = Card(
        repo=publication.repo,
        kind="permutation" if publication.permutation_only else "model",
        tool=TOOL,
        digest=parts.digest,
        files={file.name: file.sha256 for file in parts.files},
        bases=bases,
        license=license_,
        **parts.card,  # type: ignore[arg-type]
    )
    text = card_text(card)
    manifest = _manifest(card, parts.main)
    files = [*parts.files, _text(MANIFEST, manifest.text()), _text(CARD, text)]
    return text, files, parts.notes


def _manifest(card: Card, main: str) -> Manifest:
    return Manifest(
        kind=card.kind,
        tool=card.tool,
        main=main,
        digest=card.digest,
        files=dict(sorted(card.files.items())),
        bases=[
            BaseEntry(model=base.name, revision=base.commit, digest=base.digest)
            for base in card.bases
            if base.commit is not None
        ],
        permutations=None if card.permutations is None else card.permutations.file,
        record=RECORD if card.record is not None else None,
    )


def _content(name: str, path: Path) -> Content:
    try:
        return Content(name, path, path.stat().st_size, file_digest(path))
    except OSError as problem:
        raise FormatError(f"{path}: cannot be read: {problem.strerror}") from None


def _text(name: str, text: str | bytes) -> Content:
    data = text if isinstance(text, bytes) else text.encode()
    return Content(name, data, len(data), hashlib.sha256(data).hexdigest())


def _model(publication: Publication, progress: Progress | None) -> _Parts:
    """Return the files of a checkpoint, and what it says of itself."""
    with open_checkpoint(publication.model) as checkpoint:
        if checkpoint.metadata.get("format") == "rebasin-permutation":
            raise InputError(
                f"{publication.model}: is a permutation file; publish it with --permutation-only"
            )
        main, named = _named(checkpoint)
        digest = _plain_digest(checkpoint, progress)
        provenance = provenance_of(checkpoint)
        parts = _Parts(digest, main, [_content(name, path) for name, path in named])
        names = {name for name, _ in named}
    if provenance is not None and provenance.get("result") == digest:
        parts.card["provenance"] = provenance
        parts.known = [*_models_of(provenance.get("models"))]
    elif provenance is not None:
        parts.notes.append("was changed after it was merged; the card does not say how it was made")
    if "config.json" in names:
        parts.card["library"] = "transformers"
    if publication.permutations is not None:
        file = PermutationFile.load(publication.permutations)
        if file.result != digest:
            raise InputError(
                f"{publication.permutations}: leads to the weights {file.result[:12]}, and what is "
                f"published is {digest[:12]}; give the file that was written with it"
            )
        parts.files.append(_content(PERMUTATIONS, publication.permutations))
        parts.card["permutations"] = permutation_facts(file, PERMUTATIONS)
        if not parts.known and len(publication.bases) == 1:
            parts.known = [(publication.bases[0], file.source)]
    return parts


def _models_of(entries: object) -> Iterator[tuple[str, str | None]]:
    for entry in entries if isinstance(entries, list) else ():
        if isinstance(entry, dict) and isinstance(entry.get("name"), str):
            digest = entry.get("digest")
            yield entry["name"], digest if isinstance(digest, str) else None


def _named(checkpoint: Checkpoint) -> tuple[str, list[tuple[str, Path]]]:
    """Return the file to open, and the files of a checkpoint by their names on the Hub."""
    path = checkpoint.path
    if isinstance(checkpoint, DirectoryCheckpoint):
        names = [file.name for file in checkpoint.files]
        names += [checkpoint.index.path.name] if checkpoint.index is not None else []
        names += [name for name in checkpoint.side_files if name not in _OURS]
        return "", [(name, path / name) for name in names]
    main = "model.safetensors" if checkpoint.format == "safetensors" else path.name
    beside = [("config.json", path.with_name("config.json"))] if checkpoint.config else []
    return main, [(main, path), *beside]


def _plain_digest(checkpoint: Checkpoint, progress: Progress | None) -> str:
    from rebasin_hub.digest import plain_digest

    read = counting(checkpoint.read, checkpoint.header, progress, "digesting")
    return plain_digest(checkpoint.header, read, checkpoint.tied)


def _permutation(publication: Publication) -> _Parts:
    file = PermutationFile.load(publication.model)
    if not publication.bases:
        raise InputError(
            f"{publication.model}: permutations alone are of use only with the model that they "
            "renumber; name it with --base-model org/name@revision"
        )
    reference = file.details.get("reference")
    known = [(publication.bases[0], file.source), *((one, None) for one in publication.bases[1:])]
    if reference is not None and len(known) > 1:
        known[1] = (known[1][0], reference)
    facts = permutation_facts(file, PERMUTATIONS)
    return _Parts(
        file.result,
        PERMUTATIONS,
        [_content(PERMUTATIONS, publication.model)],
        known,
        {"permutations": facts},
    )


def _check_base(api: HfApi, path: Path, bases: Sequence[Base], choice: Choice) -> None:
    """Refuse a base model that permutations do not fit, by its headers alone."""
    base = bases[0]
    remote = look_up(api, HubReference(base.name, base.commit))
    with peek(api, remote) as found:
        if found.path is not None:
            with open_model(found.path, choice) as model:
                check_spec(PermutationFile.load(path), model, path)


def _add_record(parts: _Parts, measured: Measured) -> None:
    """Add a record, its permutation files, and the picture of its curves."""
    parts.files.append(_content(RECORD, measured.path))
    parts.card["record"] = measured.record
    folder = measured.path.parent
    for letter, found in measured.record.alignments.items():
        place = folder / f"{letter.lower()}-to-a.safetensors"
        if place.is_file() and file_digest(place) == found.permutations:
            parts.files.append(_content(place.name, place))
    try:
        parts.files.append(_text(PICTURE, _picture(measured)))
        parts.card["picture"] = PICTURE
    except MissingExtraError as missing:
        parts.notes.append(f"the card has no picture: {missing}")


def _picture(measured: Measured) -> bytes:
    beside = measured.path.with_name(PICTURE)
    with suppress(OSError):
        return beside.read_bytes()
    from rebasin_hub.plot import save_record

    with TemporaryDirectory() as folder:
        save_record(measured.record, Path(folder, PICTURE))
        return Path(folder, PICTURE).read_bytes()
