"""Models of transformers get inputs that they run on."""

import pytest
import torch
from torch import nn

from rebasin_hub.errors import InputError
from rebasin_hub.infer.dummies import BATCH, dummy_inputs


class Seer(nn.Module):
    """Takes a picture, or a film, of a certain size."""

    main_input_name = "pixel_values"

    def __init__(self, axes):
        super().__init__()
        self.axes = axes

    def forward(self, pixel_values, input_ids=None):
        if pixel_values.ndim != self.axes:
            raise ValueError("another number of axes")
        if input_ids is not None:
            raise ValueError("no text beside it")
        return pixel_values.sum()


class Reader(nn.Module):
    main_input_name = "input_ids"

    def forward(self, input_ids, decoder_input_ids):
        return input_ids.sum() + decoder_input_ids.sum()


CONFIG = {"vision_config": {"image_size": 12, "num_channels": 2, "num_frames": 5}, "vocab_size": 40}


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("axes", "shape"), [(4, (BATCH, 2, 12, 12)), (5, (BATCH, 5, 2, 12, 12))])
def test_what_a_model_runs_on_is_found(axes, shape, generator):
    inputs = dummy_inputs(Seer(axes), CONFIG, generator)
    assert {name: tuple(value.shape) for name, value in inputs.items()} == {"pixel_values": shape}


def test_tokens_are_in_the_vocabulary(generator):
    inputs = dummy_inputs(Reader(), {"vocab_size": 5, "n_positions": 4}, generator)
    assert set(inputs) == {"input_ids", "decoder_input_ids"}
    for tokens in inputs.values():
        assert tokens.shape == (BATCH, 4)
        assert 0 <= tokens.min() <= tokens.max() < 5


def test_the_first_complaint_is_told(generator):
    with pytest.raises(
        InputError, match=r"Seer does not run .* \(pixel_values, input_ids\): Value"
    ):
        dummy_inputs(Seer(7), CONFIG, generator)


def test_unknown_inputs_are_told(generator):
    with pytest.raises(InputError, match="nothing is known about the inputs of Linear"):
        dummy_inputs(nn.Linear(2, 2), {}, generator)


def test_a_model_without_memory_may_look_at_values(generator):
    class Looker(Reader):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.empty(1, device="meta"))

        def forward(self, input_ids):
            return input_ids.max().item() * self.weight

    assert set(dummy_inputs(Looker(), CONFIG, generator)) == {"input_ids"}


class Describer(nn.Module):
    """Reads pictures inside a text, and counts the places for them."""

    main_input_name = "input_ids"

    def get_image_features(self, pixel_values):
        return pixel_values.flatten(1).reshape(len(pixel_values), -1, 4)

    def forward(self, input_ids, pixel_values=None):
        places = int((input_ids == 39).sum())
        found = 0 if pixel_values is None else self.get_image_features(pixel_values)[..., 0].numel()
        if places != found:
            raise ValueError(f"{places} places for {found} features")
        return input_ids.sum()


def test_a_text_has_places_for_the_features_of_pictures(generator):
    config = {**CONFIG, "image_token_id": 39}
    inputs = dummy_inputs(Describer(), config, generator)
    assert set(inputs) == {"input_ids", "pixel_values"}
    assert (inputs["input_ids"] == 39).sum() == BATCH * 2 * 12 * 12 // 4
    assert set(dummy_inputs(Describer(), config, generator, main=True)) == {"input_ids"}
