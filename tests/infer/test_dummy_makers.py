"""Inputs are made after the names of arguments, in the sizes that a configuration states."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rebasin_hub.infer.dummy_makers import BATCH, MAKERS, NEEDED, Settings

EVERYTHING = {**MAKERS, **NEEDED}
CONFIG = {
    "vocab_size": 40,
    "max_position_embeddings": 7,
    "hidden_size": 12,
    "image_size": [6, 8],
    "num_channels": 2,
    "num_frames": 5,
    "num_mel_bins": 16,
    "max_source_positions": 20,
    "context_length": 10,
    "lags_sequence": [1, 2, 3],
    "num_time_features": 4,
    "num_codebooks": 3,
    "codebook_size": 9,
    "patch_size": 2,
    "temporal_patch_size": 3,
    "max_state_dim": 11,
    "task_seq_len": 13,
}
SHAPES = {
    "input_ids": [(7,), None, (9, 3)],
    "bbox": [(7, 4)],
    "pixel_values": [(2, 6, 8), (5, 2, 6, 8), (2, 2, 6, 8), None, (16, 24)],
    "input_features": [(16, 40), (40, 16)],
    "input_values": [(4800,), (1, 4800), (40, 16), (16, 40)],
    "past_values": [(10, 1), (13,)],
    "audio_codes": [(3, 9)],
    "inputs_embeds": [(9, 12)],
    "grid_thw": [(3,)],
    "pixel_position_ids": [(16, 2)],
    "task_inputs": [(13,)],
    "input_features_mask": [(40,)],
    "state": [(11,)],
    "past_time_features": [(13, 4)],
    "past_observed_mask": [(13,)],
}
"""By argument, without the first axis; None where the batch is joined with another axis."""


def made(config, seed=0):
    """Return everything that can be made, by the name of the argument and in the makers' order."""
    return {
        name: [make(Settings(config), torch.Generator().manual_seed(seed)) for make in makers]
        for name, makers in EVERYTHING.items()
    }


@pytest.mark.parametrize("name", SHAPES)
def test_sizes_are_those_of_the_configuration(name):
    inputs = made(CONFIG)[name]
    assert len(inputs) == len(SHAPES[name])
    for tensor, shape in zip(inputs, SHAPES[name], strict=True):
        if shape is not None:
            assert tuple(tensor.shape) == (BATCH, *shape)


def test_patches_are_as_many_as_their_grids_and_places_say():
    inputs = made(CONFIG)
    (grid,), (places,) = inputs["grid_thw"], inputs["pixel_position_ids"]
    patches, by_picture = inputs["pixel_values"][3:]
    assert tuple(patches.shape) == (grid.prod(1).sum(), 2 * 2**2 * 3)
    assert by_picture.shape[1] == grid[0].prod() == len(set(map(tuple, places[0].tolist())))


def test_codes_of_all_books_come_in_three_orders():
    _, rows, last = made(CONFIG)["input_ids"]
    (codes,) = made(CONFIG)["audio_codes"]
    assert torch.equal(rows, codes.reshape(-1, 9))
    assert torch.equal(last, codes.mT)
    assert codes.max() < CONFIG["codebook_size"]


def test_what_belongs_to_a_series_is_as_long_as_it():
    inputs = made(CONFIG)
    _, series = inputs["past_values"]
    assert series.shape == inputs["past_observed_mask"][0].shape
    assert series.shape == inputs["past_time_features"][0].shape[:2]


def test_boxes_have_their_first_corner_first():
    (boxes,) = made(CONFIG)["bbox"]
    assert (boxes[..., :2] < boxes[..., 2:]).all()
    assert boxes.min() >= 0


def test_the_same_seed_gives_the_same_inputs():
    one, same, other = made(CONFIG), made(CONFIG), made(CONFIG, seed=1)
    for name, tensors in one.items():
        assert all(map(torch.equal, tensors, same[name]))
    assert not torch.equal(one["state"][0], other["state"][0])
    assert not torch.equal(one["input_ids"][0], other["input_ids"][0])


def test_everything_can_be_made_without_a_configuration():
    for tensors in made({}).values():
        assert all(tensor.numel() or tensor.shape[-1] == 0 for tensor in tensors)


@given(st.integers(1, 2000), st.integers(1, 20))
def test_tokens_are_in_any_vocabulary_and_have_places(vocabulary, places):
    config = {"vocab_size": vocabulary, "n_positions": places}
    for name in ("input_ids", "task_inputs", "qformer_input_ids"):
        (tokens, *_) = [
            make(Settings(config), torch.Generator().manual_seed(0)) for make in EVERYTHING[name]
        ]
        assert 0 <= tokens.min() <= tokens.max() < vocabulary
        assert name == "task_inputs" or tokens.shape[1] == min(places, 9)


def test_settings_are_searched_by_key_and_then_from_the_outside():
    inner = {"hidden_size": 3, "d_model": 4, "flag": True, "sides": (5, 6)}
    settings = Settings({"text": {"deep": inner, "hidden_size": 2}, "d_model": 1, "name": "x"})
    assert Settings({"c": {"size": 2}, "a": {"b": {"size": 1}}}).number(0, "size") == 2
    assert settings.number(0, "hidden_size", "d_model") == 2
    assert settings.number(0, "d_model", "hidden_size") == 1
    assert settings.number(7, "name", "flag", "missing") == 7
    assert settings.number(0, "sides") == 6
    assert settings.sides(0, "sides") == (5, 6)
    assert settings.sides(0, "d_model") == (1, 1)
    assert settings.sides(9, "name", "missing") == (9, 9)
