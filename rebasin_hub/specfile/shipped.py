"""The specs that come with the program, found in an installed package and in a checkout."""

from __future__ import annotations

from pathlib import Path

from rebasin_hub.errors import InputError
from rebasin_hub.spec import Spec
from rebasin_hub.spec.check import nearest
from rebasin_hub.specfile.read import load_spec

__all__ = ["find_spec", "shipped_specs", "spec_path"]

_PACKAGE = Path(__file__).parents[1]


def shipped_specs() -> dict[str, Path]:
    """Return the file of every shipped spec by its name, in alphabetical order."""
    # A wheel carries the folder inside the package; a checkout has it beside the package.
    for folder in (_PACKAGE / "specs", _PACKAGE.parent / "specs"):
        if files := list(folder.glob("*.yaml")):
            return dict(sorted((file.stem, file) for file in files))
    return {}


def spec_path(name_or_path: str) -> Path:
    """Return the file of a shipped spec, or the path itself if it is that of a file.

    Raises:
        InputError: there is neither; names the nearest shipped spec.

    """
    shipped = shipped_specs()
    if name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path)
    if path.is_file():
        return path
    if path.suffix in {".yaml", ".yml"} or path.name != name_or_path:
        raise InputError(f"{path}: there is no such spec file")
    hint = nearest(name_or_path, shipped) or f"; there are {', '.join(shipped)}"
    raise InputError(f"'{name_or_path}' is neither a shipped spec nor a file{hint}")


def find_spec(name_or_path: str) -> Spec:
    """Load a shipped spec by its name, or a spec from a file.

    Raises:
        InputError: there is no such spec.
        SpecError: the file is wrong; carries every problem.

    """
    return load_spec(spec_path(name_or_path))
