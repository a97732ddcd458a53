"""What methods may ask of the network that runs the models, and of its data.

Weights alone tell nothing of the inputs that a network sees. Methods that want to know are given
an `Evidence`; who makes one stands above this package.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.bind.axes import BoundAxis
from rebasin_hub.rearrange import Read

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Batch", "Evidence", "Features"]

Batch: TypeAlias = Any
"""Samples with their targets, on the device; only its `len`, the samples, is for methods."""


@dataclass(frozen=True, eq=False)
class Features:
    """Moments of what two models compute at one place of the network, from the same samples.

    label: the place, for people.
    axis: how the n features are numbered, in both models each in its own numbering.
    readers: tensors that multiply these features, each with its axis that does.
    writers: tensors that compute them, each with its output axis.
    count: the observations: samples, times positions where features have some.
    mean_a, mean_b: (n,) float64.
    cross: (n, n) float64, the covariance of each feature of A (rows) with each of B (columns).
    variance_a, variance_b: (n,) float64.
    within_a, within_b: (n, n) float64, the covariances inside each model, where asked for.
    """

    label: str
    axis: BoundAxis
    readers: tuple[tuple[str, int], ...]
    writers: tuple[tuple[str, int], ...]
    count: int
    mean_a: NDArray[np.float64]
    mean_b: NDArray[np.float64]
    cross: NDArray[np.float64]
    variance_a: NDArray[np.float64]
    variance_b: NDArray[np.float64]
    within_a: NDArray[np.float64] | None = None
    within_b: NDArray[np.float64] | None = None


class Evidence(Protocol):
    """A runnable network with the samples that a search may look at.

    These are samples for training where the task has them; never those that a barrier is measured
    on, unless there are no others (`notes` says so).
    """

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know, in whole sentences."""

    @property
    def loss_name(self) -> str:
        """What `loss` is, for people: `cross-entropy (train)`."""

    def features(
        self, read_a: Read, read_b: Read, *, samples: int, seed: int, within: bool = False
    ) -> tuple[Features, ...]:
        """Run both models on the same samples and return the moments of their features.

        Args:
            read_a: reads the reference.
            read_b: reads the model, in its own numbering.
            samples: at most so many, drawn with `seed`.
            seed: of the choice.
            within: whether the covariances inside each model are wanted too.

        Batches are streamed, sums are made in float64; every permutation of the binding that has
        a place with features appears on the axis of one of them.

        Raises:
            InputError: the network cannot be looked into.
            NotFiniteError: a model computes NaN or infinity.

        """

    def tensors(self, read: Read) -> dict[str, Tensor]:
        """Read a model onto the device: by the checkpoint's names, floats as float32."""

    def minibatches(self, size: int, seed: int) -> Iterator[Batch]:
        """Yield batches without end: epochs of the samples, each in an order that `seed` draws."""

    def fixed(self, samples: int) -> Sequence[Batch]:
        """Return the same samples in every call, at most so many, to compare losses on."""

    def loss(self, tensors: Mapping[str, Tensor], batch: Batch) -> Tensor:
        """Return the mean loss of a batch, a scalar that can be differentiated.

        BatchNorm normalizes by the batch's own statistics, as in training: stored ones are wrong
        for a model between two others. `tensors` are not changed.
        """
