"""What a user may say of an image task beside its data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard

from rebasin_hub.errors import InputError
from rebasin_hub.spec.check import nearest

__all__ = ["ACTIVATIONS", "SPLITS", "Settings", "Size", "settings_of"]

ACTIVATIONS = ("relu", "gelu", "tanh", "sigmoid", "silu", "elu", "leaky_relu", "selu")
"""Functions of torch.nn.functional that a network may have between its layers."""
SPLITS = ("test", "train")
"""In the order in which they are shown."""
PAIR = 2

Size: TypeAlias = tuple[int, int]
"""Height and width, pixels."""


@dataclass(frozen=True)
class Settings:
    """How pixels become inputs, and what is measured.

    Inputs are (pixel − mean) / std, for pixels from 0 to 1; both have one number or one for each
    channel. They must be those that the checkpoints were trained with, which nothing in a
    checkpoint tells. By default pixels are taken as they are: customary constants, such as those
    of CIFAR-10, are set by nobody but the user.

    `size` is what images are resized to, `classes` how many there are, `split` the only one that
    is measured, and `activation` one of `ACTIVATIONS`.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    size: Size | None = None
    classes: int | None = None
    split: str | None = None
    activation: str | None = None


def settings_of(given: Mapping[str, Any] | None) -> Settings:
    """Check a mapping as a task file gives it.

    Raises:
        InputError: a key is unknown, or a value cannot be used.

    """
    given = given or {}
    for key in given:
        if key not in READERS:
            raise InputError(
                f"setting '{key}' is not known to image tasks, which know "
                f"{', '.join(READERS)}{nearest(str(key), READERS)}"
            )
    return Settings(**{key: READERS[key](key, value) for key, value in given.items()})


def _numbers(key: str, value: object) -> tuple[float, ...]:
    values = value if isinstance(value, list | tuple) else [value]
    numbers = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
    if not numbers or len(numbers) < len(values) or not all(map(math.isfinite, numbers)):
        raise _wrong(key, value, "one number, or a list with one for each channel")
    return tuple(numbers)


def _spread(key: str, value: object) -> tuple[float, ...]:
    numbers = _numbers(key, value)
    if min(numbers) <= 0:
        raise _wrong(key, value, "numbers above 0")
    return numbers


def _size(key: str, value: object) -> Size:
    pair = value if isinstance(value, list | tuple) else [value, value]
    sizes = [v for v in pair if _is_count(v)]
    if len(pair) != PAIR or len(sizes) != PAIR:
        raise _wrong(key, value, "a number of pixels, or a list of height and width")
    return sizes[0], sizes[1]


def _count(key: str, value: object) -> int:
    if not _is_count(value):
        raise _wrong(key, value, "a whole number above 0")
    return value


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _split(key: str, value: object) -> str:
    return _one_of(key, value, SPLITS)


def _activation(key: str, value: object) -> str:
    return _one_of(key, value, ACTIVATIONS)


def _one_of(key: str, value: object, choices: tuple[str, ...]) -> str:
    if value not in choices:
        raise _wrong(key, value, f"one of {', '.join(choices)}{nearest(str(value), choices)}")
    return str(value)


def _wrong(key: str, value: object, expected: str) -> InputError:
    return InputError(f"setting '{key}' is {value!r}; expected {expected}")


READERS: Mapping[str, Callable[[str, object], Any]] = {
    "mean": _numbers,
    "std": _spread,
    "size": _size,
    "classes": _count,
    "split": _split,
    "activation": _activation,
}
"""What turns the value of each key into that of `Settings`."""
