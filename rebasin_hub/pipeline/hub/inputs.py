"""Models that a command was given: paths as they are, names on the Hub as paths in its cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rebasin_hub.errors import RebasinError
from rebasin_hub.formats import open_checkpoint
from rebasin_hub.hub.client import connect
from rebasin_hub.hub.fetch import fetch, look_up, peek
from rebasin_hub.hub.reference import SCHEME, HubReference
from rebasin_hub.pipeline.models import AUTOMATIC, Choice, open_like, open_model

__all__ = ["headers_of", "on_hub", "resolve", "resolve_all"]


def on_hub(model: str | Path) -> HubReference | None:
    """Return what a model's name means on the Hub, None if it is a path.

    A path that exists is always one; so is what begins with a dot, a slash or `~`.

    Raises:
        InputError: it begins with hf:// and is no name.

    """
    # As a path, hf://org/name has lost one of its slashes.
    text = str(model)
    if isinstance(model, Path) and text.startswith("hf:/"):
        text = SCHEME + text.removeprefix("hf:/").lstrip("/")
    if not text.startswith(SCHEME) and (Path(text).exists() or not HubReference.looks_like(text)):
        return None
    return HubReference.parse(text)


def resolve(model: str | Path, choice: Choice = AUTOMATIC) -> Path:
    """Return the path of one model; for `resolve_all` see there."""
    return resolve_all([model], choice, alike=False)[0]


def resolve_all(
    models: Sequence[str | Path], choice: Choice = AUTOMATIC, *, alike: bool = True
) -> list[Path]:
    """Return the paths of models; those on the Hub are fetched into the client's cache.

    Headers are read by byte ranges before, so that what cannot work is told before the weights
    are fetched.

    Args:
        models: paths and names, as they were given.
        choice: the spec that they are to be bound to.
        alike: whether they have to be of one architecture that a spec describes.

    Raises:
        InputError: a model is not on the Hub, or cannot be fetched.
        IncompatibleError, BindingError, DetectionError: with `alike`, they do not fit.

    """
    names = [on_hub(model) for model in models]
    if not any(names):
        return [Path(model) for model in models]
    api = connect()
    with ExitStack() as stack:
        remotes = [None if name is None else look_up(api, name) for name in names]
        peeked = [None if r is None else stack.enter_context(peek(api, r)) for r in remotes]
        hollow = [
            Path(model) if found is None else found.path
            for model, found in zip(models, peeked, strict=True)
        ]
        with _named_as_asked(hollow, models):
            _check(hollow, choice, alike=alike)
        paths = []
        for model, remote, found in zip(models, remotes, peeked, strict=True):
            if remote is None or found is None:
                paths.append(Path(model))
            else:
                folder = fetch(api, remote, found.names)
                paths.append(folder / found.main if found.main else folder)
        return paths


@contextmanager
def headers_of(model: str | Path) -> Iterator[Path]:
    """Yield a checkpoint that has the headers of a model; one on the Hub is not fetched.

    Raises:
        InputError: it is not on the Hub, or cannot be read there.

    """
    name = on_hub(model)
    if name is None:
        yield Path(model)
        return
    api = connect()
    remote = look_up(api, name)
    with peek(api, remote) as found:
        if found.path is None:
            folder = fetch(api, remote, found.names)
            yield folder / found.main if found.main else folder
        else:
            with _named_as_asked([found.path], [model]):
                yield found.path


def _check(hollow: Sequence[Path | None], choice: Choice, *, alike: bool) -> None:
    known = [path for path in hollow if path is not None]
    if not alike:
        for path in known:
            open_checkpoint(path).close()
    elif known:
        with open_model(known[0], choice) as first, ExitStack() as stack:
            for path in known[1:]:
                stack.enter_context(open_like(path, first))


@contextmanager
def _named_as_asked(hollow: Sequence[Path | None], models: Sequence[str | Path]) -> Iterator[None]:
    """Let errors name models as they were asked for, not by where their headers lie."""
    try:
        yield
    except RebasinError as error:
        text = str(error)
        for path, model in zip(hollow, models, strict=True):
            if path is not None and path != Path(model):
                text = text.replace(str(path), str(model))
        error.args = (text,)
        raise
