"""Model cards: YAML front matter that the Hub reads, and Markdown that people read.

Names come from others and may hold anything. Every foreign text is made one printable line
first; in Markdown it stands inside a code span or a fenced block, where no markup counts, and in
the front matter a YAML writer quotes it.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import yaml

from rebasin_hub.errors import InputError
from rebasin_hub.record import Record
from rebasin_hub.record.model import CurveRecord, Figure
from rebasin_hub.record.select import columns

__all__ = [
    "Base",
    "Card",
    "License",
    "Permutations",
    "card_text",
    "code",
    "license_of",
    "resolve_license",
]

SITE = "https://huggingface.co"
UNDECIDED = "other"
"""The Hub's word for a license of no known name; `license_name` then tells which."""


@dataclass(frozen=True)
class License:
    """What a card says of a license: the Hub's identifier; name and link where it is `other`."""

    identifier: str
    name: str | None = None
    link: str | None = None

    def __str__(self) -> str:
        return self.identifier if self.name is None else f"{self.identifier} ({self.name})"


@dataclass(frozen=True)
class Base:
    """A model that went in. One from the Hub has a commit; others have none, and no license."""

    name: str
    commit: str | None = None
    digest: str | None = None
    license: License | None = None


@dataclass(frozen=True)
class Permutations:
    """A permutation file: from which weights to which, by their plain digests."""

    file: str
    spec: str
    method: str
    source: str
    result: str
    moved: int
    units: int


@dataclass(frozen=True)
class Card:
    """All that a card is made of.

    `provenance` is what a merge says of itself; `recipe` the YAML that it was made with;
    `picture` the file that shows the curves.
    """

    repo: str
    kind: Literal["model", "permutation"]
    tool: str
    digest: str
    files: Mapping[str, str]
    """SHA-256 by name."""
    bases: Sequence[Base] = ()
    license: License | None = None
    library: str | None = None
    provenance: Mapping[str, Any] | None = None
    permutations: Permutations | None = None
    record: Record | None = None
    picture: str | None = None
    recipe: str | None = None
    notes: Sequence[str] = field(default=())

    @property
    def is_merge(self) -> bool:
        """Whether several models went in."""
        return self.kind == "model" and (self.provenance is not None or len(self.bases) > 1)


def card_text(card: Card) -> str:
    """Return the README.md of a repository.

    The laws: its front matter reads back as the data that were put in, and no name can add
    markup, a heading, a link or a line to it.
    """
    front = yaml.safe_dump(
        _clean(_front(card)), sort_keys=False, allow_unicode=True, width=float("inf")
    )
    parts = [
        f"---\n{front}---",
        f"# {code(card.repo)}",
        _introduction(card),
        *_base_section(card),
        *_recipe_section(card),
        *_permutation_section(card),
        *_barrier_section(card),
        *_check_section(card),
        *_file_section(card),
    ]
    return "\n\n".join(parts) + "\n"


# Licenses


def license_of(card: Mapping[str, Any]) -> License | None:
    """Return the license that a card's front matter names, None where it names none."""
    found = card.get("license")
    if isinstance(found, list):  # of several, the Hub shows the first
        found = found[0] if found else None
    if not isinstance(found, str) or not found.strip():
        return None
    name, link = card.get("license_name"), card.get("license_link")
    if found.strip().lower() != UNDECIDED:
        return License(found.strip().lower())
    return License(
        UNDECIDED, name if isinstance(name, str) else None, link if isinstance(link, str) else None
    )


def resolve_license(bases: Sequence[Base], chosen: str | None) -> License | None:
    """Return the license of what is made of base models: theirs, if they agree, or a chosen one.

    Models that are not from the Hub have no card and are not asked.

    Raises:
        InputError: they name different licenses, or some of them none, and none was chosen.

    """
    if chosen is not None:
        return License(chosen)
    asked = [base for base in bases if base.commit is not None]
    found = {base.license for base in asked}
    if len(found) <= 1 and None not in found:
        return next(iter(found), None)
    said = ", ".join(f"{_line(base.name)}: {_line(str(base.license or 'none'))}" for base in asked)
    what = "name no license" if found == {None} else "do not name the same license"
    raise InputError(
        f"the base models {what} ({said}); find out what their terms allow, and give the license "
        "of what you publish with --license"
    )


# Front matter


