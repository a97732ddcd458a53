"""What was measured, how the models were aligned, and how to do it again."""

from __future__ import annotations

import json

from rebasin_hub.record import Record
from rebasin_hub.record.model import AlignmentRecord, Letter
from rebasin_hub.report.figures import duration
from rebasin_hub.report.html.markup import Html, joined, tag
from rebasin_hub.report.html.results import NOTHING, section

__all__ = ["alignment_section", "measured_section", "notes_section"]


def measured_section(record: Record) -> Html:
    """Return models, data and circumstances, and the command."""
    task = record.task
    entries = [
        *[
            (f"Model {letter}", _digested(model.name, model.digest))
            for letter, model in record.models.items()
        ],
        ("Architecture", _digested(record.spec, record.spec_digest)),
        ("Task", joined(task.name)),
        ("Loss", joined(task.loss)),
        ("Error", joined(task.error)),
        *[
            (
                f"Split “{name}”",
                _digested(
                    f"{split.count:,} of {split.available:,} samples of {split.source}",
                    split.digest,
                ),
            )
            for name, split in task.splits.items()
        ],
        *[(name, joined(_setting(value))) for name, value in task.settings.items()],
        ("Measured", joined(f"{record.created}, in {duration(record.seconds)} on {record.device}")),
        ("Program", joined(record.tool)),
        ("Versions", joined(", ".join(f"{k} {v}" for k, v in record.versions.items()))),
    ]
    command = tag(
        "div",
        tag("pre", tag("code", record.command), tabindex="0"),
        _copy("Copy the command"),
        class_="command",
    )
    return section(
        "measured",
        "What was measured",
        _listed(entries),
        tag("h3", "Do it again"),
        command,
        tag(
            "p",
            tag("button", "Download the record (rebasin.json)", type="button", id="download"),
            class_="scripted",
        ),
    )


def alignment_section(record: Record) -> Html:
    """Return how each model was brought to A."""
    if not record.alignments:
        return section("alignment", "How B was aligned", tag("p", "Nothing was aligned."))
    parts = [_alignment(letter, found) for letter, found in record.alignments.items()]
    title = f"How {' and '.join(record.alignments)} {'was' if len(parts) == 1 else 'were'} aligned"
    return section("alignment", title, *parts)


def _alignment(letter: Letter, found: AlignmentRecord) -> Html:
    moved, units = sum(found.moved.values()), sum(found.units.values())
    entries = [
        ("Method", joined(found.method)),
        ("Cosine of all weights", joined(f"{found.start_cosine:.4f} → {found.cosine:.4f}")),
        ("Moved", joined(f"{moved:,} of {units:,} units in {len(found.units)} permutations")),
        (
            "Search",
            joined(
                f"{found.sweeps} sweeps, best of {found.restarts} starts, seed {found.seed}; "
                + ("converged" if found.converged else "it had not converged")
            ),
        ),
    ]
    if found.permutations is not None:
        entries.append(("Permutation file", _digested("", found.permutations)))
    return joined(tag("h3", f"{letter} to A"), _listed(entries))


def notes_section(record: Record) -> Html:
    """Return what limits the result."""
    if not record.notes:
        return NOTHING
    notes = [tag("li", note) for note in dict.fromkeys(record.notes)]
    return section("notes", "Notes", tag("ul", *notes))


def _listed(entries: list[tuple[str, Html]]) -> Html:
    return tag("dl", *[joined(tag("dt", key), tag("dd", value)) for key, value in entries])


def _digested(text: str, digest: str) -> Html:
    """Return a text with a digest under it that can be copied whole."""
    code = tag("code", digest, class_="digest")
    return joined(text, tag("span", code, _copy("Copy the digest"), class_="digested"))


def _copy(label: str) -> Html:
    """Return a button that copies the code beside it."""
    return tag("button", "Copy", type="button", class_="copy scripted", aria_label=label)


def _setting(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
