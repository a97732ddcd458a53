"""Opening zip archives, in which several formats keep their tensors."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from rebasin_hub.errors import FormatError
from rebasin_hub.formats.sniff import AGAIN

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["open_zip"]


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open an archive, of which only the list of members is read.

    Raises:
        FormatError: it is cut off or damaged.

    """
    try:
        return zipfile.ZipFile(path)
    except (OSError, ValueError, zipfile.BadZipFile, NotImplementedError) as error:
        raise FormatError(f"{path}: is cut off or damaged ({error}); {AGAIN}") from None
