"""The handwritten digits that scikit-learn carries, for tasks that need no download."""

from __future__ import annotations

import numpy as np

from rebasin_hub.errors import MissingExtraError
from rebasin_hub.tasks.images.part import Part, held

__all__ = ["TRAIN", "digits_parts"]

TRAIN = 1437
"""Images for training; the other 360 are for testing."""
WHITE = 16.0


def digits_parts() -> dict[str, Part]:
    """Load 1,797 images of 8 × 8 pixels from 0 to 16, in a fixed random order.

    Raises:
        MissingExtraError: torch, which draws the order, or scikit-learn is not installed.

    """
    try:
        import torch
        from sklearn.datasets import load_digits
    except ImportError as problem:
        raise MissingExtraError("the digits", "demo") from problem
    data = load_digits()
    order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0)).numpy()
    pixels = data.images.astype(np.uint8)[order, None]
    labels = data.target.astype(np.int64)[order]
    source = "scikit-learn's digits"
    return {
        "test": held(pixels[TRAIN:], labels[TRAIN:], source, white=WHITE, classes=10),
        "train": held(pixels[:TRAIN], labels[:TRAIN], source, white=WHITE, classes=10),
    }
