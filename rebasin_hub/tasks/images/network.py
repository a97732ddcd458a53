"""Networks that classify images. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from rebasin_hub import zoo
from rebasin_hub.errors import InputError
from rebasin_hub.tasks.images.part import Sample
from rebasin_hub.tasks.images.settings import Settings
from rebasin_hub.tasks.network import Batch, TorchNetwork, names_of
from rebasin_hub.tasks.task import Split, Subject
from rebasin_hub.tensors import DTYPES

__all__ = ["ImageData", "image_network"]


@dataclass(frozen=True, eq=False)
class ImageData:
    """Images in memory as they were read; each batch is scaled and normalized when it is asked for.

    pixels: (images, channels, height, width), uint8 or float32.
    labels: (images,) int64.
    white, mean, std: an input is (pixel / white − mean) / std; the last two are (channels or 1,
        1, 1) float32.
    flat: whether each image is one row, its channels behind one another.
    """

    split: Split
    pixels: Tensor
    labels: Tensor
    white: float
    mean: Tensor
    std: Tensor
    flat: bool

    @classmethod
    def of(cls, sample: Sample, settings: Settings, *, flat: bool) -> ImageData:
        """Give a sample the inputs that the settings ask for."""
        mean, std = (torch.tensor(x).reshape(-1, 1, 1) for x in (settings.mean, settings.std))
        pixels, labels = torch.from_numpy(sample.pixels), torch.from_numpy(sample.labels)
        return cls(sample.split, pixels, labels, sample.white, mean, std, flat)

    def batches(self, size: int) -> Iterator[Batch]:
        """Yield the images in file order, `size` at a time."""
        for start in range(0, len(self.labels), size):
            part = slice(start, start + size)
            yield Batch((self.inputs(part),), self.labels[part])

    def inputs(self, part: slice) -> Tensor:
        """Return the inputs of some images, float32."""
        inputs = (self.pixels[part].float() / self.white - self.mean) / self.std
        return inputs.flatten(1) if self.flat else inputs


def image_network(
    name: str,
    samples: Mapping[str, Sample],
    settings: Settings,
    subject: Subject,
    *,
    device: str,
    batch: int,
) -> TorchNetwork:
    """Build the network that runs a checkpoint on images.

    Raises:
        InputError: there is none for the architecture, or it takes other images or classes.

    """
    _check_dtypes(subject)
    module, renamed = zoo.build(subject.binding, activation=_activation(settings))
    names = names_of(module, subject, renamed)
    flat = _check_fit(name, module, samples, subject)
    module.register_forward_pre_hook(_follow_weights)
    data = {key: ImageData.of(sample, settings, flat=flat) for key, sample in samples.items()}
    _check_runs(name, module, next(iter(data.values())), subject)
    return TorchNetwork(module, data, names, device=device, batch=batch)


def _activation(settings: Settings) -> Callable[[Tensor], Tensor] | None:
    # ReLU is what every network has unless it is told otherwise.
    if settings.activation in {None, "relu"}:
        return None
    function: Callable[[Tensor], Tensor] = getattr(functional, str(settings.activation))
    return function


def _check_dtypes(subject: Subject) -> None:
    """Refuse weights of which only some are computed with in float64."""
    header = subject.binding.header
    floats = {info.dtype for info in header.values() if DTYPES[info.dtype].floating}
    if "F64" in floats and len(floats) > 1:
        raise InputError(
            f"{subject.path}: holds {', '.join(sorted(floats))}; a network cannot run with some "
            "weights in float64; convert the checkpoint to one of them first"
        )


def _check_fit(
    name: str, module: nn.Module, samples: Mapping[str, Sample], subject: Subject
) -> bool:
    """Hold a network's first and last layer against the images.

    Returns whether it takes images as rows.
    """
    layers = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)]
    first, last = layers[0], layers[-1]
    sample = next(iter(samples.values()))
    channels, height, width = sample.shape
    pixels, flat = channels * height * width, isinstance(first, nn.Linear)
    if isinstance(first, nn.Linear) and first.in_features != pixels:
        raise InputError(
            f"{subject.path}: the network takes {first.in_features} inputs, the images of '{name}' "
            f"have {channels} × {height} × {width} = {pixels} pixels"
        )
    if isinstance(first, nn.Conv2d) and first.in_channels != channels:
        raise InputError(
            f"{subject.path}: the network takes images of {first.in_channels} channels, those of "
            f"'{name}' have {channels}"
        )
    assert isinstance(last, nn.Linear)
    highest = max(int(s.labels.max()) for s in samples.values())
    if sample.classes not in {None, last.out_features} or highest >= last.out_features:
        found = f"{sample.classes} classes" if sample.classes else f"labels up to {highest}"
        raise InputError(
            f"{subject.path}: the network tells {last.out_features} classes apart, the images of "
            f"'{name}' have {found}"
        )
    return flat


def _follow_weights(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
    """Give inputs the element type of the weights that the module runs with just now."""
    return (inputs[0].to(next(module.parameters()).dtype),)


def _check_runs(name: str, module: nn.Module, data: ImageData, subject: Subject) -> None:
    """Run one image through a network: too small an image is found here."""
    try:
        with torch.no_grad():
            module.eval()(data.inputs(slice(1)))
    except RuntimeError as problem:
        shape = " × ".join(map(str, data.pixels.shape[1:]))
        raise InputError(
            f"{subject.path}: the network cannot run on the images of '{name}', which are {shape} "
            f"(channels × height × width): {problem}"
        ) from problem
