"""Loss barriers: how much the loss rises on the straight line between two models."""

from rebasin_hub.barrier.bootstrap import DRAWS, Interval, Resampled, resampled
from rebasin_hub.barrier.curve import POINTS, Curve, entezari, frankle, grid
from rebasin_hub.barrier.scores import TEMPERATURES, Scores, joined
from rebasin_hub.barrier.temperature import calibrated

__all__ = [
    "DRAWS",
    "POINTS",
    "TEMPERATURES",
    "Curve",
    "Interval",
    "Resampled",
    "Scores",
    "calibrated",
    "entezari",
    "frankle",
    "grid",
    "joined",
    "resampled",
]
