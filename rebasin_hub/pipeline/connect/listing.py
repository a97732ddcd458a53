"""Lists of checkpoints: a folder of them, a text file that names them, or one alone."""

from __future__ import annotations

import re
from pathlib import Path

from rebasin_hub.errors import InputError

__all__ = ["listed"]

LIST = ".txt"
MASK = ".mask"
"""Ends the name of a mask file, before its suffix: `step-3.mask.safetensors`."""
SUFFIXES = frozenset({".safetensors", ".pt", ".pth", ".bin", ".ckpt"})
MARKS = ("config.json", "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
"""Files that make a folder one checkpoint."""


def listed(path: Path, *, masks: bool = False) -> tuple[Path, ...]:
    """Return the checkpoints that a path stands for, in the order of the training.

    Args:
        path: a folder, whose checkpoints come in natural order (`step-2` before `step-10`); a .txt
            file with one path a line, relative to it; or one checkpoint.
        masks: look for mask files; in a folder with both, those named `*.mask.*`.

    Raises:
        InputError: there is nothing there, or no checkpoint in it.

    """
    if path.is_file() and path.suffix.lower() == LIST:
        return _in_file(path)
    if not path.is_dir() or _is_checkpoint(path):
        return (path,)  # opening it says what is wrong, if anything
    found = sorted((entry for entry in path.iterdir() if _is_checkpoint(entry)), key=_natural)
    marked = [entry for entry in found if Path(entry.stem).suffix == MASK]
    chosen = marked or found if masks else [entry for entry in found if entry not in marked]
    if not chosen:
        what = "mask files" if masks else "checkpoints"
        raise InputError(f"{path}: holds no {what} ({', '.join(sorted(SUFFIXES))})")
    return tuple(chosen)


def _in_file(path: Path) -> tuple[Path, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as problem:
        raise InputError(f"{path}: cannot be read as a list of checkpoints: {problem}") from None
    names = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not names:
        raise InputError(f"{path}: names no checkpoint; write one path a line")
    return tuple(path.parent / name for name in names)


def _is_checkpoint(entry: Path) -> bool:
    if entry.name.startswith("."):
        return False
    if entry.is_dir():
        return any((entry / name).is_file() for name in MARKS)
    return entry.suffix.lower() in SUFFIXES


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Return a key by which numbers in names count as numbers; digits go before other text."""
    parts = re.findall(r"\d+|\D+", path.name)
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
