"""The page and the picture of a record, written into its folder."""

from __future__ import annotations

import sys
from pathlib import Path

from rebasin_hub.errors import MissingExtraError
from rebasin_hub.formats import new_file
from rebasin_hub.pipeline.connect.outputs import PICTURE, REPORT
from rebasin_hub.record.connect import ConnectRecord, TrajectoryRecord
from rebasin_hub.report.connect.page import html_page
from rebasin_hub.report.connect.picture import save_picture

__all__ = ["save_connect_report"]


def save_connect_report(
    record: ConnectRecord | TrajectoryRecord, folder: Path, *, force: bool = False
) -> None:
    """Write the page and the picture of a record into its folder.

    Without matplotlib there is no picture, which stderr is told; the page has it all.

    Raises:
        OutputError: a file exists and `force` is not set, or it cannot be written.

    """
    with new_file(folder / REPORT, force=force) as file:
        file.put(html_page(record).encode())
    try:
        save_picture(record, folder / PICTURE, force=force)
    except MissingExtraError as missing:
        sys.stderr.write(f"note: {folder / PICTURE} was not drawn: {missing}\n")
