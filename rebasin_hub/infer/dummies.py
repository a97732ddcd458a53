"""Small random inputs for a model of transformers, after its configuration."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import Module

from rebasin_hub.errors import InputError

__all__ = ["dummy_inputs"]

TOKENS = 9
FRAMES = 3000
BATCH = 2
SAMPLES = 4000


def dummy_inputs(
    module: Module, config: Mapping[str, Any], generator: Generator
) -> dict[str, Tensor]:
    """Return inputs that the forward method of a model takes.

    Args:
        module: of transformers.
        config: its settings.
        generator: of their values.

    Raises:
        InputError: nothing is known about the model's main input.

    """
    known = inspect.signature(module.forward).parameters
    inputs: dict[str, Tensor] = {}
    if "input_ids" in known:
        inputs["input_ids"] = _tokens(config, generator)
    if "pixel_values" in known:
        inputs["pixel_values"] = _picture(config, generator)
    if "input_features" in known and "input_ids" not in known:
        bins = _find(config, "num_mel_bins", 80)
        frames = 2 * _find(config, "max_source_positions", FRAMES // 2)
        inputs["input_features"] = torch.randn(BATCH, bins, frames, generator=generator)
    if "input_values" in known:
        inputs["input_values"] = torch.randn(BATCH, SAMPLES, generator=generator)
    if "decoder_input_ids" in known:
        inputs["decoder_input_ids"] = _tokens(config, generator)
    if not inputs:
        raise InputError(
            f"nothing is known about the inputs of {type(module).__name__}; give a Python file "
            "that returns the module and its inputs"
        )
    return inputs


def _find(config: Mapping[str, Any], key: str, default: int) -> int:
    """Return a whole number of a configuration, or of one inside it."""
    sources = [config, *(v for v in config.values() if isinstance(v, Mapping))]
    return next((s[key] for s in sources if isinstance(s.get(key), int)), default)


def _tokens(config: Mapping[str, Any], generator: Generator) -> Tensor:
    length = min(
        TOKENS, *(_find(config, key, TOKENS) for key in ("max_position_embeddings", "n_positions"))
    )
    vocabulary = _find(config, "vocab_size", 2)
    return torch.randint(vocabulary, (BATCH, length), generator=generator)


def _picture(config: Mapping[str, Any], generator: Generator) -> Tensor:
    size = _find(config, "image_size", 224)
    channels = _find(config, "num_channels", 3)
    return torch.randn(BATCH, channels, size, size, generator=generator)
