"""Keep the traceback of an unexpected failure where a bug report can attach it."""

from __future__ import annotations

import platform
import sys
import time
import traceback
from pathlib import Path

from rebasin_hub import __version__

__all__ = ["write_log"]


def write_log(error: BaseException) -> Path:
    """Write an error's traceback, the command line and versions to a log; return its path."""
    import platformdirs

    folder = Path(platformdirs.user_log_dir("rebasin-hub", appauthor=False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        import tempfile

        folder = Path(tempfile.gettempdir())
    log = folder / f"failure-{time.strftime('%Y%m%d-%H%M%S')}.log"
    lines = [
        f"rebasin-hub {__version__}, Python {platform.python_version()}, {platform.platform()}",
        f"arguments: {sys.argv[1:]}",
        "",
        *traceback.format_exception(error),
    ]
    log.write_text("\n".join(lines), encoding="utf-8")
    return log
