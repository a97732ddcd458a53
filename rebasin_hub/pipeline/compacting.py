"""Keep a checkpoint as the permutation and the lossless difference to another version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rebasin_hub.canonical import canonical_order
from rebasin_hub.digest import tensor_digest
from rebasin_hub.errors import IncompatibleError, NotFiniteError
from rebasin_hub.permute import Element
from rebasin_hub.pipeline.matching import Matching
from rebasin_hub.pipeline.models import Choice, Model, open_like, open_model
from rebasin_hub.pipeline.progress import Progress
from rebasin_hub.rearrange import plan
from rebasin_hub.registry import Facts, FileFacts, Registry
from rebasin_hub.registry.layout import Span, tensor_spans
from rebasin_hub.registry.recipe import Part, Prediction, Written
from rebasin_hub.registry.store import chunks_of
from rebasin_hub.tensors import DTYPES

__all__ = ["Compacted", "compacted"]

WORTH = 0.9
"""A difference is kept if it takes less than this share of what it takes without a base."""
_WHOLE_BYTES = 8


@dataclass(frozen=True)
class Compacted:
    """The recipe of a version, None where it is better stored plainly; `facts` say why."""

    facts: Facts
    recipe: Written | None


@dataclass(frozen=True)
class _Place:
    """Where a tensor's bytes lie in the base's files."""

    content: str
    start: int


def compacted(
    registry: Registry,
    path: Path,
    facts: Facts,
    base: str,
    *,
    choice: Choice,
    matching: Matching,
    progress: Progress | None,
) -> Compacted:
    """Write the recipe that makes a checkpoint's files of those of a version in the store.

    It is followed once before it is returned, and must have given back every file's digest.

    Raises:
        InputError: the base cannot be used.

    """
    copies = facts.canonical == registry.show(base).version.canonical
    try:
        with (
            open_model(path, choice) as model,
            open_like(registry.resolve(base), model) as other,
        ):
            if copies:
                element = _between(model, other)
            else:
                element = model.binding.group.invert(matching.run(other, model, progress).element)
            predictions = _predictions(registry, base, model, other, element)
            files = [(file, [*_parts(file, predictions, model)]) for file in facts.files]
    except (IncompatibleError, NotFiniteError) as problem:
        return Compacted(_noted(facts, f"stored plainly: {str(problem).splitlines()[0]}"), None)
    written = registry.write_recipe(files)
    if written.nbytes < WORTH * min(written.alone, facts.nbytes):
        share = written.nbytes / facts.nbytes
        return Compacted(
            _noted(facts, f"kept as a difference to {base}: {100 * share:.1f} % of its bytes"),
            written,
        )
    written.path.unlink()
    reason = (
        f"stored plainly: as a difference to {base} it would take {written.nbytes:,} bytes, "
        f"compressed alone {written.alone:,}; models that were trained apart share nothing"
    )
    return Compacted(_noted(facts, reason), None)


def _noted(facts: Facts, note: str) -> Facts:
    return replace(facts, notes=(*facts.notes, note))


def _between(model: Model, other: Model) -> Element:
    """Return the element that makes the model of a renumbered copy of it: no search finds less."""
    mine, theirs = (
        canonical_order(m.binding, m.read, skip=m.checkpoint.tied).element for m in (model, other)
    )
    return model.binding.group.compose(model.binding.group.invert(mine), theirs)


def _predictions(
    registry: Registry, base: str, model: Model, other: Model, element: Element
) -> Mapping[str, tuple[str, Prediction]]:
    """Map the digest of each tensor of the model to its name and what predicts it."""
    places = _places(registry, base)
    gathers = plan(other.binding, element)
    found = {}
    for name, info in model.header.items():
        gather = gathers[name]
        source = other.header[gather.source]
        floating = [DTYPES[i.dtype].floating for i in (info, source)]
        if min(DTYPES[i.dtype].bits for i in (info, source)) < _WHOLE_BYTES:
            continue
        if info.dtype != source.dtype and not all(floating):
            continue
        place = places.get(tensor_digest(other.read(gather.source), source.dtype))
        if place is not None and info.dtype != "C64":
            prediction = Prediction(place.content, place.start, source, gather.index, info.dtype)
            found[tensor_digest(model.read(name), info.dtype)] = (name, prediction)
    return found


def _places(registry: Registry, base: str) -> dict[str, _Place]:
    """Map the digest of each stretch of the base's files that may be a tensor to its place."""
    version, digests = registry.base_for(base)
    path = registry.resolve(version.reference)
    folder = path if path.is_dir() else path.parent
    places: dict[str, _Place] = {}
    for name, digest in digests.items():
        file = folder / name
        for span, own in _digested(file, tensor_spans(file)):
            places.setdefault(own, _Place(digest, span.start))
    return places


def _digested(path: Path, spans: Sequence[Span]) -> Iterator[tuple[Span, str]]:
    for span in spans:
        hasher = hashlib.sha256()
        for chunk in chunks_of(path, span.start, span.nbytes):
            hasher.update(chunk)
        yield span, hasher.hexdigest()


def _parts(
    file: FileFacts, predictions: Mapping[str, tuple[str, Prediction]], model: Model
) -> Iterator[Part]:
    """Cover a file with parts: its tensors, with what predicts them, and what lies between."""
    place = 0
    for span, digest in _digested(file.path, tensor_spans(file.path)):
        if digest not in predictions:
            continue
        name, prediction = predictions[digest]
        if place < span.start:
            yield Part(Span(place, span.start - place))
        width = DTYPES[model.header[name].dtype].numpy.itemsize
        yield Part(span, width, prediction)
        place = span.end
    if place < file.nbytes:
        yield Part(Span(place, file.nbytes - place))
