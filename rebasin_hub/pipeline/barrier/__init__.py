"""Measure loss barriers: lines between two models, and planes through three."""

from rebasin_hub.pipeline.barrier.request import TREATMENTS, BarrierPlan, Request
from rebasin_hub.pipeline.barrier.run import measure_barrier

__all__ = ["TREATMENTS", "BarrierPlan", "Request", "measure_barrier"]
