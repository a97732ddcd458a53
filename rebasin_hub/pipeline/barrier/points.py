"""Points that were measured already, so that an interrupted measurement goes on where it was."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.barrier import Scores, calibrated
from rebasin_hub.errors import OutputError
from rebasin_hub.formats import new_file

__all__ = ["Measured", "Points", "measured"]

FOLDER = ".points"
"""In the report's folder while it is not finished."""
KEY = "key.json"


@dataclass(frozen=True, eq=False)
class Measured:
    """What is kept of a point on one split: sums over each sample's predictions.

    `calibrated` are the losses at the best temperature, which is `temperature`.
    """

    losses: NDArray[np.float64]
    errors: NDArray[np.float64]
    counts: NDArray[np.float64]
    calibrated: NDArray[np.float64] | None = None
    temperature: float = 1.0

    @property
    def loss(self) -> float:
        """The mean loss of a prediction, nats."""
        return float(self.losses.sum() / self.counts.sum())

    @property
    def error(self) -> float:
        """The share of predictions that are wrong."""
        return float(self.errors.sum() / self.counts.sum())


def measured(scores: Scores) -> Measured:
    """Return what is kept of scores: of all temperatures only the best."""
    if scores.tempered is None:
        return Measured(scores.losses, scores.errors, scores.counts)
    best, temperature = calibrated(scores)
    return Measured(scores.losses, scores.errors, scores.counts, best.losses, temperature)


class Points:
    """A folder with one file for each point; without a folder nothing is kept.

    Args:
        folder: the folder of the report, or None.
        facts: whatever decides the scores; points of other facts are not taken.
        force: throw away points of other facts.

    Raises:
        OutputError: the folder holds points of another measurement, or cannot be written.

    """

    def __init__(self, folder: Path | None, facts: Mapping[str, object], *, force: bool) -> None:
        self._folder = None if folder is None else folder / FOLDER
        if self._folder is None:
            return
        text = json.dumps(facts, sort_keys=True)
        key = self._folder / KEY
        try:
            if key.is_file() and key.read_text("utf-8") != text:
                if not force:
                    raise OutputError(
                        f"{self._folder}: holds points of another measurement (other models, data "
                        "or settings); finish that one, choose another folder, or give --force"
                    )
                shutil.rmtree(self._folder)
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as problem:
            raise OutputError(f"{self._folder}: {problem.strerror}; choose another -o") from problem
        if not key.exists():
            with new_file(key) as file:
                file.write(text.encode())

    def load(self, name: str) -> dict[str, Measured] | None:
        """Return a point by split, or None where it was not measured or its file is damaged."""
        if self._folder is None:
            return None
        try:
            content = io.BytesIO(self._file(name).read_bytes())
            with np.load(content, allow_pickle=False) as arrays:
                stored = {key: arrays[key] for key in arrays.files}
        except (OSError, ValueError, zipfile.BadZipFile):
            return None
        splits = dict.fromkeys(key.partition("/")[0] for key in stored)
        return {split: _unpacked(split, stored) for split in splits}

    def save(self, name: str, point: Mapping[str, Measured]) -> None:
        """Keep a point."""
        if self._folder is None:
            return
        arrays = {
            f"{split}/{key}": value
            for split, part in point.items()
            for key, value in vars(part).items()
            if value is not None
        }
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **arrays)
        with new_file(self._file(name), force=True) as file:
            file.write(buffer.getvalue())

    def permutations(self, letter: str) -> Path | None:
        """Return where a model's permutation file is kept meanwhile."""
        return None if self._folder is None else self._folder / f"{letter}.safetensors"

    def clear(self) -> None:
        """Remove all points: the report has what they were for."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _file(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.npz"


def _unpacked(split: str, stored: Mapping[str, NDArray[np.float64]]) -> Measured:
    return Measured(
        losses=stored[f"{split}/losses"],
        errors=stored[f"{split}/errors"],
        counts=stored[f"{split}/counts"],
        calibrated=stored.get(f"{split}/calibrated"),
        temperature=float(stored[f"{split}/temperature"]),
    )