def _front(card: Card) -> dict[str, Any]:
    front: dict[str, Any] = {}
    if card.license is not None:
        front["license"] = card.license.identifier
        if card.license.name is not None:
            front["license_name"] = card.license.name
        if card.license.link is not None:
            front["license_link"] = card.license.link
    if card.library is not None:
        front["library_name"] = card.library
    front["tags"] = [*(["merge"] if card.is_merge else []), "git-rebasin", "rebasin-hub"]
    pinned = [base for base in card.bases if base.commit is not None]
    if pinned:
        front["base_model"] = list(dict.fromkeys(base.name for base in pinned))
        if card.is_merge:
            front["base_model_relation"] = "merge"
        # The Hub takes no revisions in base_model; this is where they are read by programs.
        front["rebasin"] = {
            "base_models": [{"model": base.name, "revision": base.commit} for base in pinned]
        }
    results = [*_results(card.record)] if card.record is not None else []
    if results:
        name = card.repo.rpartition("/")[2]
        front["model-index"] = [{"name": name, "results": results}]
    return front


def _results(record: Record) -> Iterator[dict[str, Any]]:
    """Yield the barriers as is, one result for each split, as the Hub's model-index."""
    for split in record.task.splits:
        metrics = [
            {
                "type": f"{what}-barrier",
                "value": figure.value,
                "name": f"{what} barrier (Entezari; {curve.numbering}, {curve.treatment})",
                "args": {"low": figure.low, "high": figure.high},
            }
            for curve in columns(record, split)
            if curve.treatment == "as is"
            for what, figure in (("loss", curve.entezari.loss), ("error", curve.entezari.error))
            if figure.value is not None
        ]
        if metrics:
            yield {
                "task": {
                    "type": "linear-mode-connectivity",
                    "name": "Linear mode connectivity of the base models",
                },
                "dataset": {"type": record.task.name, "name": record.task.name, "split": split},
                "metrics": metrics,
            }


def _clean(value: Any) -> Any:  # noqa: ANN401 - whatever YAML holds
    """Make every text one printable line, so that none can end the front matter."""
    match value:
        case str():
            return _line(value)
        case dict():
            return {_line(key): _clean(item) for key, item in value.items()}
        case list():
            return [_clean(item) for item in value]
        case _:
            return value


# Markdown


