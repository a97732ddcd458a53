"""Prune a checkpoint by magnitude, and keep the masks. Importing this module imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rebasin_hub.errors import InputError
from rebasin_hub.formats import open_checkpoint, save_safetensors
from rebasin_hub.formats.checkpoint import Checkpoint

__all__ = ["load_masks", "prune"]

WEIGHT_AXES = 2
"""Tensors of at least so many axes are pruned; biases, norms and statistics are not."""


def prune(path: Path, output: Path, *, share: float, before: Path | None = None) -> float:
    """Write the masks that keep all but the smallest weights of a checkpoint.

    The smallest `share` of the weights that are left, by magnitude over all tensors of two or more
    axes together, are pruned (Frankle and Carbin, arXiv:1803.03635). Ties go by the tensors' names
    and then by position.

    Args:
        path: the checkpoint.
        output: a safetensors file with the checkpoint's names and shapes, BOOL, true for what
            stays; spec commands renumber it like the checkpoint.
        share: from 0 to 1, of what `before` has left.
        before: the masks of an earlier round; nothing was pruned by default.

    Returns the share of all prunable weights that is left.

    Raises:
        InputError: the share is out of range, a weight is not finite, or the masks do not fit.
        OutputError: `output` exists already or cannot be written.

    """
    if not 0 <= share <= 1:
        raise InputError(f"the share to prune is {share}; expected a number from 0 to 1")
    with open_checkpoint(path) as checkpoint:
        masks = {n: np.ones(info.shape, bool) for n, info in checkpoint.header.items()}
        if before is not None:
            masks |= _earlier(before, checkpoint)
        names = sorted(n for n in masks if masks[n].ndim >= WEIGHT_AXES)
        sizes = np.concatenate([_magnitudes(checkpoint, n) for n in names] or [np.empty(0)])
    alive = np.concatenate([masks[n].ravel() for n in names] or [np.empty(0, bool)])
    if not np.isfinite(sizes).all():
        raise InputError(f"{path}: has weights that are NaN or infinite; they cannot be ranked")
    left = np.flatnonzero(alive)
    smallest = left[np.argsort(sizes[left], kind="stable")[: round(share * len(left))]]
    alive[smallest] = False
    ends = np.cumsum([masks[n].size for n in names])[:-1]
    for name, part in zip(names, np.split(alive, ends), strict=True):
        masks[name] = part.reshape(masks[name].shape)
    save_safetensors(output, masks)
    return float(alive.mean()) if len(alive) else 1.0


def load_masks(path: Path) -> dict[str, Tensor]:
    """Read masks, of which those that prune nothing are left out.

    Raises:
        InputError: the file holds something else than booleans.

    """
    with open_checkpoint(path) as checkpoint:
        masks = {name: checkpoint.read(name) for name in checkpoint.header}
    for name, mask in masks.items():
        if mask.dtype != np.bool_:
            raise InputError(f"{path}: '{name}' is {mask.dtype}, masks are boolean")
    return {n: torch.from_numpy(m.copy()) for n, m in masks.items() if not m.all()}


def _earlier(path: Path, checkpoint: Checkpoint) -> Mapping[str, NDArray[np.bool_]]:
    with open_checkpoint(path) as masks:
        for name, info in checkpoint.header.items():
            if name not in masks.header or masks.header[name].shape != info.shape:
                raise InputError(f"{path}: is no mask of {checkpoint.path}: '{name}' differs")
        return {name: np.array(masks.read(name), bool) for name in checkpoint.header}


def _magnitudes(checkpoint: Checkpoint, name: str) -> NDArray[np.float64]:
    return np.abs(np.asarray(checkpoint.read(name)).astype(np.float64)).ravel()
