"""What is known of a model that is to be published, and of those that it was made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebasin_hub.card import Base, Permutations, license_of
from rebasin_hub.errors import InputError
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.hub.fetch import look_up
from rebasin_hub.hub.reference import HubReference
from rebasin_hub.permfile import PermutationFile
from rebasin_hub.pipeline.barrier.outputs import RECORD
from rebasin_hub.pipeline.merging.provenance import FILE, KEY
from rebasin_hub.record import Record, load

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["Measured", "bases_of", "find_record", "permutation_facts", "provenance_of"]


@dataclass(frozen=True)
class Measured:
    """A record that goes along, and the folder that it was read from."""

    record: Record
    path: Path


def provenance_of(checkpoint: Checkpoint) -> Mapping[str, Any] | None:
    """Return what a merge says of itself, None for other models or if it cannot be read."""
    if checkpoint.format == "directory":
        place = checkpoint.path / FILE
        text = place.read_text(encoding="utf-8", errors="replace") if place.is_file() else None
    else:
        text = checkpoint.metadata.get(KEY)
    try:
        found = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("kind") == "merge" else None


def find_record(given: Path | None, model: Path, digests: Sequence[str]) -> Measured | None:
    """Return the record that was given, or that lies beside a model and is of its weights.

    Args:
        given: by the user.
        model: what is to be published.
        digests: plain digests of the model and of those that it was made of.

    Raises:
        InputError: it is no record, or, if it was given, of other models.

    """
    folder = model if model.is_dir() else model.parent
    path = given or folder / RECORD
    if path.is_dir():
        path = path / RECORD
    if given is None and not path.is_file():
        return None
    try:
        record = load(path)
    except InputError:
        if given is not None:
            raise
        return None
    ours = {one.digest for one in record.models.values()} & set(digests)
    if len(ours) == len({one.digest for one in record.models.values()}) or digests[0] in ours:
        return Measured(record, path)
    if given is None:
        return None
    raise InputError(
        f"{path}: was measured between "
        + " and ".join(f"{one.name} ({one.digest[:12]})" for one in record.models.values())
        + f"; what is published is {digests[0][:12]}, made of "
        + (", ".join(digest[:12] for digest in digests[1:]) or "nothing that is known")
    )


def bases_of(
    api: HfApi, asked: Sequence[str], known: Sequence[tuple[str, str | None]]
) -> tuple[Base, ...]:
    """Return the base models, those on the Hub pinned and with the license of their cards.

    Args:
        api: the client.
        asked: names on the Hub, given by the user, in the order of the models.
        known: names and digests that a merge or a permutation file tells.

    Raises:
        InputError: there are more or fewer than known ones, or one is not on the Hub.

    """
    if asked and known and len(asked) != len(known):
        raise InputError(
            f"{len(asked)} base models were given, and {len(known)} went in "
            f"({', '.join(name for name, _ in known)}); give --base-model once for each, in this "
            "order"
        )
    digests = [digest for _, digest in known] or [None] * len(asked)
    names = list(asked) or [name for name, _ in known]
    return tuple(
        _base(api, name, digest, sure=bool(asked))
        for name, digest in zip(names, digests, strict=True)
    )


def _base(api: HfApi, name: str, digest: str | None, *, sure: bool) -> Base:
    """Return one base model; `sure` if its name is known to be one on the Hub."""
    try:
        reference = HubReference.parse(name)
    except InputError:
        if sure:
            raise
        return Base(name, digest=digest)
    if not sure and not reference.is_pinned:
        return Base(name, digest=digest)  # a file may be called so as well
    remote = look_up(api, HubReference(reference.repo, reference.revision))
    commit = remote.reference.revision
    return Base(reference.repo, commit, digest, license_of(remote.card))


def permutation_facts(file: PermutationFile, name: str) -> Permutations:
    """Return what a card says of a permutation file."""
    moved, units = file.group.moved(file.element), file.group.units
    return Permutations(
        name,
        file.spec,
        file.method,
        file.source,
        file.result,
        sum(moved.values()),
        sum(units.values()),
    )
