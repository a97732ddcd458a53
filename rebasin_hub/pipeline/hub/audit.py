"""Compute anew what a published model claims."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rebasin_hub.errors import InputError, ProofError, RebasinError
from rebasin_hub.formats import open_checkpoint
from rebasin_hub.hub.client import connect
from rebasin_hub.hub.fetch import Remote, look_up
from rebasin_hub.hub.manifest import FILE, Manifest
from rebasin_hub.hub.reference import HubReference
from rebasin_hub.permfile import PermutationFile
from rebasin_hub.pipeline.apply import check_source, check_spec
from rebasin_hub.pipeline.barrier import Request, measure_barrier
from rebasin_hub.pipeline.barrier.outputs import file_digest
from rebasin_hub.pipeline.hub.facts import provenance_of
from rebasin_hub.pipeline.hub.inputs import resolve
from rebasin_hub.pipeline.hub.pull import (
    fetch_base,
    fetch_published,
    manifest_of,
    weights_digest,
)
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, open_model
from rebasin_hub.pipeline.progress import Progress
from rebasin_hub.rearrange import rearranged
from rebasin_hub.record import Record, load
from rebasin_hub.record.model import Figure
from rebasin_hub.tasks import Options

if TYPE_CHECKING:
    from huggingface_hub import HfApi

__all__ = ["Audit", "Check", "audit"]

Outcome = Literal["confirmed", "refuted", "not checked"]


@dataclass(frozen=True)
class Check:
    """One claim: what it is about, how it came out, and in figures."""

    claim: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True)
class Audit:
    """All claims of a published model, at the commit that was checked."""

    reference: HubReference
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing was refuted."""
        return not any(check.outcome == "refuted" for check in self.checks)


def audit(
    model: str,
    *,
    task: str | None = None,
    options: Options | None = None,
    choice: Choice = AUTOMATIC,
    device: str = "auto",
    progress: Progress | None = None,
) -> Audit:
    """Download a published model, and check its digests, its permutations and its barrier.

    Args:
        model: its name on the Hub.
        task: what to measure the barrier on again; it is not measured without.
        options: of the task.
        choice: the spec, where it is no shipped one.
        device: what to measure on.
        progress: told of each stage.

    Raises:
        InputError: it is not on the Hub, makes no claims, or cannot be measured.

    """
    api = connect()
    remote = look_up(api, HubReference.parse(model))
    manifest = manifest_of(api, remote)
    if manifest is None:
        raise InputError(
            f"{remote.reference}: has no {FILE}, so it claims nothing that could be checked; it "
            "was not published by `rebasin-hub push`"
        )
    try:
        folder = fetch_published(api, remote, manifest)
    except ProofError as wrong:
        return Audit(remote.reference, (Check("files", "refuted", str(wrong)),))
    found = _Published(api, remote, manifest, folder)
    count = len(manifest.files)
    sound = "1 file has its SHA-256" if count == 1 else f"{count} files have their SHA-256"
    checks = [Check("files", "confirmed", sound)]
    checks += found.weights(progress)
    checks += found.permutations(choice)
    checks += found.barrier(task, options or Options(), choice, device, progress)
    return Audit(remote.reference, tuple(checks))


