"""Images that Pillow decodes."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import InputError, MissingExtraError
from rebasin_hub.tasks.images.part import Pixels
from rebasin_hub.tasks.images.settings import Size

__all__ = ["Encoded", "decoded", "resized"]

Encoded: TypeAlias = tuple[str, Path | bytes]
"""How messages name an image, and its file or its bytes."""

GRAY, COLOUR = 2, 3


def decoded(images: Iterable[Encoded], size: Size | None) -> NDArray[np.uint8]:
    """Decode images of one size, or bring them to one.

    Returns (images, channels, height, width) uint8. There is one channel if all images are gray,
    and red, green and blue otherwise; transparency is left out. Resizing is bilinear and averages
    over the pixels that are left out, as torchvision does it with images of Pillow.

    Raises:
        InputError: an image is damaged, of another size, or has more than 8 bits a channel.
        MissingExtraError: Pillow is not installed.

    """
    arrays: list[NDArray[np.uint8]] = []
    first = ""
    for name, content in images:
        array = _decoded(name, content, size)
        first = first or name
        if array.shape[:2] != (arrays or [array])[0].shape[:2]:
            raise InputError(
                f"{name}: has {_size(array)} pixels, {first} {_size(arrays[0])}; images must be "
                "of one size; give `size` among the task's settings to resize them"
            )
        arrays.append(array)
    colour = any(array.ndim == COLOUR for array in arrays)
    height, width = arrays[0].shape[:2]
    pixels = np.empty((len(arrays), 3 if colour else 1, height, width), dtype=np.uint8)
    for target, array in zip(pixels, arrays, strict=True):
        target[...] = array.transpose(2, 0, 1) if array.ndim == COLOUR else array
    return pixels


def _decoded(name: str, content: Path | bytes, size: Size | None) -> NDArray[np.uint8]:
    """Return (height, width) of a gray image, (height, width, 3) of one in colour."""
    try:
        from PIL import Image
    except ModuleNotFoundError as problem:
        raise MissingExtraError("decoding images", "data") from problem
    try:
        with Image.open(io.BytesIO(content) if isinstance(content, bytes) else content) as image:
            if image.mode.startswith(("I", "F")):
                raise InputError(
                    f"{name}: has more than 8 bits a channel (mode {image.mode}); convert it first"
                )
            plain = image.convert("L" if image.mode in {"1", "L"} else "RGB")
            if size is not None:
                plain = plain.resize(size[::-1], Image.Resampling.BILINEAR)
            return np.asarray(plain)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as problem:
        raise InputError(f"{name}: cannot be decoded as an image ({problem})") from problem


def resized(pixels: Pixels, size: Size, source: str) -> NDArray[np.uint8]:
    """Resize (images, channels, height, width) uint8 as `decoded` does.

    Raises:
        InputError: the pixels are no bytes of one or three channels.
        MissingExtraError: Pillow is not installed.

    """
    try:
        from PIL import Image
    except ModuleNotFoundError as problem:
        raise MissingExtraError("resizing images", "data") from problem
    channels = pixels.shape[1]
    if pixels.dtype != np.uint8 or channels not in {1, 3}:
        raise InputError(
            f"{source}: {pixels.dtype} images of {channels} channels cannot be resized, only bytes "
            "of one or three channels; leave out the setting 'size'"
        )
    out = np.empty((len(pixels), channels, *size), dtype=np.uint8)
    for target, image in zip(out, pixels, strict=True):
        for plane, channel in zip(target, image, strict=True):
            plane[...] = Image.fromarray(channel).resize(size[::-1], Image.Resampling.BILINEAR)
    return out


def _size(array: NDArray[np.uint8]) -> str:
    return f"{array.shape[0]} × {array.shape[1]}"
