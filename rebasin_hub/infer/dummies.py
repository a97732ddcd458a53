"""Small random inputs for a model of transformers, after its configuration and its signature."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import Module

from rebasin_hub.errors import InputError
from rebasin_hub.infer.dummy_makers import BATCH, MAKERS, NEEDED, Maker, Settings

__all__ = ["dummy_inputs"]

MOST = 48
"""Sets of inputs that are tried."""

NO_MEMORY = re.compile(r"\bmeta\b", re.IGNORECASE)
"""What PyTorch says of tensors without memory whose elements are asked for."""


def dummy_inputs(
    module: Module, config: Mapping[str, Any], generator: Generator, *, main: bool = False
) -> dict[str, Tensor]:
    """Return inputs that a model runs on: of every kind that it takes, or else of its main kind.

    What a model wants is written nowhere but in its code, so several sets are tried, the fullest
    first.

    Args:
        module: of transformers, with memory or on the device `meta`.
        config: its settings.
        generator: of their values.
        main: leave out what the model takes beside its main input, such as pictures in a text.

    Raises:
        InputError: nothing is known about the model's inputs, or it runs on none of those tried.

    """
    known = _known(module)
    settings = Settings(config)
    problem: Exception | None = None
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    module.eval()
    for makers in itertools.islice(_sets(module, known, main=main), MOST):
        try:
            inputs = {name: make(settings, generator) for name, make in makers.items()}
            with torch.no_grad():
                inputs = _with_places(module, settings, inputs, device)
                module(**{name: value.to(device) for name, value in inputs.items()})
        except Exception as error:  # noqa: BLE001 - a model raises anything
            if device.type == "meta" and NO_MEMORY.search(str(error)):
                # It looked at a value, which only a model with memory has: no objection so far.
                return inputs
            problem = problem or error
        else:
            return inputs
    name = type(module).__name__
    advice = "give a Python file that returns the module and its inputs"
    if problem is None:
        raise InputError(f"nothing is known about the inputs of {name}; {advice}")
    reason = next(iter(str(problem).strip().splitlines()), "")
    raise InputError(
        f"{name} does not run on the inputs that were tried ({', '.join(known)}): "
        f"{type(problem).__name__}: {reason}; {advice}"
    )


def _with_places(
    module: Module, settings: Settings, inputs: dict[str, Tensor], device: torch.device
) -> dict[str, Tensor]:
    """Return inputs whose text has a place for every feature of the picture beside it.

    Models that read pictures inside a text count the tokens that stand for them.
    """
    features = getattr(module, "get_image_features", None)
    token = settings.number(-1, "image_token_id", "image_token_index")
    if features is None or token < 0 or not {"input_ids", "pixel_values"} <= set(inputs):
        return inputs
    count = _rows(features(pixel_values=inputs["pixel_values"].to(device))) // BATCH
    tokens = inputs["input_ids"]
    places = torch.full((BATCH, count), token)
    return {**inputs, "input_ids": torch.cat([tokens[:, :1], places, tokens[:, 1:]], 1)}


def _rows(features: object) -> int:
    """Count the vectors in what a model makes of pictures: one value, several, or an output."""
    if isinstance(features, Tensor):
        return features.shape[:-1].numel()
    if isinstance(features, list | tuple):
        return sum(map(_rows, features))
    return _rows(getattr(features, "pooler_output", ()))


def _known(module: Module) -> list[str]:
    """Return the arguments that can be made: all usual ones, and others that must be given."""
    return [
        name
        for name, parameter in _arguments(module).items()
        if name in MAKERS or (name in NEEDED and parameter.default is parameter.empty)
    ]


def _needed(module: Module) -> list[str]:
    """Return the arguments that must be given, and that can be made."""
    arguments = _arguments(module)
    return [n for n in _known(module) if arguments[n].default is inspect.Parameter.empty]


def _arguments(module: Module) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(module.forward).parameters


def _sets(module: Module, known: Sequence[str], *, main: bool) -> Iterator[dict[str, Maker]]:
    """Yield sets of inputs: all kinds, the main one with what it needs, one kind by itself."""
    first = str(getattr(module, "main_input_name", ""))
    needed = set(_needed(module))
    choices = [
        [] if main else list(known),
        [n for n in known if n == first or n.startswith("decoder_") or n in needed],
        *([n for n in known if n == one or n in needed] for one in known),
        [] if main else [n for n in _arguments(module) if n in MAKERS or n in NEEDED],
    ]
    seen: list[list[str]] = []
    for names in choices:
        if not names or names in seen:
            continue
        seen.append(names)
        for makers in itertools.product(*({**MAKERS, **NEEDED}[name] for name in names)):
            yield dict(zip(names, makers, strict=True))
