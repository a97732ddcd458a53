"""Measure whether several models, or two trainings, are linearly connected up to renumbering."""

from rebasin_hub.pipeline.connect.request import (
    STRATEGIES,
    ConnectPlan,
    ConnectRequest,
    TrajectoryPlan,
    TrajectoryRequest,
)
from rebasin_hub.pipeline.connect.run import connect_models, connect_trajectories

__all__ = [
    "STRATEGIES",
    "ConnectPlan",
    "ConnectRequest",
    "TrajectoryPlan",
    "TrajectoryRequest",
    "connect_models",
    "connect_trajectories",
]