def _line(text: str) -> str:
    """Return a text as one line without control characters, which are shown escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def code(text: str) -> str:
    """Return a text as a Markdown code span, fenced by more backticks than it has in a row."""
    line = _line(text) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    space = " " if line.startswith(("`", " ")) or line.endswith(("`", " ")) else ""
    return f"{fence}{space}{line}{space}{fence}"


def _block(text: str, language: str = "") -> str:
    """Return a text of several lines as a fenced block."""
    lines = "\n".join(map(_line, text.strip("\n").splitlines()))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", lines)), default=0))
    return f"{fence}{language}\n{lines}\n{fence}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    # Readers of Markdown disagree on how a bar is escaped in a table.
    cells = [[cell.replace("|", "¦") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _introduction(card: Card) -> str:
    tool = f"[rebasin-hub]({SITE}/models?other=rebasin-hub) ({code(card.tool)})"
    if card.kind == "permutation":
        return (
            "This repository holds **no weights**: only the permutations that renumber the hidden "
            f"units of the base model, found by {tool}. The renumbered model computes the same "
            "function."
        )
    if card.is_merge:
        aligned = card.provenance is None or card.provenance.get("alignment") is not None
        how = (
            "Their hidden units were brought into one numbering first (Git Re-Basin, "
            "[arXiv:2209.04836](https://arxiv.org/abs/2209.04836))."
            if aligned
            else "They were merged as they are numbered, without aligning them."
        )
        return f"This model is a merge of {len(card.bases)} models, made by {tool}. {how}"
    return f"This model was published by {tool}, with digests by which it can be checked."


def _base_section(card: Card) -> Iterator[str]:
    if not card.bases:
        return
    yield "## Base models"
    rows = []
    for base in card.bases:
        if base.commit is None:
            where, commit = code(base.name), "not from the Hub"
        else:
            # Both were checked: a repository's name and a commit hold no markup.
            where = f"[{code(base.name)}]({SITE}/{base.name}/tree/{base.commit})"
            commit = code(base.commit)
        license_ = code(str(base.license)) if base.license is not None else ""
        rows.append([where, commit, license_, code(base.digest[:16]) if base.digest else ""])
    yield _table(["model", "commit", "license", "digest of the weights"], rows)


def _recipe_section(card: Card) -> Iterator[str]:
    if card.recipe is None and card.provenance is None:
        return
    yield "## How it was made"
    if card.recipe is not None:
        yield _block(card.recipe, "yaml")
    if card.provenance is None:
        return
    facts = card.provenance
    rows = [["method", code(str(facts.get("method")))], ["spec", code(str(facts.get("spec")))]]
    groups = facts.get("weights")
    if isinstance(groups, list) and len(groups) == 1 and isinstance(groups[0], dict):
        rows.append(["weights", code(", ".join(map(str, groups[0].get("weights", []))))])
    alignment = facts.get("alignment")
    if isinstance(alignment, dict):
        how = ", ".join(f"{key} {alignment.get(key)}" for key in ("method", "strategy", "seed"))
        rows.append(["alignment", code(how)])
    if "repair" in facts:
        rows.append(["repair", code(str(facts["repair"]))])
    yield _table(["", ""], rows)
    names = [
        base.name if base.commit is None else f"{base.name}@{base.commit}" for base in card.bases
    ]
    if card.recipe is not None:
        yield "To make it again, save the recipe above as `recipe.yaml`:"
        yield _block("rebasin-hub merge recipe.yaml -o merged", "sh")
    elif names and (command := _merge_command(names, facts)) is not None:
        yield "To make it again:"
        yield _block(command, "sh")


def _merge_command(names: Sequence[str], facts: Mapping[str, Any]) -> str | None:
    """Return the command that repeats a merge; None where options do not say it all."""
    groups = facts.get("weights")
    if not isinstance(groups, list) or len(groups) != 1 or "task" in facts:
        return None
    words = ["rebasin-hub merge", *map(_shell, names), "-o merged"]
    words.append(f"--weights {_shell(','.join(map(str, groups[0]['weights'])))}")
    words.append(f"--method {_shell(str(facts.get('method')))}")
    alignment = facts.get("alignment")
    if isinstance(alignment, dict):
        words.append(f"--align-method {_shell(str(alignment.get('method')))}")
        words.append(f"--strategy {_shell(str(alignment.get('strategy')))}")
        words.append(f"--seed {_shell(str(alignment.get('seed')))}")
    else:
        words.append("--no-align")
    if facts.get("dtype"):
        words.append(f"--dtype {_shell(str(facts['dtype']))}")
    return " ".join(words)


def _shell(word: str) -> str:
    """Quote a word for a shell, on one line."""
    return shlex.quote(_line(word))


def _permutation_section(card: Card) -> Iterator[str]:
    found = card.permutations
    if found is None:
        return
    yield "## Permutations"
    yield _table(
        ["", ""],
        [
            ["file", code(found.file)],
            ["spec", code(found.spec)],
            ["method", code(found.method)],
            ["units moved", f"{found.moved:,} of {found.units:,}"],
            ["from the weights", code(found.source)],
            ["to the weights", code(found.result)],
        ],
    )
    if card.kind == "permutation" and card.bases and card.bases[0].commit is not None:
        base = f"{card.bases[0].name}@{card.bases[0].commit}"
        yield "To get the renumbered weights, with both digests checked:"
        yield _block(f"rebasin-hub pull {card.repo} -o model", "sh")
        yield "or by hand:"
        yield _block(
            f"rebasin-hub apply {_shell(f'hf://{card.repo}/{found.file}')} {base} -o model", "sh"
        )


def _barrier_section(card: Card) -> Iterator[str]:
    record = card.record
    if record is None:
        return
    yield "## Loss barrier"
    for letter, model in record.models.items():
        yield f"{letter}: {code(model.name)}, weights {code(model.digest[:16])}"
    if card.picture is not None:
        yield f"![Loss and error on the straight line between the models]({card.picture})"
    rows = [
        [
            code(split),
            curve.numbering,
            curve.treatment,
            _figure(curve.entezari.loss),
            _figure(curve.frankle.loss),
            _figure(curve.entezari.error),
        ]
        for split, curve in _curves(record)
    ]
    head = ["split", "B", "treatment", "loss barrier (Entezari)", "(Frankle)", "error barrier"]
    if rows:
        yield _table(head, rows)
    task = (
        f"Measured on {code(record.task.name)} ({code(record.task.loss)}), {len(record.lambdas)} "
    )
    yield task + "points of the line, with bootstrap intervals of 95 %. `rebasin.json` has it all."
    if record.verdict:
        yield _block(record.verdict)
    yield "To measure it again:"
    yield _block(record.command, "sh")


def _curves(record: Record) -> Iterator[tuple[str, CurveRecord]]:
    for split in record.task.splits:
        for curve in columns(record, split):
            yield split, curve


def _figure(figure: Figure) -> str:
    if figure.value is None:
        return "not finite"
    if figure.low is None or figure.high is None:
        return f"{figure.value:.4g}"
    return f"{figure.value:.4g} [{figure.low:.4g}, {figure.high:.4g}]"


def _check_section(card: Card) -> Iterator[str]:
    yield "## Check it"
    task = "" if card.record is None else f" --task {_shell(card.record.task.name)}"
    yield _block(f"rebasin-hub hub audit {card.repo}{task}", "sh")
    yield (
        "downloads everything, compares the digests below, and computes what is claimed anew. "
        f"The weights have the plain digest {code(card.digest)}."
    )
    for note in card.notes:
        yield f"Note: {code(note)}"


def _file_section(card: Card) -> Iterator[str]:
    yield "## Files"
    rows = [[code(name), code(digest)] for name, digest in sorted(card.files.items())]
    yield _table(["file", "SHA-256"], rows)
