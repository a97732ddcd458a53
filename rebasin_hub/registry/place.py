"""Where the registry is: given by the user, by the environment, or the platform's data folder."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

__all__ = ["VARIABLE", "default_place"]

VARIABLE = "REBASIN_REGISTRY"


def default_place() -> Path:
    """Return `$REBASIN_REGISTRY`, or the folder `registry` among the user's data."""
    given = os.environ.get(VARIABLE)
    if given:
        return Path(given).expanduser()
    return Path(platformdirs.user_data_dir("rebasin-hub", appauthor=False)) / "registry"
