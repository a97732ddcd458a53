"""Images in memory, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Generator, Tensor

from rebasin_hub.errors import InputError
from rebasin_hub.tasks import Options
from rebasin_hub.tasks.images.part import Sample
from rebasin_hub.tasks.images.task import ImageTask, image_task
from rebasin_hub.training.subset import Subset

__all__ = ["Images", "read_samples", "shuffled"]

PAD = 4
"""Pixels by which augmented images are shifted at most."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images with their labels, on one device.

    pixels: (images, channels, height, width), uint8 or float32.
    labels: (images,) int64.
    white: the pixel that becomes 1.
    flat: whether a network takes each image as one row.
    """

    pixels: Tensor
    labels: Tensor
    white: float
    flat: bool

    @classmethod
    def of(
        cls, sample: Sample, device: torch.device, *, flat: bool, subset: Subset | None = None
    ) -> Images:
        """Bring a part of a sample to a device.

        Raises:
            InputError: nothing is left of it.

        """
        indices, labels = (subset or Subset()).choose(sample.labels)
        pixels = torch.from_numpy(sample.pixels[indices]).to(device)
        return cls(pixels, torch.from_numpy(labels).to(device), sample.white, flat)

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, pixels: Tensor) -> Tensor:
        """Scale pixels to 0…1, which is what the product's tasks do unless they are told more."""
        scaled = pixels.float() / self.white
        if self.flat:
            return scaled.flatten(1)
        # In this order convolutions are faster.
        return scaled.contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=4)
def read_samples(task: str, data: Path | None) -> Mapping[str, Sample]:
    """Read the splits of an image task, through the product's own readers.

    Raises:
        InputError: there is no such task, its data cannot be used, or nothing is there to train on.
        MissingExtraError: a package that reads the data is not installed.

    """
    read = image_task(task, Options(data=data))
    assert isinstance(read, ImageTask)
    if "train" not in read.samples:
        raise InputError(f"the data of '{task}' have no training split; give data that have one")
    return read.samples


def shuffled(
    images: Images, size: int, generator: Generator, *, augment: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield inputs and labels of one epoch, in an order that the generator draws (on the CPU)."""
    for chosen in torch.split(torch.randperm(len(images), generator=generator), size):
        indices = chosen.to(images.labels.device)
        pixels = images.pixels[indices]
        if augment:
            pixels = _moved(pixels, generator)
        yield images.inputs(pixels), images.labels[indices]


def _moved(pixels: Tensor, generator: Generator) -> Tensor:
    """Shift each image by up to PAD pixels, zeros coming in, and mirror each second one."""
    count, channels, height, width = pixels.shape
    padded = torch.nn.functional.pad(pixels, (PAD,) * 4)

    def drawn(below: int) -> Tensor:
        return torch.randint(below, (count, 1), generator=generator).to(pixels.device)

    def line(length: int) -> Tensor:
        return torch.arange(length, device=pixels.device)

    rows = drawn(2 * PAD + 1) + line(height)
    columns = drawn(2 * PAD + 1) + line(width)
    columns = torch.where(drawn(2).bool(), columns, columns.flip(1))
    return padded[
        line(count)[:, None, None, None],
        line(channels)[:, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
