"""Samples that are held in memory as arrays: read from an .npz file, checked and drawn."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import InputError
from rebasin_hub.spec.check import nearest
from rebasin_hub.tasks.scoring import IGNORED
from rebasin_hub.tasks.task import Options, Split

__all__ = ["Array", "Samples", "as_classes", "check_range", "draw", "read_npz"]

Array: TypeAlias = NDArray[Any]

SPLITS = ("test", "train")
POSITIONS = 2
"""Axes of targets that are one class for each position of a sample."""


@dataclass(frozen=True, eq=False)
class Samples:
    """What is measured of a split, in stored order.

    inputs: arrays whose first axis is the sample, by name.
    targets: one for each sample.
    """

    split: Split
    inputs: Mapping[str, Array]
    targets: Array

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, size: int) -> Iterator[Samples]:
        """Yield all samples in their order, `size` at a time."""
        for start in range(0, len(self), size):
            part = slice(start, start + size)
            inputs = {name: array[part] for name, array in self.inputs.items()}
            yield Samples(self.split, inputs, self.targets[part])


def read_npz(
    path: Path, inputs: Mapping[str, str], labels: str
) -> dict[str, tuple[dict[str, Array], Array]]:
    """Read inputs and labels of each split from a NumPy archive.

    Args:
        path: an .npz file. It holds either arrays of the names below, which are a test split, or
            arrays of these names with `_test` and `_train` behind.
        inputs: from what each input is called to the name of its array.
        labels: the name of the array of targets.

    Returns:
        Of each split the inputs, by what they are called, and the targets.

    Raises:
        InputError: the file is damaged, holds Python objects, or lacks an array.

    """
    wanted = [*inputs.values(), labels]
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"{path}: is one array; expected an .npz of inputs and labels")
            splits = _splits(path, wanted, archive.files)
            return {
                split: (
                    {called: archive[name + end] for called, name in inputs.items()},
                    archive[labels + end],
                )
                for split, end in splits.items()
            }
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, MemoryError) as problem:
        told = getattr(problem, "strerror", None) or problem
        raise InputError(f"{path}: cannot be read as an .npz file ({told})") from problem


def _splits(path: Path, wanted: list[str], there: list[str]) -> dict[str, str]:
    """Return the splits that an archive holds, each with what stands behind its arrays' names."""
    ends = {"": "test", **{f"_{split}": split for split in SPLITS}}
    found = {end: split for end, split in ends.items() if {n + end for n in wanted} & {*there}}
    if "" in found and len(found) > 1:
        raise InputError(
            f"{path}: holds '{wanted[-1]}' and arrays with _test or _train behind; leave one out"
        )
    for name in (name + end for end in found or {"": "test"} for name in wanted):
        if name not in there:
            raise InputError(
                f"{path}: the array '{name}' is missing{nearest(name, there)}; the file holds "
                f"{', '.join(there) or 'nothing'}; name its arrays in the settings 'inputs' and "
                "'labels'"
            )
    return {split: end for end, split in found.items()}


def draw(
    name: str, inputs: Mapping[str, Array], targets: Array, source: str, options: Options
) -> Samples:
    """Check the samples of a split, and draw those that are measured.

    Args:
        name: of the split.
        inputs: by name; the first axis is the sample.
        targets: one for each sample.
        source: where they are from.
        options: `limit` of them are drawn with `seed`, without replacement.

    The split's digest is the SHA-256 over element type, shape and bytes of every input and of the
    targets.

    Raises:
        InputError: there are no samples, or not as many targets as inputs, or NaN or infinity.

    """
    arrays = {**inputs, "targets": targets}
    for what, array in arrays.items():
        if array.ndim == 0 or len(array) != len(targets):
            raise InputError(
                f"{source}: '{what}' of the {name} split has the shape {list(array.shape)}; "
                f"expected as many samples as there are targets, {len(np.atleast_1d(targets))}"
            )
        if array.dtype.kind not in "biuf":
            raise InputError(f"{source}: '{what}' holds {array.dtype}; expected numbers")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{source}: '{what}' holds NaN or infinity")
    available = len(targets)
    if available == 0:
        raise InputError(f"{source}: the {name} split has no samples")
    if options.limit is not None and options.limit < available:
        generator = np.random.default_rng(options.seed)
        drawn = np.sort(generator.choice(available, options.limit, replace=False))
        arrays = {what: array[drawn] for what, array in arrays.items()}
    targets = arrays.pop("targets")
    split = Split(name, len(targets), available, _digest([*arrays.values(), targets]), source)
    return Samples(split, arrays, targets)


def _digest(arrays: list[Array]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        digest.update(f"{little.dtype.str} {list(little.shape)}\n".encode())
        digest.update(little.data)
    return digest.hexdigest()


def as_classes(targets: Array, place: str) -> NDArray[np.int64]:
    """Return targets as int64 classes.

    Raises:
        InputError: they are no whole numbers, or have another shape than (samples,) or
            (samples, positions).

    """
    if targets.dtype.kind not in "iu" or not 1 <= targets.ndim <= POSITIONS:
        raise InputError(
            f"{place} is {targets.dtype} {list(targets.shape)}; expected one whole number for each "
            "sample, or for each position of each sample"
        )
    return targets.astype(np.int64)


def check_range(targets: NDArray[np.int64], logits: tuple[int, ...], place: str) -> None:
    """Hold classes against the shape of logits; the first axis of both is the sample.

    Raises:
        InputError: the shapes do not fit, or a class is out of range.

    """
    if len(logits) != targets.ndim + 1 or logits[1:-1] != targets.shape[1:]:
        expected = ", ".join(["samples", *map(str, targets.shape[1:]), "classes"])
        raise InputError(
            f"{place}: the network's output has the shape {list(logits)}; expected ({expected}), "
            "logits for each label"
        )
    classes = logits[-1]
    wrong = np.argwhere(((targets < 0) | (targets >= classes)) & (targets != IGNORED))
    if len(wrong):
        found = targets[tuple(wrong[0])]
        raise InputError(
            f"{place}: sample {wrong[0][0]} has the label {found}, the network {classes} classes "
            f"(0 to {classes - 1}); {len(wrong)} labels are out of range"
        )
