"""Measure the loss on the plane through three models, naive and aligned to the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rebasin_hub.errors import InputError
from rebasin_hub.pipeline.barrier.ends import LETTERS, Aligned, Ends
from rebasin_hub.pipeline.barrier.measure import Job, Measurer
from rebasin_hub.rearrange import Read
from rebasin_hub.record.model import Numbering, PlaneRecord
from rebasin_hub.tensors import DTYPES

__all__ = ["Plane", "measure_plane", "plane_of"]

MARGIN = 0.25
"""How far the grid goes beyond the models, as a share of their extent."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plane:
    """Coordinates on the plane through A, B and C, in units of the weights' Frobenius norm.

    A is the origin, B lies on the x axis, C above it (Garipov et al. 2018, arXiv:1802.10026,
    figure 1).
    """

    b: float
    c: tuple[float, float]

    @property
    def corners(self) -> tuple[tuple[float, float], ...]:
        """Where A, B and C are."""
        return (0.0, 0.0), (self.b, 0.0), self.c

    def grid(self, points: int) -> tuple[Floats, Floats]:
        """Return x and y of a grid that holds the models with a margin."""
        xs, ys = ([corner[axis] for corner in self.corners] for axis in (0, 1))
        return _stretched(xs, points), _stretched(ys, points)

    def weights(self, x: float, y: float) -> tuple[float, float, float]:
        """Return the weights of A, B and C, with sum one, of the point at (x, y)."""
        c = y / self.c[1]
        b = (x - c * self.c[0]) / self.b
        return 1 - b - c, b, c


def plane_of(ends: Ends, reads: Sequence[Read]) -> Plane:
    """Return the plane through three models, from the tensors that aligning compares.

    Raises:
        InputError: two of them are equal, or all lie on a line.

    """
    products = np.zeros((2, 2))
    counted = [
        str(name)
        for tensor in ends.first.binding.tensors
        if not tensor.statistic
        for name in tensor.names.flat
        if DTYPES[ends.first.header[str(name)].dtype].floating
    ]
    for name in counted:
        a, *others = (np.asarray(read(name)).astype(np.float64).ravel() for read in reads)
        shifts = [other - a for other in others]
        products += [[float(p @ q) for q in shifts] for p in shifts]
    (bb, bc), (_, cc) = products
    rest = cc - bc**2 / bb if bb > 0 else 0.0
    if not rest > 1e-12 * cc:
        raise InputError(
            "the three models do not span a plane: two are equal, or all lie on one line; "
            "'barrier' without --plane measures lines"
        )
    return Plane(b=float(np.sqrt(bb)), c=(float(bc / np.sqrt(bb)), float(np.sqrt(rest))))


def _stretched(values: Sequence[float], points: int) -> Floats:
    low, high = min(values), max(values)
    margin = MARGIN * (high - low)
    return np.linspace(low - margin, high + margin, points)


def measure_plane(
    points: int, ends: Ends, aligned: Sequence[Aligned], measurer: Measurer
) -> dict[str, Any]:
    """Measure the plane through three models.

    Args:
        points: along each axis.
        ends: the three models.
        aligned: the second and the third one, each aligned to the first, or nothing.
        measurer: scores states; the first of its treatments is used.

    Returns what of a record tells of a plane.

    Raises:
        InputError: the models do not span a plane.

    """
    plain = [model.read for model in ends.models]
    planes = _planes(points, ends, measurer, "naive", plain)
    if aligned:
        moved = [plain[0], *(one.read for one in aligned)]
        planes += _planes(points, ends, measurer, "aligned", moved)
    return {"kind": "plane", "planes": planes}


def _planes(
    points: int, ends: Ends, measurer: Measurer, numbering: Numbering, reads: Sequence[Read]
) -> list[PlaneRecord]:
    plane = plane_of(ends, reads)
    xs, ys = plane.grid(points)
    corners = [measurer.network.state(read) for read in reads]
    name, treat = next(iter(measurer.treatments.run.items()))
    jobs = [
        [
            Job(
                name=f"plane {numbering} {name} {x!r} {y!r}",
                stage=f"measuring the plane, {numbering}",
                ends=corners,
                weights=plane.weights(float(x), float(y)),
                treat=treat,
            )
            for x in xs
        ]
        for y in ys
    ]
    found = measurer.run([job for row in jobs for job in row])
    return [
        PlaneRecord(
            numbering=numbering,
            treatment=name,
            split=split,
            x=xs.tolist(),
            y=ys.tolist(),
            loss=[[found[job.name][split].loss for job in row] for row in jobs],
            error=[[found[job.name][split].error for job in row] for row in jobs],
            corners=dict(zip(LETTERS, plane.corners, strict=True)),
        )
        for split in measurer.splits
    ]
