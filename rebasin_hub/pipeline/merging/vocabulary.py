"""Models that read text can be merged only if they read the same tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rebasin_hub.errors import FormatError, IncompatibleError
from rebasin_hub.formats.checkpoint import Checkpoint
from rebasin_hub.formats.config import read_json

__all__ = ["check_vocabularies"]

SHOWN = 5
"""Tokens that a message lists."""
CUT = 100
"""Characters of a value that a message shows."""
SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "spm.model")
PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
OUTER = ("padding", "truncation")
COSMETIC = ("chat_template", "bos_token", "eos_token", "pad_token", "unk_token", "model_max_length")


@dataclass(frozen=True)
class Tokenizer:
    """What is known of a checkpoint's tokenizer.

    vocabulary: token to id; None where it is not known.
    parts: what else decides the tokens, by name.
    notable: what does not, by name.
    """

    vocabulary: Mapping[str, int] | None = None
    parts: Mapping[str, object] = field(default_factory=dict)
    notable: Mapping[str, object] = field(default_factory=dict)


def check_vocabularies(first: Checkpoint, other: Checkpoint) -> tuple[str, ...]:
    """Compare the tokenizers of two checkpoints; return what differs and does not matter.

    Raises:
        IncompatibleError: the same text would give other tokens, with the first differences.
        FormatError: a tokenizer's file cannot be read.

    """
    folders = _folder(first), _folder(other)
    if folders[0] is None or folders[1] is None:
        return ()
    a, b = read_tokenizer(folders[0]), read_tokenizer(folders[1])
    differences = [*_sizes(first, other), *_tokens(a, b), *_parts(a, b)]
    if differences:
        shown = "\n".join(f"  {difference}" for difference in differences)
        raise IncompatibleError(
            f"{first.path} and {other.path} do not read the same tokens:\n{shown}\n"
            "Bring both to one tokenizer before."
        )
    return tuple(
        f"{key} is {_cut(a.notable.get(key))} in {first.path} and {_cut(b.notable.get(key))} in "
        f"{other.path}; the first one's is kept"
        for key in sorted(a.notable.keys() | b.notable.keys())
        if a.notable.get(key) != b.notable.get(key)
    )


def _folder(checkpoint: Checkpoint) -> Path | None:
    """Return where the tokenizer of a checkpoint would lie."""
    if checkpoint.path.is_dir():
        return checkpoint.path
    return checkpoint.path.parent if checkpoint.config is not None else None


def read_tokenizer(folder: Path) -> Tokenizer:
    """Read what a directory says of its tokenizer.

    Raises:
        FormatError: a file cannot be read or is not what its name says.

    """
    parts: dict[str, object] = {}
    vocabulary: Mapping[str, int] | None = None
    if (path := folder / "tokenizer.json").is_file():
        vocabulary, parts, notable = _fast(read_json(path))
    else:
        notable = {}
        if (path := folder / "vocab.json").is_file():
            vocabulary = _ids(read_json(path))
        elif (path := folder / "vocab.txt").is_file():
            vocabulary = {token: number for number, token in enumerate(_lines(path))}
        if (path := folder / "merges.txt").is_file():
            parts["merges"] = [line for line in _lines(path) if not line.startswith("#version")]
        if vocabulary is not None and (path := folder / "added_tokens.json").is_file():
            vocabulary = {**vocabulary, **(_ids(read_json(path)) or {})}
    for name in SENTENCEPIECE:
        if (path := folder / name).is_file():
            parts[name] = f"SHA-256 {hashlib.sha256(_bytes(path)).hexdigest()}"
    if (path := folder / "tokenizer_config.json").is_file():
        settings = read_json(path)
        notable |= {key: settings[key] for key in COSMETIC if key in settings}
    if (path := folder / "chat_template.jinja").is_file():
        notable["chat_template"] = _bytes(path).decode(errors="replace")
    return Tokenizer(vocabulary, parts, notable)


def _fast(
    content: Mapping[str, Any],
) -> tuple[Mapping[str, int] | None, dict[str, object], dict[str, object]]:
    """Return vocabulary, parts and the rest of a tokenizer.json."""
    model = content.get("model")
    model = model if isinstance(model, dict) else {}
    added = [t for t in content.get("added_tokens") or () if isinstance(t, dict)]
    vocabulary = _ids(model.get("vocab"))
    names = {str(token.get("content")): token.get("id") for token in added}
    if vocabulary is not None:
        vocabulary = {**vocabulary, **(_ids(names) or {})}
    parts: dict[str, object] = {name: content.get(name) for name in PARTS if name in content}
    if "merges" in model:
        # Written as "a b" by old versions and as ["a", "b"] by new ones.
        parts["merges"] = [m if isinstance(m, str) else " ".join(m) for m in model["merges"]]
    parts |= {f"model.{k}": v for k, v in model.items() if k not in {"vocab", "merges"}}
    if isinstance(model.get("vocab"), list):
        parts["scores"] = dict(model["vocab"])
    flags = ("lstrip", "rstrip", "single_word", "normalized")
    parts |= {
        f"added token {token.get('content')!r}": {flag: bool(token.get(flag)) for flag in flags}
        for token in added
    }
    notable: dict[str, object] = {key: content.get(key) for key in OUTER}
    notable["special tokens"] = sorted(str(t.get("content")) for t in added if t.get("special"))
    return vocabulary, parts, notable


def _ids(found: object) -> dict[str, int] | None:
    """Return token to id of any of the forms in which vocabularies are stored."""
    if isinstance(found, dict):
        return {str(token): number for token, number in found.items()}
    if isinstance(found, list):  # Unigram: token and score, numbered in order
        return {str(entry[0]): number for number, entry in enumerate(found)}
    return None


def _sizes(first: Checkpoint, other: Checkpoint) -> Iterator[str]:
    sizes = [(c.config or {}).get("vocab_size") for c in (first, other)]
    if None not in sizes and sizes[0] != sizes[1]:
        yield f"vocab_size in config.json: {sizes[0]} against {sizes[1]}"


def _tokens(a: Tokenizer, b: Tokenizer) -> Iterator[str]:
    if a.vocabulary is None or b.vocabulary is None or a.vocabulary == b.vocabulary:
        return
    both = (a.vocabulary, b.vocabulary)
    different = [t for t in both[0].keys() | both[1].keys() if both[0].get(t) != both[1].get(t)]
    tokens = sorted(different, key=lambda t: (min(v.get(t, 1 << 62) for v in both), t))
    for token in tokens[:SHOWN]:
        ids = [
            "no token" if token not in vocabulary else f"token {vocabulary[token]}"
            for vocabulary in (a.vocabulary, b.vocabulary)
        ]
        yield f"{_cut(token)} is {ids[0]} against {ids[1]}"
    if len(tokens) > SHOWN:
        yield f"… and {len(tokens) - SHOWN:,} more tokens"


def _parts(a: Tokenizer, b: Tokenizer) -> Iterator[str]:
    names = [name for name in a.parts if name in b.parts and a.parts[name] != b.parts[name]]
    for name in names:
        mine, theirs = a.parts[name], b.parts[name]
        if isinstance(mine, list) and isinstance(theirs, list):
            yield f"{name}: {_first_difference(mine, theirs)}"
        else:
            yield f"{name}: {_cut(mine)} against {_cut(theirs)}"


def _first_difference(mine: list[Any], theirs: list[Any]) -> str:
    for number, (one, other) in enumerate(zip(mine, theirs, strict=False)):
        if one != other:
            return f"entry {number + 1} is {_cut(one)} against {_cut(other)}"
    return f"{len(mine):,} entries against {len(theirs):,}"


def _cut(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, default=str)
    return text if len(text) <= CUT else f"{text[: CUT - 1]}…"


def _lines(path: Path) -> list[str]:
    return _bytes(path).decode(errors="replace").splitlines()


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: cannot be read: {error.strerror}") from None
