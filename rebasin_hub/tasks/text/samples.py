"""Rows of tables that are classified: their texts, and what their labels mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rebasin_hub.errors import InputError
from rebasin_hub.spec.check import nearest
from rebasin_hub.tasks.text.settings import ClassificationSettings, names_in
from rebasin_hub.tasks.text.tables import Table

__all__ = ["Sample", "class_of", "digest_of", "read_samples"]

COLUMNS: tuple[tuple[str, ...], ...] = (
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("premise", "hypothesis"),
    ("sentence",),
    ("text",),
)
"""Columns of texts that are looked for, as GLUE has them, the first ones first."""
LABELS = ("label", "labels")
HIDDEN = "-1"
"""The label of rows whose label is kept secret, as in GLUE's test sets."""
SHOWN = 10


@dataclass(frozen=True)
class Sample:
    """A row: one text or two, its label as it is stored, and where it stands."""

    texts: tuple[str, ...]
    label: int | str
    place: str


def read_samples(
    table: Table, settings: ClassificationSettings, others: Sequence[str]
) -> list[Sample]:
    """Return the rows of a table.

    Args:
        table: with columns of texts and of labels.
        settings: which columns these are.
        others: splits that a user can choose instead, for messages.

    Raises:
        InputError: a column is missing, a text is none, or a label is missing or kept secret.

    """
    names = names_in(settings.columns) or _text_columns(table)
    texts = zip(*(table.texts(name) for name in names), strict=True)
    instead = (
        f"; choose splits that have labels in the setting 'split' ({', '.join(others)})"
        if others
        else "; give a table that has labels"
    )
    name = settings.label or next((n for n in LABELS if n in table.columns), None)
    if name is None:
        raise InputError(
            f"{table.path}: has no column {' or '.join(LABELS)}, only {', '.join(table.columns)}; "
            f"name the column of labels in the setting 'label'{instead}"
        )
    samples = [
        Sample(row, _label(cell, f"{table.place(number)}: column '{name}'"), table.place(number))
        for number, (row, cell) in enumerate(zip(texts, table.require(name), strict=True))
    ]
    for sample in samples:
        if str(sample.label) == HIDDEN and HIDDEN not in settings.ids:
            raise InputError(
                f"{sample.place}: column '{name}': the label is {HIDDEN}, which stands for one "
                f"that is kept secret, as in GLUE's test sets{instead}"
            )
    return samples


def _text_columns(table: Table) -> tuple[str, ...]:
    for names in COLUMNS:
        if all(name in table.columns for name in names):
            return names
    raise InputError(
        f"{table.path}: has none of the columns {'; '.join(', '.join(names) for names in COLUMNS)};"
        f" it has {', '.join(table.columns)}; name one or two in the setting 'columns'"
    )


def _label(cell: object, place: str) -> int | str:
    if isinstance(cell, bool | int):
        return int(cell)
    if isinstance(cell, str) and cell:
        return cell
    found = "nothing" if cell is None or cell == "" else f"{type(cell).__name__} {cell!r:.40}"
    raise InputError(f"{place}: expected a whole number or a name, found {found}")


def class_of(sample: Sample, ids: Mapping[str, int], classes: int) -> int:
    """Return the class of a sample's label.

    Args:
        sample: whose label is a name, or the number of a class.
        ids: from names to classes; a name that it lacks may still be a number.
        classes: how many there are.

    Raises:
        InputError: the label has no meaning, or is out of range.

    """
    label = str(sample.label)
    number = ids.get(label)
    if number is None:
        try:
            number = int(label)
        except ValueError:
            shown = ", ".join(list(ids)[:SHOWN])
            raise InputError(
                f"{sample.place}: the label '{label}' is not known{nearest(label, ids)}; there are "
                f"{shown}; give each label its number in the setting 'labels'"
            ) from None
    if not 0 <= number < classes:
        raise InputError(
            f"{sample.place}: the label {label} is class {number}, the network has {classes} "
            f"classes (0 to {classes - 1}); give each label its number in the setting 'labels'"
        )
    return number


def digest_of(samples: Sequence[Sample]) -> str:
    """Return the SHA-256 of texts and labels."""
    found = hashlib.sha256()
    for sample in samples:
        found.update(json.dumps([*sample.texts, sample.label]).encode() + b"\n")
    return found.hexdigest()
