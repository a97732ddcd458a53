"""Run two models side by side and keep the moments of their features, batch by batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from rebasin_hub.align.evidence import Features
from rebasin_hub.errors import NotFiniteError
from rebasin_hub.evidence.moments import JointMoments
from rebasin_hub.evidence.places import Place, hooked
from rebasin_hub.evidence.ports import Port
from rebasin_hub.repair.watch import mask_fits, padding_mask
from rebasin_hub.tasks.network import Batch, TorchNetwork

__all__ = ["streamed"]


def streamed(
    network: TorchNetwork,
    inner_a: Mapping[str, Tensor],
    inner_b: Mapping[str, Tensor],
    places: Sequence[Place],
    batches: Iterable[Batch],
    *,
    within: bool,
) -> tuple[list[Features], list[Place]]:
    """Return the features of two models on the same batches, and the places that have none.

    Args:
        network: in evaluation mode.
        inner_a: the reference's weights, by the module's own names.
        inner_b: the model's.
        places: where to read; a place that the models reach with different samples, as behind a
            router, has nothing to compare.
        batches: samples; targets are not looked at.
        within: whether to keep the covariances inside each model.

    The activations of one model for one batch are held at a time.

    Raises:
        NotFiniteError: a model computes NaN or infinity.

    """
    stream = _Stream(places, within=within)
    with hooked(network.module, list(stream.by_port), stream.see):
        for stored in batches:
            batch = stored.to(network.device)
            stream.mask = padding_mask(batch)
            for stream.first, inner in ((True, inner_a), (False, inner_b)):
                network.forward(inner, batch)
            stream.end_batch()
    lost = [place for place in places if place in stream.lost or not stream.moments[place].count]
    features = [_features(place, stream.moments[place]) for place in places if place not in lost]
    return features, lost


class _Stream:
    """What the hooks share: A's features of the present batch, and the moments."""

    def __init__(self, places: Sequence[Place], *, within: bool) -> None:
        self.by_port: dict[tuple[str, Port], list[Place]] = {}
        for place in places:
            self.by_port.setdefault((place.module, place.port), []).append(place)
        self.moments = {place: JointMoments(within=within) for place in places}
        self.waiting: dict[Place, deque[Tensor]] = {place: deque() for place in places}
        self.lost: set[Place] = set()
        self.first = True
        self.mask: Tensor | None = None

    def see(self, module: str, port: Port, value: Tensor) -> None:
        mask = self.mask if port.channels == -1 and mask_fits(self.mask, value) else None
        for place in self.by_port[module, port]:
            if place in self.lost:
                continue
            features = place.features(value, mask)
            if features is None:
                self.lost.add(place)
            elif self.first:
                self.waiting[place].append(features)
            else:
                self._pair(place, features)

    def _pair(self, place: Place, features: Tensor) -> None:
        other = self.waiting[place].popleft() if self.waiting[place] else None
        if other is None or other.shape != features.shape:
            self.lost.add(place)
        else:
            self.moments[place].add(other, features)

    def end_batch(self) -> None:
        """Give up places that A reached more often than B."""
        for place, waiting in self.waiting.items():
            if waiting:
                self.lost.add(place)
                waiting.clear()


def _features(place: Place, moments: JointMoments) -> Features:
    count = moments.count
    mean_a, mean_b = _numpy(moments.mean_a), _numpy(moments.mean_b)
    cross, squares_a, squares_b = (
        _numpy(x) / count for x in (moments.cross, moments.squares_a, moments.squares_b)
    )
    finite = {
        "reference": np.isfinite(squares_a).all() and np.isfinite(mean_a).all(),
        "model": np.isfinite(squares_b).all() and np.isfinite(mean_b).all(),
    }
    for which, is_finite in finite.items():
        if not is_finite:
            raise NotFiniteError(
                f"the {which} computes NaN or infinity on these samples, first seen at the "
                f"{place.label}; look at its weights, or at the task's inputs"
            )
    within = moments.within
    return Features(
        label=place.label,
        axis=place.axis,
        readers=place.readers,
        writers=place.writers,
        count=count,
        mean_a=mean_a,
        mean_b=mean_b,
        cross=cross,
        variance_a=np.diagonal(squares_a).copy() if within else squares_a,
        variance_b=np.diagonal(squares_b).copy() if within else squares_b,
        within_a=squares_a if within else None,
        within_b=squares_b if within else None,
    )


def _numpy(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.cpu().numpy()
