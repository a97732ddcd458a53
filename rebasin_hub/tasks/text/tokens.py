"""Tokenizers. Importing this imports transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import transformers
from numpy.typing import NDArray

from rebasin_hub.errors import IncompatibleError, InputError
from rebasin_hub.tasks.task import Subject
from rebasin_hub.tasks.text.models import Built, quiet
from rebasin_hub.tasks.text.settings import BYTES

__all__ = ["Tokenizer", "check_ids", "encoded", "load_tokenizer", "padding_token"]

Tokenizer: TypeAlias = Any
"""A PreTrainedTokenizerBase of transformers, which is not typed."""

_FILES = (
    *("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "spiece.model"),
    *("sentencepiece.bpe.model", "vocab.txt", "vocab.json"),
)


def load_tokenizer(subject: Subject, chosen: str | None, built: Built) -> Tokenizer:
    """Load a tokenizer of transformers, from a chosen directory or from the checkpoint's.

    Raises:
        InputError: there is none, or it cannot be loaded.
        IncompatibleError: it has more tokens than the network.

    """
    place = Path(chosen) if chosen is not None else _folder(subject)
    if not any((place / name).is_file() for name in _FILES):
        raise InputError(
            f"{place}: holds no tokenizer ({_FILES[0]}, {_FILES[1]}, …); name the directory that "
            f"does in the setting 'tokenizer', or '{BYTES}' for a language model of bytes"
        )
    # Damaged files raise nearly anything here, Rust's panics among it.
    try:
        with quiet():
            tokenizer = transformers.AutoTokenizer.from_pretrained(
                str(place), local_files_only=True, trust_remote_code=False
            )
    except Exception as error:  # noqa: BLE001
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{place}: its tokenizer cannot be loaded: {reason:.200}") from None
    # Tokens that were added later may lie beyond; what the data needs is checked by `check_ids`.
    if tokenizer.vocab_size > built.vocabulary:
        raise IncompatibleError(
            f"{place}: its tokenizer has {tokenizer.vocab_size:,} tokens, "
            f"{subject.path} has embeddings of {built.vocabulary:,}; give the model's own tokenizer"
        )
    return tokenizer


def _folder(subject: Subject) -> Path:
    return subject.path if subject.path.is_dir() else subject.path.parent


def encoded(text: str, tokenizer: Tokenizer | None) -> NDArray[np.int64]:
    """Return the tokens of a whole text, with a first one where the tokenizer adds it.

    Without a tokenizer they are the bytes of its UTF-8.
    """
    if tokenizer is None:
        return np.frombuffer(text.encode(), np.uint8).astype(np.int64)
    return np.asarray(tokenizer(text, verbose=False)["input_ids"], np.int64)


def check_ids(largest: int, built: Built, subject: Subject) -> None:
    """Refuse tokens that a network has no embedding of."""
    if largest >= built.vocabulary:
        raise IncompatibleError(
            f"{subject.path}: has embeddings of {built.vocabulary:,} tokens, the data holds the "
            f"token {largest}; give the model's own tokenizer in the setting 'tokenizer'"
        )


def padding_token(tokenizer: Tokenizer, built: Built) -> int | None:
    """Return the token to pad rows with, None without one, and let the network know it.

    The network's own comes first: some look for the last token that is none.
    """
    config = built.module.config.get_text_config()
    for token in (config.pad_token_id, tokenizer.pad_token_id):
        if token is not None and 0 <= token < built.vocabulary:
            config.pad_token_id = built.module.config.pad_token_id = token
            return int(token)
    return None
