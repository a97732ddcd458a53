"""Masks of pruned networks: read from files, or from the zeros among the weights."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import InputError
from rebasin_hub.formats import open_checkpoint
from rebasin_hub.permute import Element
from rebasin_hub.pipeline.models import Model
from rebasin_hub.rearrange import Array, Read, rearranged
from rebasin_hub.spec.check import nearest
from rebasin_hub.tensors import DTYPES

__all__ = ["NO_MASKS", "Kept", "Masks", "Overlap", "kept", "open_masks", "overlap_of"]

WEIGHT_AXES = 2
"""Tensors of at least so many axes can be pruned; biases, norms and statistics are not counted."""
Mask = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Masks:
    """What a mask file holds, by the checkpoint's names: true for what stays.

    Nothing is pruned in tensors that the file does not name. Without a file (`stored` is None) the
    weights that are zero are the pruned ones.
    """

    stored: Mapping[str, Mask] | None = None

    def on(self, read: Read) -> Read:
        """Return a reader of the weights in which those that are pruned are zero."""
        if not self.stored:
            return read
        stored = self.stored

        def read_masked(name: str) -> Array:
            array = read(name)
            mask = stored.get(name)
            # Not a product: that would make NaN of a pruned infinity, and −0 of a negative weight.
            return array if mask is None else np.where(mask, array, np.zeros((), array.dtype))

        return read_masked

    @property
    def digest(self) -> str:
        """A digest of what is pruned."""
        digest = hashlib.sha256()
        for name, mask in sorted((self.stored or {}).items()):
            digest.update(f"{name} {mask.shape}\0".encode() + np.packbits(mask).tobytes())
        return digest.hexdigest()

    def names(self, model: Model) -> tuple[str, ...]:
        """Return the names of the tensors that can be pruned."""
        return tuple(n for n in _weights(model) if self.stored is None or n in self.stored)


NO_MASKS = Masks()


def open_masks(path: Path | None, model: Model) -> Masks:
    """Read the mask file of a model.

    Raises:
        InputError: it names tensors that the model has not, or of another shape, or its values are
            not 0 and 1.

    """
    if path is None:
        return NO_MASKS
    stored: dict[str, Mask] = {}
    with open_checkpoint(path) as file:
        for name, info in file.header.items():
            if name not in model.header:
                raise InputError(
                    f"{path}: '{name}' is no tensor of {model.checkpoint.path}"
                    f"{nearest(name, model.header)}; a mask has the name of the weights it prunes"
                )
            expected = model.header[name].shape
            if info.shape != expected:
                raise InputError(
                    f"{path}: '{name}' has the shape {list(info.shape)}, the weights of "
                    f"{model.checkpoint.path} have {list(expected)}"
                )
            stored[name] = _boolean(path, name, np.asarray(file.read(name)))
    return Masks(stored)


def _boolean(path: Path, name: str, values: Array) -> Mask:
    mask = values.astype(np.bool_)
    if values.dtype != np.bool_ and not np.array_equal(mask.astype(values.dtype), values):
        raise InputError(
            f"{path}: '{name}' has values other than 0 and 1; a mask is 1 for what stays"
        )
    return mask


def _weights(model: Model) -> Iterator[str]:
    for tensor in model.binding.tensors:
        for name in map(str, tensor.names.flat):
            info = model.header[name]
            if (
                not tensor.statistic
                and len(info.shape) >= WEIGHT_AXES
                and DTYPES[info.dtype].floating
            ):
                yield name


Kept = Mapping[str, Mask]
"""For each tensor that can be pruned, what is kept."""


def kept(
    model: Model, masks: Masks, names: tuple[str, ...], element: Element | None = None
) -> Kept:
    """Return what a model keeps of some tensors, in another numbering if an element is given."""

    def read(name: str) -> Array:
        if masks.stored is None:
            return np.asarray(model.read(name) != 0)
        mask = masks.stored.get(name)
        return np.ones(model.header[name].shape, np.bool_) if mask is None else mask

    moved = read if element is None else rearranged(model.binding, element, read)
    return {name: np.asarray(moved(name), np.bool_) for name in names}


@dataclass(frozen=True)
class Overlap:
    """Shares of weights: pruned in each model and in their mean, and kept by both of either."""

    a: float
    b: float
    merged: float
    shared: float


def overlap_of(a: Kept, b: Kept) -> Overlap:
    """Compare what two models keep.

    A weight of the mean is pruned where both models prune it. `shared` is 1 where nothing is kept.
    """
    total = sum(mask.size for mask in a.values())
    in_a, in_b = (sum(int(mask.sum()) for mask in masks.values()) for masks in (a, b))
    both = sum(int((a[name] & b[name]).sum()) for name in a)
    either = in_a + in_b - both
    pruned = [1 - count / total if total else 0.0 for count in (in_a, in_b, either)]
    return Overlap(pruned[0], pruned[1], pruned[2], both / either if either else 1.0)
