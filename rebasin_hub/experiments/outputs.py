"""Write what an experiment found: JSON, a table, pictures, and a page for the documentation."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from rebasin_hub.errors import OutputError
from rebasin_hub.experiments.data import make_folder
from rebasin_hub.experiments.experiment import Experiment
from rebasin_hub.experiments.page import MARK, page_of, table_of
from rebasin_hub.experiments.picture import draw
from rebasin_hub.experiments.result import ExperimentResult
from rebasin_hub.formats import new_file
from rebasin_hub.training.store import digest_of_settings

__all__ = ["write_page", "write_result"]


def write_result(
    result: ExperimentResult, experiment: Experiment, folder: Path
) -> ExperimentResult:
    """Write figures, table and pictures as `NAME-SCALE-TASK-DIGEST.{json,md,png,svg}`.

    The digest is that of the settings and the data: results of other settings stand beside, the
    same settings replace what they gave before.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: the folder cannot be written.

    """
    digest = digest_of_settings({"settings": result.settings, "data": result.data})[:8]
    words = [result.experiment, result.scale, *([result.task] if result.task else []), digest]
    stem = "-".join(words).replace("/", "_")
    files = {kind: folder / f"{stem}.{kind}" for kind in ("json", "md", "png", "svg")}
    result = replace(result, files=files)
    content = {
        "md": table_of(result).encode(),
        "png": draw(experiment.picture, result, "png"),
        "svg": draw(experiment.picture, result, "svg"),
        "json": (json.dumps(result.as_json(), indent=1, allow_nan=False) + "\n").encode(),
    }
    for kind, data in content.items():  # the JSON last: where it is, all are
        _put(files[kind], data)
    return result


def write_page(result: ExperimentResult, folder: Path) -> ExperimentResult:
    """Write the page `NAME.md`, replacing only a page that an experiment has written.

    Raises:
        OutputError: another file is there, or the folder cannot be written.

    """
    path = folder / f"{result.experiment}.md"
    if path.exists() and not path.read_text(encoding="utf-8", errors="replace").startswith(MARK):
        raise OutputError(f"{path}: was not written by an experiment; choose another --docs folder")
    make_folder(folder)
    _put(path, page_of(result).encode())
    return replace(result, files={**result.files, "docs": path})


def _put(path: Path, data: bytes) -> None:
    with new_file(path, force=True) as file:
        file.put(data)
