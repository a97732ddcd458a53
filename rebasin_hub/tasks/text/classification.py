"""The task `text-classification`: sentences, or pairs of them, with a class."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rebasin_hub.errors import IncompatibleError, InputError, MissingExtraError
from rebasin_hub.tasks.settings import read_settings
from rebasin_hub.tasks.task import Network, Options, Split, Subject, Task
from rebasin_hub.tasks.text.samples import Sample, class_of, digest_of, read_samples
from rebasin_hub.tasks.text.settings import BYTES, ClassificationSettings, data_of, names_in
from rebasin_hub.tasks.text.sources import drawn, source_name, split_files
from rebasin_hub.tasks.text.tables import read_table

if TYPE_CHECKING:
    from rebasin_hub.tasks.text.models import Built
    from rebasin_hub.tasks.text.rows import Rows
    from rebasin_hub.tasks.text.tokens import Tokenizer

__all__ = ["ClassificationTask"]

LONGEST = 1024
"""The most tokens of a row by default."""


class ClassificationTask(Task):
    """The cross-entropy and the error rate of a sequence classifier on rows of a table.

    Tables are csv, tsv, jsonl or parquet files with columns as GLUE's have. Rows that are longer
    than `context` tokens are cut, the longer text first, as transformers' examples do.

    Settings: `columns` (one or two, of texts), `label` (its column), `labels` (from a label to its
    class; by default label2id of config.json), `context` (by default what the model takes, at
    most 1024), `tokenizer` (a directory; by default the checkpoint's), `split`.
    """

    name = "text-classification"

    def __init__(self, options: Options) -> None:
        data = data_of(self.name, options, "FILE.csv, .tsv, .jsonl or .parquet, or a folder")
        self._settings = read_settings(self.name, ClassificationSettings, options.settings)
        if self._settings.tokenizer == BYTES:
            raise InputError(
                f"setting 'tokenizer' of --task {self.name}: '{BYTES}' is for --task text alone; "
                "give a directory"
            )
        self._options = options
        self._context: int | None = None
        self._samples: dict[str, list[Sample]] = {}
        self.splits = {}
        files = split_files(data, names_in(self._settings.split), plain=False)
        for split, paths in files.items():
            others = [other for other in files if other != split]
            tables = (read_table(path) for path in paths)
            rows = [row for table in tables for row in read_samples(table, self._settings, others)]
            kept = [rows[number] for number in drawn(len(rows), options.limit, options.seed)]
            self._samples[split] = kept
            digest = digest_of(kept)
            self.splits[split] = Split(split, len(kept), len(rows), digest, source_name(paths))

    @property
    def settings(self) -> Mapping[str, Any]:
        """What was chosen and, once a network was built, the most tokens of a row."""
        return {
            "columns": self._settings.columns,
            "label": self._settings.label,
            "labels": self._settings.ids,
            "tokenizer": self._settings.tokenizer,
            "context": self._context,
        }

    def network(self, subject: Subject, device: str) -> Network:  # noqa: D102
        try:
            from rebasin_hub.tasks.network import TorchNetwork
            from rebasin_hub.tasks.text.models import build, fit
            from rebasin_hub.tasks.text.tokens import load_tokenizer, padding_token
        except ModuleNotFoundError:
            raise MissingExtraError(f"--task {self.name}", "transformers") from None
        built = build(subject, "sequence classifier")
        targets = self._targets(subject, built)
        tokenizer = load_tokenizer(subject, self._settings.tokenizer, built)
        padding = padding_token(tokenizer, built)
        rows = self._rows(subject, built, tokenizer, targets, padding or 0)
        size = fit(
            built.module,
            device,
            # Without a padding token, no two rows fit into one batch.
            batch=1 if padding is None else self._options.batch,
            length=max(part.longest for part in rows.values()),
            classes=built.module.config.num_labels,
        )
        network = TorchNetwork(
            built.module,
            rows,
            built.names,
            device=device,
            batch=size.batch,
            together=size.together,
        )
        network.notes = (*built.notes, *_cut_notes(rows, self._context))
        return network

    def _targets(self, subject: Subject, built: Built) -> dict[str, list[int]]:
        config = built.module.config
        if config.num_labels < 2:  # noqa: PLR2004
            raise IncompatibleError(
                f"{subject.path}: predicts one number (config.json: num_labels is 1), no class; "
                "give a classifier"
            )
        ids = self._settings.ids or config.label2id or {}
        return {
            split: [class_of(sample, ids, config.num_labels) for sample in samples]
            for split, samples in self._samples.items()
        }

    def _rows(
        self,
        subject: Subject,
        built: Built,
        tokenizer: Tokenizer,
        targets: Mapping[str, list[int]],
        padding: int,
    ) -> dict[str, Rows]:
        from rebasin_hub.tasks.text.models import positions
        from rebasin_hub.tasks.text.rows import tokenized
        from rebasin_hub.tasks.text.tokens import check_ids

        longest = positions(built.module)
        self._context = self._settings.context or min(
            longest or LONGEST, tokenizer.model_max_length, LONGEST
        )
        if longest is not None and self._context > longest:
            raise IncompatibleError(
                f"{subject.path}: takes {longest} tokens at most; set 'context' to no more, "
                f"found {self._context}"
            )
        rows = {}
        for name, samples in self._samples.items():
            rows[name] = tokenized(
                self.splits[name],
                samples,
                targets[name],
                tokenizer=tokenizer,
                taken=inspect.signature(built.module.forward).parameters,
                context=self._context,
                padding=padding,
            )
            check_ids(rows[name].largest, built, subject)
        return rows


def _cut_notes(rows: Mapping[str, Rows], context: int | None) -> Iterator[str]:
    for name, part in rows.items():
        if part.cut:
            yield f"{name}: {part.cut:,} rows are cut to {context} tokens."
