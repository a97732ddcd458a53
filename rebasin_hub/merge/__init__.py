"""Combine the same tensor of several models: methods, and the weights of each tensor.

Every method keeps one law: models that are equal bit for bit give themselves back, bit for bit,
as long as their weights sum to one. So a model that is merged with a renumbered copy of itself,
once aligned, is unchanged.
"""

from rebasin_hub.merge.blend import clashes, combine, is_floating, no_mean, overflowed
from rebasin_hub.merge.methods import METHODS, Blend, Parts, Prepare, check, linear, slerp
from rebasin_hub.merge.rounding import all_finite
from rebasin_hub.merge.shares import balanced
from rebasin_hub.merge.weighting import Rule, Setting, Weighting, depths, normalized

__all__ = [
    "METHODS",
    "Blend",
    "Parts",
    "Prepare",
    "Rule",
    "Setting",
    "Weighting",
    "all_finite",
    "balanced",
    "check",
    "clashes",
    "combine",
    "depths",
    "is_floating",
    "linear",
    "no_mean",
    "normalized",
    "overflowed",
    "slerp",
]
