"""The task `text`: how well a language model predicts a text."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rebasin_hub.errors import IncompatibleError, InputError, MissingExtraError
from rebasin_hub.tasks.settings import read_settings
from rebasin_hub.tasks.task import Network, Options, Split, Subject, Task
from rebasin_hub.tasks.text.settings import BYTES, LanguageSettings, data_of, names_in
from rebasin_hub.tasks.text.sources import drawn, source_name, split_files
from rebasin_hub.tasks.text.tables import read_table, read_text

if TYPE_CHECKING:
    from rebasin_hub.tasks.text.models import Built
    from rebasin_hub.tasks.text.windows import Windows

__all__ = ["LanguageTask"]

LONGEST = 1024
"""The longest context by default."""
BYTE_VALUES = 256


class LanguageTask(Task):
    """The cross-entropy of a text under a causal language model, token by token.

    The loss is in nats a token, so that perplexity = exp(loss). A sample is a window of `context`
    tokens; each window predicts the `stride` tokens that none before it has, given up to `context`
    tokens before each. Documents of a table's column `text` are joined by an empty line, and the
    tokenizer sees the whole text at once: these are the tokens of transformers' documentation,
    "Perplexity of fixed-length models". Its windows leave out the first token of each; these do
    not.

    Settings: `context` (by default what the model takes, at most 1024), `stride` (`context` by
    default), `tokenizer` (a directory; by default the checkpoint's), `split`.

    How many windows there are is known once the tokenizer is: until `network` is called, the
    counts of `splits` are 0.
    """

    name = "text"
    loss_name = "cross-entropy per token"
    error_name = "error rate per token"

    def __init__(self, options: Options) -> None:
        data = data_of(self.name, options, "FILE.txt, or a folder with train.txt and test.txt")
        self._settings = read_settings(self.name, LanguageSettings, options.settings)
        self._options = options
        files = split_files(data, names_in(self._settings.split), plain=True)
        self._texts = {split: _joined(paths) for split, paths in files.items()}
        self.splits = {
            split: Split(split, 0, 0, _digest(self._texts[split]), source_name(paths))
            for split, paths in files.items()
        }
        self._window: dict[str, Any] = {}

    @property
    def settings(self) -> Mapping[str, Any]:
        """The tokenizer that was chosen and, once a network was built, its windows."""
        return {"tokenizer": self._settings.tokenizer, **self._window}

    def network(self, subject: Subject, device: str) -> Network:  # noqa: D102
        try:
            from rebasin_hub.tasks.network import TorchNetwork
            from rebasin_hub.tasks.text import models
        except ModuleNotFoundError:
            raise MissingExtraError(f"--task {self.name}", "transformers") from None
        built = models.build(subject, "causal language model")
        if models.looks_ahead(built.module, built.vocabulary):
            raise IncompatibleError(
                f"{subject.path}: {type(built.module).__name__} sees the token that it should "
                "predict, as encoders do (config.json: is_decoder is not true); give a causal "
                "language model, or --task text-classification"
            )
        context, stride = self._window_of(models.positions(built.module), subject)
        windows = self._windows(subject, built, context, stride)
        self.splits = {split: part.split for split, part in windows.items()}
        self._window = {"context": context, "stride": stride}
        rows = built.vocabulary
        size = models.fit(
            built.module,
            device,
            batch=self._options.batch,
            length=context,
            classes=context * rows,
        )
        network = TorchNetwork(
            built.module,
            windows,
            built.names,
            device=device,
            batch=size.batch,
            together=size.together,
        )
        network.notes = (*built.notes, *map(_token_note, windows.values()))
        return network

    def _window_of(self, longest: int | None, subject: Subject) -> tuple[int, int]:
        context = self._settings.context or min(longest or LONGEST, LONGEST)
        if longest is not None and context > longest:
            raise IncompatibleError(
                f"{subject.path}: takes {longest} tokens at most; set 'context' to no more, "
                f"found {context}"
            )
        stride = self._settings.stride or context
        if stride > context:
            raise InputError(
                f"setting 'stride' of --task {self.name}: {stride} is more than the context of "
                f"{context} tokens, and tokens would be left out; give {context} or less"
            )
        return context, stride

    def _windows(
        self, subject: Subject, built: Built, context: int, stride: int
    ) -> dict[str, Windows]:
        from rebasin_hub.tasks.text.tokens import check_ids, encoded, load_tokenizer
        from rebasin_hub.tasks.text.windows import Windows, window_starts

        chosen = self._settings.tokenizer
        if chosen == BYTES and built.vocabulary < BYTE_VALUES:
            raise IncompatibleError(
                f"{subject.path}: has embeddings of {built.vocabulary} tokens, and bytes are "
                f"{BYTE_VALUES}; name a directory in the setting 'tokenizer'"
            )
        tokenizer = None if chosen == BYTES else load_tokenizer(subject, chosen, built)
        windows = {}
        for name, text in self._texts.items():
            ids = encoded(text, tokenizer)
            split = self.splits[name]
            if len(ids) < 2:  # noqa: PLR2004
                raise InputError(
                    f"{split.source}: has {len(ids)} tokens; predicting one takes 2 or more"
                )
            check_ids(int(ids.max()), built, subject)
            starts = window_starts(len(ids), context, stride)
            kept = starts[drawn(len(starts), self._options.limit, self._options.seed)]
            split = replace(split, count=len(kept), available=len(starts))
            windows[name] = Windows(split, ids, kept, context, stride)
        return windows


def _token_note(windows: Windows) -> str:
    return (
        f"{windows.split.name}: {windows.predicted:,} of {len(windows.ids) - 1:,} tokens are "
        f"predicted, in {windows.split.count:,} windows."
    )


def _joined(paths: tuple[Path, ...]) -> str:
    """Read the text of a split's files.

    Raises:
        InputError: one cannot be read, or there is nothing in them.

    """
    parts = []
    for path in paths:
        if path.suffix.lower() == ".txt":
            parts.append(read_text(path))
        else:
            parts += read_table(path).texts("text")
    text = "\n\n".join(parts)
    if not text.strip():
        raise InputError(f"{source_name(paths)}: is empty; give a text")
    return text


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
