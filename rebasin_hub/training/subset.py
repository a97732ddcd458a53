"""Which images a network sees, and with which labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import InputError

__all__ = ["Half", "Subset"]

Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Half:
    """One of two halves of a data set that favour different classes.

    Of each class in `favoured` a share of `share` goes to half 0 and the rest to half 1; of all
    other classes the other way around. The two halves have no image in common, and together all.
    A share of 1 splits by class.
    """

    number: int
    favoured: tuple[int, ...]
    share: float = 0.8


@dataclass(frozen=True)
class Subset:
    """A part of a training split: `classes`, then a `half`, then the `first` so many images.

    classes: labels that stay, as they are; all of them by default.
    noise: share of the images that are left whose label is drawn anew from the classes that are
        left, each as likely, its own among them.
    seed: draws the halves and the noise; both halves of one seed belong together.
    """

    classes: tuple[int, ...] | None = None
    half: Half | None = None
    first: int | None = None
    noise: float = 0.0
    seed: int = 0

    def choose(self, labels: Labels) -> tuple[NDArray[np.int64], Labels]:
        """Return the indices of the images that stay, rising, and their labels.

        Raises:
            InputError: nothing is left, or a share is not between 0 and 1.

        """
        self._check()
        kept = np.ones(len(labels), bool)
        if self.classes is not None:
            kept &= np.isin(labels, self.classes)
        if self.half is not None:
            kept &= _half(labels, self.half, self.seed)
        indices = np.flatnonzero(kept)[: self.first]
        if len(indices) == 0:
            raise InputError(f"{self} leaves none of {len(labels)} images; choose other classes")
        return indices.astype(np.int64), self._noisy(labels[indices])

    def _check(self) -> None:
        shares = {"noise": self.noise, "share": self.half.share if self.half else 0.0}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise InputError(f"the subset's {name} is {value}; expected a number from 0 to 1")
        if self.half is not None and self.half.number not in {0, 1}:
            raise InputError(f"the half's number is {self.half.number}; expected 0 or 1")
        if self.first is not None and self.first < 1:
            raise InputError(f"the subset's first is {self.first}; expected 1 or more")

    def _noisy(self, labels: Labels) -> Labels:
        if not self.noise:
            return labels
        rng = np.random.default_rng([self.seed, 1])
        wrong = rng.permutation(len(labels))[: round(self.noise * len(labels))]
        noisy = labels.copy()
        noisy[wrong] = rng.choice(np.unique(labels), len(wrong))
        return noisy


def _half(labels: Labels, half: Half, seed: int) -> NDArray[np.bool_]:
    """Deal each class's images, in an order that the seed draws."""
    rng = np.random.default_rng([seed, 0])
    first = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        of_class = rng.permutation(np.flatnonzero(labels == label))
        share = half.share if label in half.favoured else 1 - half.share
        first[of_class[: round(share * len(of_class))]] = True
    return first if half.number == 0 else ~first
