"""Small random tensors for the arguments of models, after their names and the configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

import torch
from torch import Generator, Tensor

__all__ = ["BATCH", "MAKERS", "NEEDED", "Maker", "Settings"]

TOKENS = 9
FRAMES = 3000
BATCH = 2
SAMPLES = 4800
PLACES = 16
"""Features of a picture that are described one by one."""

Maker: TypeAlias = "Callable[[Settings, Generator], Tensor]"


class Settings:
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

    def sides(self, default: int, *keys: str) -> tuple[int, int]:
        """Return a height and a width, which are stated as one number or as two."""
        for key in keys:
            for level in self.levels:
                match level.get(key):
                    case [int(height), int(width)]:
                        return height, width
                    case int(side):
                        return side, side
        return default, default


def _levels(config: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a configuration and those inside it, the outermost first."""
    queue = [config]
    while queue:
        level = queue.pop(0)
        yield level
        queue += [value for value in level.values() if isinstance(value, Mapping)]


def _tokens(settings: Settings, generator: Generator) -> Tensor:
    places = settings.number(TOKENS, "max_position_embeddings", "n_positions")
    vocabulary = settings.number(3, "vocab_size")
    # The first ones and the last ones are often special, such as padding or the place of a picture.
    low, high = min(3, vocabulary - 1), max(vocabulary - vocabulary // 3, 1)
    shape = (BATCH, max(1, min(TOKENS, places)))
    return torch.randint(low, max(high, low + 1), shape, generator=generator)


def _boxes(settings: Settings, generator: Generator) -> Tensor:
    length = _tokens(settings, generator).shape[1]
    corners = torch.randint(0, 4, (BATCH, length, 2), generator=generator)
    return torch.cat([corners, corners + 3], -1)


def _picture(settings: Settings, generator: Generator) -> Tensor:
    return torch.randn(BATCH, *_frame(settings), generator=generator)


def _frame(settings: Settings) -> tuple[int, int, int]:
    height, width = settings.sides(224, "image_size", "img_size", "input_size", "crop_size")
    return settings.number(3, "num_channels", "num_input_channels"), height, width


def _film(settings: Settings, generator: Generator) -> Tensor:
    frames = settings.number(8, "num_frames", "frames_per_clip")
    return torch.randn(BATCH, frames, *_frame(settings), generator=generator)


def _spectrum(settings: Settings, generator: Generator) -> Tensor:
    return torch.randn(BATCH, _bins(settings), _frames(settings), generator=generator)


def _spectrum_by_time(settings: Settings, generator: Generator) -> Tensor:
    return _spectrum(settings, generator).mT.contiguous()


def _bins(settings: Settings) -> int:
    return settings.number(
        80,
        *("num_mel_bins", "feature_projection_input_dim", "n_mels", "input_feat_per_channel"),
        *("input_feat_size", "input_dim"),
    )


def _frames(settings: Settings) -> int:
    half = settings.number(0, "max_source_positions")
    return 2 * half if half else settings.number(FRAMES, "max_length")


def _sound(settings: Settings, generator: Generator) -> Tensor:
    del settings
    return torch.randn(BATCH, SAMPLES, generator=generator)


def _sound_of_a_channel(settings: Settings, generator: Generator) -> Tensor:
    return _sound(settings, generator)[:, None]


def _series(settings: Settings, generator: Generator) -> Tensor:
    length = settings.number(32, "context_length", "prediction_length")
    lags = settings.number(0, "lags_sequence")
    return torch.randn(BATCH, length + lags, generator=generator)


def _times(settings: Settings, generator: Generator) -> Tensor:
    length = _series(settings, generator).shape[1]
    features = settings.number(0, "num_time_features")
    return torch.randn(BATCH, length, features, generator=generator)


def _present_series(settings: Settings, generator: Generator) -> Tensor:
    return torch.ones_like(_series(settings, generator))


def _series_of_channels(settings: Settings, generator: Generator) -> Tensor:
    length, channels = (
        settings.number(32, "context_length"),
        settings.number(1, "num_input_channels"),
    )
    return torch.randn(BATCH, length, channels, generator=generator)


def _codes(settings: Settings, generator: Generator) -> Tensor:
    """Make tokens of several codebooks: by example, codebook, place."""
    books = settings.number(1, "num_codebooks", "num_quantizers", "n_codebooks")
    size = settings.number(8, "codebook_size", "vocab_size")
    return torch.randint(0, size, (BATCH, books, TOKENS), generator=generator)


def _codes_last(settings: Settings, generator: Generator) -> Tensor:
    return _codes(settings, generator).mT.contiguous()


def _codes_in_rows(settings: Settings, generator: Generator) -> Tensor:
    return _codes(settings, generator).flatten(0, 1)


def _states(settings: Settings, generator: Generator) -> Tensor:
    width = settings.number(32, "hidden_size", "d_model")
    return torch.randn(BATCH, TOKENS, width, generator=generator)


def _pair_of_pictures(settings: Settings, generator: Generator) -> Tensor:
    return torch.randn(BATCH, 2, *_frame(settings), generator=generator)


def _present_frames(settings: Settings, generator: Generator) -> Tensor:
    return torch.ones(_spectrum(settings, generator)[:, 0].shape, dtype=torch.long)


def _robot(settings: Settings, generator: Generator) -> Tensor:
    return torch.randn(BATCH, settings.number(8, "max_state_dim"), generator=generator)


def _task(settings: Settings, generator: Generator) -> Tensor:
    length = settings.number(TOKENS, "task_seq_len")
    return torch.randint(0, settings.number(3, "vocab_size"), (BATCH, length), generator=generator)


def _places(settings: Settings, generator: Generator) -> Tensor:
    """Make the columns and rows of a square picture's patches."""
    del settings, generator
    steps = torch.arange(int(PLACES**0.5))
    return torch.cartesian_prod(steps, steps).expand(BATCH, -1, -1)


def _patches(settings: Settings, generator: Generator) -> Tensor:
    """Make the patches of several pictures one below another, as `_grids` tells them."""
    return torch.randn(BATCH * PLACES, _patch(settings), generator=generator)


def _patches_by_picture(settings: Settings, generator: Generator) -> Tensor:
    return torch.randn(BATCH, PLACES, _patch(settings), generator=generator)


def _patch(settings: Settings) -> int:
    side = settings.number(14, "patch_size")
    channels = settings.number(3, "in_channels", "in_chans", "num_channels")
    return channels * side**2 * settings.number(1, "temporal_patch_size")


def _grids(settings: Settings, generator: Generator) -> Tensor:
    """Make the numbers of frames, rows and columns of each picture's patches."""
    del settings, generator
    side = int(PLACES**0.5)
    return torch.tensor([[1, side, side]] * BATCH)


TEXT: tuple[Maker, ...] = (_tokens, _codes_in_rows, _codes_last)
MAKERS: Mapping[str, tuple[Maker, ...]] = {
    "input_ids": TEXT,
    "decoder_input_ids": TEXT,
    "bbox": (_boxes,),
    "pixel_values": (_picture, _film, _pair_of_pictures, _patches, _patches_by_picture),
    "pixel_values_videos": (_film,),
    "input_features": (_spectrum, _spectrum_by_time),
    "input_values": (_sound, _sound_of_a_channel, _spectrum_by_time, _spectrum),
    "past_values": (_series_of_channels, _series),
    "audio_codes": (_codes,),
}
"""What can be made for an argument of a forward method, the likeliest first."""

NEEDED: Mapping[str, tuple[Maker, ...]] = {
    "hidden_states": (_patches, _states),
    "inputs_embeds": (_states,),
    "query_embeds": (_states,),
    "context_hidden_states": (_states,),
    "noise_embeds": (_states,),
    "grid_thw": (_grids,),
    "image_grid_thw": (_grids,),
    "pixel_position_ids": (_places,),
    "qformer_input_ids": (_tokens,),
    "task_inputs": (_task,),
    "input_features_mask": (_present_frames,),
    "state": (_robot,),
    "past_time_features": (_times,),
    "past_observed_mask": (_present_series,),
    "encoder_hidden_states": (_states,),
}
"""What can be made for an argument besides, if a model does not run without it."""
