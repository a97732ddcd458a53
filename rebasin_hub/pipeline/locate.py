"""Models as a user names them: paths, names on the Hub, versions in the registry."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from rebasin_hub.hub.reference import HubReference
from rebasin_hub.pipeline.hub.inputs import headers_of, on_hub, resolve_all
from rebasin_hub.pipeline.models import AUTOMATIC, Choice
from rebasin_hub.pipeline.registry import resolve
from rebasin_hub.pipeline.write import default_output
from rebasin_hub.registry import is_reference

__all__ = ["headers", "locate", "output_beside"]


def locate(models: Sequence[Path], choice: Choice = AUTOMATIC, *, alike: bool = True) -> list[Path]:
    """Return where models can be opened; those on the Hub are fetched, if they can work.

    Args:
        models: paths, `org/name[@revision]`, `hf://…`, or `registry:name[@alias|:N]`.
        choice: the spec that they are to be bound to.
        alike: whether they have to be of one architecture.

    Raises:
        InputError: a name leads nowhere, or what it leads to cannot be fetched.
        IncompatibleError, BindingError, DetectionError: with `alike`, models on the Hub do not fit.

    """
    paths = [resolve(str(m)) if is_reference(str(m)) else m for m in models]
    return resolve_all(paths, choice, alike=alike)


def headers(model: Path) -> AbstractContextManager[Path]:
    """Return a context with a checkpoint that has a model's headers; see `hub.headers_of`."""
    return headers_of(resolve(str(model)) if is_reference(str(model)) else model)


def output_beside(model: Path, tag: str = "canonical") -> Path:
    """Return the output that belongs to a model as it was named.

    It stands beside a path; of other names, in the working directory.
    """
    if is_reference(str(model)):
        found = resolve(str(model))
        name = str(model).partition(":")[2].replace("/", "-")
        return Path(default_output(Path(name + found.suffix), tag).name)
    reference = on_hub(model)
    return default_output(model, tag) if reference is None else _for_hub(reference, tag)


def _for_hub(reference: HubReference, tag: str) -> Path:
    if reference.file is not None:
        return Path(default_output(Path(reference.file), tag).name)
    return Path(f"{reference.repo.rpartition('/')[2]}.{tag}")
