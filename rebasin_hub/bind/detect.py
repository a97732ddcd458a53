"""Find the spec of a checkpoint, from its header alone; say how near the others came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rebasin_hub.bind.binder import Binding, bind
from rebasin_hub.bind.names import match_names
from rebasin_hub.errors import BindingError, DetectionError
from rebasin_hub.spec import Spec
from rebasin_hub.spec.check import nearest
from rebasin_hub.spec.pattern import words
from rebasin_hub.tensors import Header

__all__ = ["detect"]

NEAREST = 3
MISMATCHES = 3


def detect(
    header: Header,
    config: Mapping[str, Any] | None,
    specs: Sequence[Spec],
    sizes: Mapping[str, int] | None = None,
) -> Binding:
    """Return the binding of the spec that fits a checkpoint.

    A spec fits if it describes every tensor, and names the `model_type` of config.json if both name
    one. Of several, one that names the model type goes first, then the one whose lines spell out
    the most of the tensors' names.

    Args:
        header: the checkpoint's tensors.
        config: the model's config.json, if there is one.
        specs: the specs to choose from.
        sizes: sizes given by the user, for those that config.json does not tell.

    Raises:
        DetectionError: none fits, or two fit equally well.

    """
    _check_words(specs, sizes or {})
    tried = [_try(spec, header, config or {}, sizes) for spec in specs]
    fitting = [t for t in tried if t.binding is not None and t.claim != "other"]
    if not fitting:
        raise DetectionError(_none(tried, header, config or {}))
    named = [t for t in fitting if t.claim == "named"]
    best = _most_specific(named or fitting)
    if len(best) > 1:
        names = "\n".join(f"  {t.spec.name}: {t.spec.description}" for t in best)
        raise DetectionError(f"these specs fit equally well; choose one with --spec\n{names}")
    assert best[0].binding is not None
    return best[0].binding


def _check_words(specs: Sequence[Spec], sizes: Mapping[str, int]) -> None:
    """Refuse a size that no spec knows, before it fails each of them in its own way."""
    declared = {word for spec in specs for word in spec.sizes}
    known = declared | {
        word.name
        for spec in specs
        for line in spec.lines
        for axis in line.pattern
        for word in words(axis)
    }
    for word in sizes:
        if word not in known:
            hint = nearest(word, known) or f"; specs ask for {', '.join(sorted(declared))}"
            raise DetectionError(f"no spec has a size '{word}'{hint}")


@dataclass(frozen=True, eq=False)
class _Attempt:
    """One spec tried on a checkpoint.

    `claim` tells whether the spec names the checkpoint's model type (`named`), names another
    model type or architecture (`other`), or says nothing of it (`open`).
    """

    spec: Spec
    claim: str
    matched: int
    binding: Binding | None = None
    error: BindingError | None = None


def _try(
    spec: Spec,
    header: Header,
    config: Mapping[str, Any],
    sizes: Mapping[str, int] | None,
) -> _Attempt:
    claim = _claim(spec, config)
    matches = match_names(spec, header)
    matched = len(matches.found) + len(matches.ignored)
    if matches.mismatches:
        return _Attempt(spec, claim, matched, error=BindingError(spec.name, matches.mismatches))
    try:
        binding = bind(spec, header, config=config, sizes=sizes)
    except BindingError as error:
        return _Attempt(spec, claim, matched, error=error)
    return _Attempt(spec, claim, matched, binding=binding)


def _claim(spec: Spec, config: Mapping[str, Any]) -> str:
    """Compare what a spec says of the models it is for with what config.json says."""
    claim = "open"
    for key, known in spec.match.items():
        said = _said(config, key)
        if not known or not said:
            continue
        if not set(known) & set(said):
            return "other"
        if key == "model_type":
            claim = "named"
    return claim


def _said(config: Mapping[str, Any], key: str) -> list[str]:
    """Return what config.json says under a key, one text or a list of them."""
    value = config.get(key)
    return [v for v in (value if isinstance(value, list) else [value]) if v and isinstance(v, str)]


def _most_specific(fitting: list[_Attempt]) -> list[_Attempt]:
    if len(fitting) == 1:
        return fitting
    scores = [_spelled_out(t) for t in fitting]
    return [t for t, score in zip(fitting, scores, strict=True) if score == max(scores)]


def _spelled_out(attempt: _Attempt) -> int:
    """Count the characters of the tensors' names that the spec's lines spell out."""
    assert attempt.binding is not None
    found = match_names(attempt.spec, attempt.binding.header).found
    return sum(
        len(part)
        for line, _ in found.values()
        for part in line.template.parts
        if isinstance(part, str)
    )


def _none(tried: list[_Attempt], header: Header, config: Mapping[str, Any]) -> str:
    """Say that no spec fits, which came near, and what is in the way."""
    lines = [f"none of {len(tried)} specs fits this checkpoint of {len(header)} tensors"]
    model_type = config.get("model_type")
    if asked := _only_sizes_missing(tried):
        return asked
    named = [t for t in tried if t.claim == "named" and t.error is not None]
    for attempt in named:
        lines += [f"config.json says model_type '{model_type}':", str(attempt.error)]
    for attempt in tried:
        if attempt.binding is not None:
            types = ", ".join(v for values in attempt.spec.match.values() for v in values)
            said = ", ".join(v for key in attempt.spec.match for v in _said(config, key))
            lines.append(
                f"spec '{attempt.spec.name}' describes every tensor, but is for {types}, and "
                f"config.json says {said}; if the models work alike, give "
                f"--spec {attempt.spec.name}"
            )
    others = [t for t in tried if t.error is not None and t not in named and t.matched]
    others.sort(key=lambda t: (-t.matched, len(t.error.mismatches if t.error else ())))
    for attempt in others[:NEAREST]:
        lines += _described(attempt, len(header))
    if len(lines) == 1:
        some = ", ".join(f"'{name}'" for name in list(header)[:3])
        lines.append(f"none has a line for any of its names, such as {some or 'none at all'}")
    lines.append("Give a spec of your own with --spec FILE; specs/README.md tells how to write it.")
    return "\n".join(lines)


def _only_sizes_missing(tried: list[_Attempt]) -> str:
    """Ask for the sizes that alone keep a spec, or several, from fitting."""
    near = [
        t
        for t in tried
        if t.error is not None
        and t.claim != "other"
        and all(mismatch.kind == "unsolved" for mismatch in t.error.mismatches)
    ]
    return "\n".join(
        f"spec '{t.spec.name}' describes every tensor, but {mismatch.message}"
        for t in near
        for mismatch in (t.error.mismatches if t.error else ())
    )


def _described(attempt: _Attempt, tensors: int) -> list[str]:
    assert attempt.error is not None
    mismatches = attempt.error.mismatches
    more = len(mismatches) - MISMATCHES
    return [
        f"spec '{attempt.spec.name}' matched {attempt.matched} of {tensors} tensors:",
        *(f"  {mismatch}" for mismatch in mismatches[:MISMATCHES]),
        *([f"  … and {more} more"] if more > 0 else []),
    ]
