"""Loss barriers: how much the loss rises on the straight line between two models."""

from rebasin_hub.barrier.curve import POINTS, Curve, grid, removed
from rebasin_hub.barrier.scores import TEMPERATURES, Scores, joined

__all__ = ["POINTS", "TEMPERATURES", "Curve", "Scores", "grid", "joined", "removed"]
