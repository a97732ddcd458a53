"""Restore a published model, and check every digest of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rebasin_hub.digest import plain_digest
from rebasin_hub.errors import InputError, OutputError, ProofError
from rebasin_hub.formats import new_directory, open_checkpoint
from rebasin_hub.formats.atomic import NewFile
from rebasin_hub.formats.folder import copy_file
from rebasin_hub.hub.client import connect
from rebasin_hub.hub.fetch import Remote, fetch, file_digest, look_up, peek, read_text
from rebasin_hub.hub.manifest import FILE, Manifest, read_manifest
from rebasin_hub.hub.reference import HubReference
from rebasin_hub.permfile import PermutationFile
from rebasin_hub.pipeline.apply import apply_file
from rebasin_hub.pipeline.models import AUTOMATIC, Choice
from rebasin_hub.pipeline.progress import Progress, counting

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["Pulled", "fetch_base", "fetch_published", "manifest_of", "pull", "weights_digest"]

UNPROMISED = "was not published by rebasin-hub: there are no digests of it but the Hub's own"


@dataclass(frozen=True)
class Pulled:
    """A model that was restored. `checked` counts the files whose digests were compared.

    `base` is the model that permutations were applied to, where they came alone.
    """

    reference: HubReference
    output: Path
    nbytes: int
    digest: str
    checked: int
    base: HubReference | None = None
    notes: tuple[str, ...] = ()


def pull(
    model: str,
    output: Path,
    *,
    choice: Choice = AUTOMATIC,
    force: bool = False,
    progress: Progress | None = None,
) -> Pulled:
    """Fetch a model into a folder; where only permutations are published, apply them to their base.

    Args:
        model: its name on the Hub.
        output: the folder to write; of applied permutations a file, if their base is one.
        choice: the spec of permutations, where it is no shipped one.
        force: replace an existing output.
        progress: told of each stage.

    Raises:
        InputError: it is not on the Hub, or cannot be fetched.
        OutputError: the output exists or cannot be written.
        ProofError: something has not the digest that was published; nothing was written.

    """
    reference = HubReference.parse(model)
    if output.exists() and not force:
        raise OutputError(f"{output}: exists already; choose another name or give --force")
    api = connect()
    remote = look_up(api, reference)
    manifest = manifest_of(api, remote)
    options = _Options(choice, force, progress)
    if manifest is not None and manifest.kind == "permutation":
        return _applied(api, remote, manifest, output, options)
    return _copied(_fetched(api, remote, manifest), remote, manifest, output, options)


@dataclass(frozen=True)
class _Fetched:
    """Files in the client's cache: their folder, their names, and the one to open."""

    folder: Path
    names: tuple[str, ...]
    main: str


@dataclass(frozen=True)
class _Options:
    choice: Choice
    force: bool
    progress: Progress | None


def manifest_of(api: HfApi, remote: Remote) -> Manifest | None:
    """Return what a repository promises, None if it was not published by this program.

    Raises:
        InputError: it cannot be read, or names files that are not there.

    """
    content = read_text(api, remote, FILE)
    if content is None:
        return None
    manifest = read_manifest(content, str(remote.reference))
    named = {
        *manifest.files,
        *filter(None, (manifest.main, manifest.permutations, manifest.record)),
    }
    if missing := sorted(named - remote.files.keys()):
        raise InputError(
            f"{remote.reference}: lacks '{missing[0]}', which {FILE} promises; it was changed "
            "after it was published"
        )
    return manifest


def fetch_published(api: HfApi, remote: Remote, manifest: Manifest) -> Path:
    """Fetch all files of a publication, and compare each with the digest that was published.

    Raises:
        ProofError: a file has another one.

    """
    beside = [name for name in (FILE, "README.md") if name in remote.files]
    folder = fetch(api, remote, (*manifest.files, *beside))
    for name, digest in manifest.files.items():
        found = file_digest(folder / name)
        if found != digest:
            raise ProofError(
                f"{remote.reference}: '{name}' is {found[:12]}, and {digest[:12]} was published; "
                "it was changed after that, and nothing was written"
            )
    return folder


def _fetched(api: HfApi, remote: Remote, manifest: Manifest | None) -> _Fetched:
    if manifest is None:
        with peek(api, remote) as found:
            return _Fetched(fetch(api, remote, found.names), found.names, found.main)
    beside = [name for name in (FILE, "README.md") if name in remote.files]
    folder = fetch_published(api, remote, manifest)
    return _Fetched(folder, (*manifest.files, *beside), manifest.main)


def weights_digest(path: Path, progress: Progress | None) -> str:
    """Return the plain digest of a checkpoint."""
    with open_checkpoint(path) as checkpoint:
        read = counting(checkpoint.read, checkpoint.header, progress, "digesting")
        return plain_digest(checkpoint.header, read, checkpoint.tied)


def fetch_base(api: HfApi, manifest: Manifest, remote: Remote) -> tuple[HubReference, Path]:
    """Fetch the model that published permutations belong to, at its pinned commit.

    Raises:
        InputError: none is named.

    """
    if not manifest.bases:
        raise InputError(f"{remote.reference}: {FILE} names no base model for its permutations")
    base = look_up(api, HubReference(manifest.bases[0].model, manifest.bases[0].revision))
    with peek(api, base) as found:
        folder = fetch(api, base, found.names)
        return base.reference, folder / found.main if found.main else folder


def _applied(
    api: HfApi, remote: Remote, manifest: Manifest, output: Path, options: _Options
) -> Pulled:
    folder = fetch_published(api, remote, manifest)
    permutations = folder / (manifest.permutations or manifest.main)
    leads_to = PermutationFile.load(permutations).result
    if leads_to != manifest.digest:
        raise ProofError(
            f"{remote.reference}: its permutations lead to {leads_to[:12]}, and "
            f"{manifest.digest[:12]} was published; nothing was written"
        )
    base, path = fetch_base(api, manifest, remote)
    done = apply_file(
        permutations,
        path,
        output,
        choice=options.choice,
        force=options.force,
        progress=options.progress,
    )
    nbytes = done.nbytes
    return Pulled(remote.reference, output, nbytes, leads_to, len(manifest.files), base)


def _copied(
    found: _Fetched,
    remote: Remote,
    manifest: Manifest | None,
    output: Path,
    options: _Options,
) -> Pulled:
    """Copy files out of the cache into a folder that appears when all of it is checked."""
    with new_directory(output.absolute(), force=options.force) as new:
        nbytes = sum(_copy(found.folder / name, new / name, output / name) for name in found.names)
        digest = weights_digest(new / found.main if found.main else new, options.progress)
        if manifest is not None and digest != manifest.digest:
            raise ProofError(
                f"{remote.reference}: its weights are {digest[:12]}, and {manifest.digest[:12]} "
                "was published; nothing was written"
            )
    checked = 0 if manifest is None else len(manifest.files)
    notes = () if manifest is not None else (UNPROMISED,)
    return Pulled(remote.reference, output, nbytes, digest, checked, notes=notes)


def _copy(source: Path, place: Path, shown: Path) -> int:
    place.parent.mkdir(parents=True, exist_ok=True)
    with NewFile(place, shown) as file:
        copy_file(source, file)
        return file.finish()
