"""Images in memory, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Generator, Tensor

from rebasin_hub.tasks import Options
from rebasin_hub.tasks.images.part import Sample
from rebasin_hub.tasks.images.task import ImageTask, image_task

__all__ = ["Images", "load", "shuffled"]

PAD = 4
"""Pixels by which augmented images are shifted at most."""


@dataclass(frozen=True, eq=False)
class Images:
    """Images with their labels, on one device.

    pixels: uint8, (images, channels, height, width), or (images, pixels) for linear layers.
    labels: (images,) int64.
    white: the pixel that becomes 1.
    """

    pixels: Tensor
    labels: Tensor
    white: float

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, pixels: Tensor) -> Tensor:
        """Scale pixels to 0…1, which is what the product's tasks do unless they are told more."""
        scaled = pixels.float() / self.white
        if scaled.ndim == 2:
            return scaled
        return scaled.contiguous(
            memory_format=torch.channels_last
        )  # in which convolutions are faster


def load(task: str, folder: Path, device: torch.device, *, flat: bool) -> tuple[Images, Images]:
    """Read the images for training and for testing, through the product's own readers."""
    read = image_task(task, Options(data=folder))
    assert isinstance(read, ImageTask)

    def on_device(sample: Sample) -> Images:
        pixels, labels = (torch.from_numpy(x).to(device) for x in (sample.pixels, sample.labels))
        return Images(pixels.flatten(1) if flat else pixels, labels, sample.white)

    return on_device(read.samples["train"]), on_device(read.samples["test"])


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
