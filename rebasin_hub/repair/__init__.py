"""Repair of what interpolation breaks: the statistics of each channel in the middle of a network.

`recomputed` measures BatchNorm's running statistics anew. `repaired` is REPAIR (Jordan et al.,
arXiv:2211.08403): it gives each channel the mean and the deviation that the ends have on average,
and leaves an ordinary checkpoint. Neither looks at labels. Importing this package imports torch.
"""

from rebasin_hub.repair.batches import StatisticsBatches, statistics_batches
from rebasin_hub.repair.correct import Targets, measure, repaired
from rebasin_hub.repair.layers import Layer, layers
from rebasin_hub.repair.moments import Channels, Moments
from rebasin_hub.repair.statistics import recomputed

__all__ = [
    "Channels",
    "Layer",
    "Moments",
    "StatisticsBatches",
    "Targets",
    "layers",
    "measure",
    "recomputed",
    "repaired",
    "statistics_batches",
]
