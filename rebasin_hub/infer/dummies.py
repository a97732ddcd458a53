"""Small random inputs for a model of transformers, after its configuration and its signature."""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Generator, Tensor
from torch.nn import Module

from rebasin_hub.errors import InputError

__all__ = ["dummy_inputs"]

TOKENS = 9
FRAMES = 3000
BATCH = 2
SAMPLES = 4000
MOST = 24
"""Sets of inputs that are tried."""

NO_MEMORY = re.compile(r"\bmeta\b", re.IGNORECASE)
"""What PyTorch says of tensors without memory whose elements are asked for."""

Maker: TypeAlias = "Callable[[_Settings, Generator], Tensor]"


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
    known = [name for name in inspect.signature(module.forward).parameters if name in MAKERS]
    settings = _Settings(config)
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
    module: Module, settings: _Settings, inputs: dict[str, Tensor], device: torch.device
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


def _sets(module: Module, known: Sequence[str], *, main: bool) -> Iterator[dict[str, Maker]]:
    """Yield sets of inputs: all kinds, the main one with what it needs, one kind by itself."""
    first = str(getattr(module, "main_input_name", ""))
    choices = [
        [] if main else list(known),
        [name for name in known if name == first or name.startswith("decoder_")],
        *([name] for name in known),
    ]
    seen: list[list[str]] = []
    for names in choices:
        if not names or names in seen:
            continue
        seen.append(names)
        for makers in itertools.product(*(MAKERS[name] for name in names)):
            yield dict(zip(names, makers, strict=True))


class _Settings:
    """A configuration, searched with those inside it."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.levels = list(_levels(config))

    def number(self, default: int, *keys: str) -> int:
        """Return the first whole number under one of some keys, outermost first."""
        for key in keys:
            for level in self.levels:
                value = level.get(key)
                if isinstance(value, list | tuple) and value:
                    value = value[-1]
                if isinstance(value, int) and not isinstance(value, bool):
                    return value
        return default


def _levels(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a configuration and those inside it, the outermost first."""
    queue = [config]
    while queue:
        level = queue.pop(0)
        yield level
        queue += [value for value in level.values() if isinstance(value, Mapping)]


def _tokens(settings: _Settings, generator: Generator) -> Tensor:
    places = settings.number(TOKENS, "max_position_embeddings", "n_positions")
    vocabulary = settings.number(3, "vocab_size")
    # The first ones and the last ones are often special, such as padding or the place of a picture.
    low, high = min(3, vocabulary - 1), max(vocabulary - vocabulary // 3, 1)
    shape = (BATCH, max(1, min(TOKENS, places)))
    return torch.randint(low, max(high, low + 1), shape, generator=generator)


def _boxes(settings: _Settings, generator: Generator) -> Tensor:
    length = _tokens(settings, generator).shape[1]
    corners = torch.randint(0, 4, (BATCH, length, 2), generator=generator)
    return torch.cat([corners, corners + 3], -1)


def _picture(settings: _Settings, generator: Generator) -> Tensor:
    return torch.randn(BATCH, *_frame(settings), generator=generator)


def _frame(settings: _Settings) -> tuple[int, int, int]:
    size = settings.number(224, "image_size", "img_size", "input_size", "crop_size")
    return settings.number(3, "num_channels", "num_input_channels"), size, size


def _film(settings: _Settings, generator: Generator) -> Tensor:
    frames = settings.number(8, "num_frames", "frames_per_clip")
    return torch.randn(BATCH, frames, *_frame(settings), generator=generator)


def _spectrum(settings: _Settings, generator: Generator) -> Tensor:
    return torch.randn(BATCH, _bins(settings), _frames(settings), generator=generator)


def _spectrum_by_time(settings: _Settings, generator: Generator) -> Tensor:
    return _spectrum(settings, generator).mT.contiguous()


def _bins(settings: _Settings) -> int:
    return settings.number(
        80, "num_mel_bins", "feature_projection_input_dim", "n_mels", "input_feat_per_channel"
    )


def _frames(settings: _Settings) -> int:
    half = settings.number(0, "max_source_positions")
    return 2 * half if half else settings.number(FRAMES, "max_length")


def _sound(settings: _Settings, generator: Generator) -> Tensor:
    del settings
    return torch.randn(BATCH, SAMPLES, generator=generator)


def _sound_of_a_channel(settings: _Settings, generator: Generator) -> Tensor:
    return _sound(settings, generator)[:, None]


def _series(settings: _Settings, generator: Generator) -> Tensor:
    length = settings.number(32, "context_length")
    lags = settings.number(0, "lags_sequence")
    return torch.randn(BATCH, length + lags, generator=generator)


def _series_of_channels(settings: _Settings, generator: Generator) -> Tensor:
    length, channels = (
        settings.number(32, "context_length"),
        settings.number(1, "num_input_channels"),
    )
    return torch.randn(BATCH, length, channels, generator=generator)


TEXT: tuple[Maker, ...] = (_tokens,)
MAKERS: Mapping[str, tuple[Maker, ...]] = {
    "input_ids": TEXT,
    "decoder_input_ids": TEXT,
    "bbox": (_boxes,),
    "pixel_values": (_picture, _film),
    "pixel_values_videos": (_film,),
    "input_features": (_spectrum, _spectrum_by_time),
    "input_values": (_sound, _sound_of_a_channel, _spectrum_by_time, _spectrum),
    "past_values": (_series_of_channels, _series),
}
"""What can be made for an argument of a forward method, the likeliest first."""
