"""The state dict inside whatever a torch file holds: under which keys, with which prefix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rebasin_hub.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

    import torch

__all__ = ["StateDict", "find_state_dict"]

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIX = "module."
_MAX_DEPTH = 8


@dataclass(frozen=True)
class StateDict:
    """A state dict found inside what a torch file holds."""

    tensors: Mapping[str, torch.Tensor]
    """By the names as stored."""
    trail: tuple[str, ...]
    """The keys that lead to it."""
    prefix: str
    """What every stored name begins with and the checkpoint's names leave out."""
    beside: Mapping[str, object]
    """Everything else that the file holds, by dotted path."""


def find_state_dict(content: object, path: Path, *, unwrap: bool = True) -> StateDict:
    """Find the state dict in what a torch file holds.

    The keys `state_dict`, `model_state_dict` and `model` are followed wherever they lead to
    tensors; else the level that holds tensors is taken; else the only entry that does.

    Raises:
        FormatError: there is no state dict, or several with nothing to choose between them.

    """
    trail: list[str] = []
    beside: dict[str, object] = {}
    level = content
    while unwrap and isinstance(level, Mapping) and len(trail) < _MAX_DEPTH:
        key = _inner(level, path)
        if key is None:
            break
        beside |= {_dotted(trail, other): level[other] for other in level if other != key}
        trail.append(key)
        level = level[key]
    tensors = _tensors_of(level)
    if not tensors or not isinstance(level, Mapping):
        raise FormatError(
            f"{path}: holds no tensors that have names, but {_describe(content)}; save a "
            "model's state_dict()"
        )
    beside |= {_dotted(trail, key): level[key] for key in level if key not in tensors}
    prefixed = unwrap and all(name.startswith(_PREFIX) for name in tensors)
    return StateDict(tensors, tuple(trail), _PREFIX if prefixed else "", beside)


def _inner(level: Mapping[Any, object], path: Path) -> str | None:
    """Return the key under which the state dict lies, None if it is this level."""
    leading = [key for key in level if isinstance(key, str) and _leads(level[key])]
    if (wrapper := next((key for key in _WRAPPERS if key in leading), None)) is not None:
        return wrapper
    here = [repr(name) for name in _tensors_of(level)]
    if len(leading) + bool(here) > 1:
        places = [*map(repr, leading), *here[:1]]
        raise FormatError(
            f"{path}: holds tensors in several places ({', '.join(places)}), which leaves open "
            "what the model is; save its state_dict() in a file of its own"
        )
    return leading[0] if leading else None


def _leads(value: object, depth: int = _MAX_DEPTH) -> bool:
    """Whether a state dict lies here or under wrapper keys."""
    if not isinstance(value, Mapping) or not depth:
        return False
    inner = (value[key] for key in _WRAPPERS if key in value)
    return bool(_tensors_of(value)) or any(_leads(item, depth - 1) for item in inner)


def _tensors_of(level: object) -> dict[str, torch.Tensor]:
    import torch

    if not isinstance(level, Mapping):
        return {}
    return {
        key: value
        for key, value in level.items()
        if isinstance(key, str) and isinstance(value, torch.Tensor)
    }


def _dotted(trail: list[str], key: object) -> str:
    return ".".join([*trail, str(key)])


def _describe(content: object) -> str:
    if isinstance(content, Mapping):
        keys = [repr(key) for key in list(content)[:5]]
        return f"the keys {', '.join(keys)}" if keys else "an empty dict"
    return f"a {type(content).__name__}"
