"""Rows of a table, tokenized, as batches for a classifier. Importing this imports torch."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from rebasin_hub.errors import InputError
from rebasin_hub.tasks.network import Batch
from rebasin_hub.tasks.task import Split
from rebasin_hub.tasks.text.samples import Sample
from rebasin_hub.tasks.text.tokens import Tokenizer

__all__ = ["Rows", "tokenized"]


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of unequal length; each batch is padded to its longest.

    columns: inputs of the network by name, one list of integers for each row.
    padding: what each input is padded with.
    targets: the class of each row.
    cut: how many rows had more tokens than the network takes.
    """

    split: Split
    columns: Mapping[str, Sequence[Sequence[int]]]
    padding: Mapping[str, int]
    targets: Sequence[int]
    cut: int

    @property
    def longest(self) -> int:
        """The most tokens of a row."""
        return max(map(len, self.columns["input_ids"]))

    @property
    def largest(self) -> int:
        """The largest token."""
        return max(map(max, self.columns["input_ids"]))

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the rows, `size` at a time."""
        for start in range(0, len(self.targets), size):
            part = slice(start, start + size)
            inputs = {
                name: _padded(column[part], self.padding[name])
                for name, column in self.columns.items()
            }
            yield Batch(inputs, torch.tensor(self.targets[part]))


def _padded(rows: Sequence[Sequence[int]], padding: int) -> torch.Tensor:
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])


def tokenized(
    split: Split,
    samples: Sequence[Sample],
    targets: Sequence[int],
    *,
    tokenizer: Tokenizer,
    taken: Collection[str],
    context: int,
    padding: int,
) -> Rows:
    """Tokenize rows of one text or two each.

    Args:
        split: what is known of them.
        samples: with their texts.
        targets: the class of each row.
        tokenizer: one of transformers'.
        taken: names of inputs that the network takes, of those that the tokenizer makes.
        context: tokens of a row at most; longer ones are cut, the longer text first.
        padding: the padding token.

    Raises:
        InputError: a row has no tokens.

    """
    made = tokenizer(
        *(list(column) for column in zip(*(sample.texts for sample in samples), strict=True)),
        truncation=True,
        max_length=context,
        return_attention_mask=True,
        verbose=False,
    )
    for sample, ids in zip(samples, made["input_ids"], strict=True):
        if not ids:
            raise InputError(f"{sample.place}: has no tokens; remove the row")
    paddings = {"input_ids": padding, "token_type_ids": tokenizer.pad_token_type_id}
    names = [name for name in made if name in taken]
    return Rows(
        split,
        {name: made[name] for name in names},
        {name: paddings.get(name, 0) for name in names},
        targets,
        cut=sum(bool(row.overflowing) for row in made.encodings or ()),
    )