@dataclass(frozen=True, eq=False)
class _Published:
    api: HfApi
    remote: Remote
    manifest: Manifest
    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / self.manifest.main if self.manifest.main else self.folder

    def weights(self, progress: Progress | None) -> Iterator[Check]:
        """Compare the digest of the weights with the published one, and with the merge's own."""
        if self.manifest.kind == "permutation":
            return
        digest = weights_digest(self.path, progress)
        yield _same("weights", digest, self.manifest.digest)
        with open_checkpoint(self.path) as checkpoint:
            provenance = provenance_of(checkpoint)
        if provenance is not None:
            yield _same("merge", digest, str(provenance.get("result")))

    def permutations(self, choice: Choice) -> Iterator[Check]:
        """Renumber the base by the permutations, without writing it, and compare the digest."""
        name = self.manifest.permutations
        if name is None:
            return
        path = self.folder / name
        if not self.manifest.bases:
            yield Check("permutations", "not checked", "no base model on the Hub is named")
            return
        base, place = fetch_base(self.api, self.manifest, self.remote)
        try:
            file = PermutationFile.load(path)
            with open_model(place, choice) as model:
                check_spec(file, model, path)
                check_source(file, model.digest(), path, place)
                digest = model.digest(rearranged(model.binding, file.element, model.read))
        except RebasinError as wrong:
            yield Check("permutations", "refuted", str(wrong))
            return
        found = _same("permutations", digest, self.manifest.digest)
        yield Check(found.claim, found.outcome, f"from {base}: {found.detail}")

    def barrier(
        self,
        task: str | None,
        options: Options,
        choice: Choice,
        device: str,
        progress: Progress | None,
    ) -> Iterator[Check]:
        """Measure the barrier again, and compare each column with the claim's interval."""
        if self.manifest.record is None:
            return
        claim = load(self.folder / self.manifest.record)
        if claim.kind != "barrier" or task is None:
            why = "give --task to measure again" if task is None else "it is of a plane"
            yield Check("barrier", "not checked", why)
            return
        models = _ends(claim, self.manifest)
        if models is None:
            why = "the record's models are not on the Hub: " + ", ".join(
                model.name for model in claim.models.values()
            )
            yield Check("barrier", "not checked", why)
            return
        request = Request(
            models=tuple(resolve(one) for one in models),
            task=task,
            options=options,
            choice=choice,
            matching=_matching(claim, device),
            permutations=_stored(claim, self.folder),
            align=bool(claim.alignments),
            points=len(claim.lambdas),
            treatments=tuple(dict.fromkeys(curve.treatment for curve in claim.curves)),
        )
        measured = measure_barrier(request, progress=progress)
        if isinstance(measured, Record):
            yield from _compared(claim, measured)


def _same(claim: str, found: str, promised: str) -> Check:
    if found == promised:
        return Check(claim, "confirmed", f"digest {found[:16]}")
    return Check(claim, "refuted", f"digest {found[:16]}, and {promised[:16]} was published")


def _ends(claim: Record, manifest: Manifest) -> list[str] | None:
    """Return the names on the Hub of a record's models: its own, or bases of their digests."""
    bases = {base.digest: f"{base.model}@{base.revision}" for base in manifest.bases}
    names = []
    for model in claim.models.values():
        try:
            named = HubReference.parse(model.name)
        except InputError:
            named = None
        if named is not None and named.is_pinned:
            names.append(str(named))
        elif model.digest in bases:
            names.append(bases[model.digest])
    return names if len(names) == len(claim.models) else None


def _matching(claim: Record, device: str) -> Matching:
    found = claim.alignments.get("B")
    if found is None:
        return Matching(device=device)
    return Matching(device=device, seed=found.seed)


def _stored(claim: Record, folder: Path) -> Path | None:
    """Return the permutation file that a record was measured with, if it was published too."""
    path = folder / "b-to-a.safetensors"
    found = claim.alignments.get("B")
    if found is None or not path.is_file() or file_digest(path) != found.permutations:
        return None
    return path


def _compared(claim: Record, measured: Record) -> Iterator[Check]:
    for letter, model in claim.models.items():
        yield _same(f"model {letter}", measured.models[letter].digest, model.digest)
    anew = {(c.split, c.numbering, c.treatment): c for c in measured.curves}
    for curve in claim.curves:
        name = f"{curve.split}, {curve.numbering}, {curve.treatment}"
        found = anew.get((curve.split, curve.numbering, curve.treatment))
        if found is None:
            yield Check(f"barrier ({name})", "not checked", "the task did not measure this column")
            continue
        pairs: Mapping[str, tuple[Figure, Figure]] = {
            "loss": (curve.entezari.loss, found.entezari.loss),
            "error": (curve.entezari.error, found.entezari.error),
        }
        for what, (said, now) in pairs.items():
            yield _within(f"{what} barrier ({name})", said, now)


def _within(claim: str, said: Figure, now: Figure) -> Check:
    """Compare a barrier with the interval that was published, which holds the samples' chance."""
    if said.value is None or said.low is None or said.high is None or now.value is None:
        outcome: Outcome = "confirmed" if said.value == now.value else "refuted"
        return Check(claim, outcome, f"{now.value} against {said.value}, without an interval")
    inside = said.low <= now.value <= said.high or now.value == said.value
    detail = f"{now.value:.4g} against {said.value:.4g} [{said.low:.4g}, {said.high:.4g}]"
    return Check(claim, "confirmed" if inside else "refuted", detail)
