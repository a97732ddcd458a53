"""Merge checkpoints: bring them into one numbering, then combine tensor by tensor."""

from rebasin_hub.pipeline.merging.measured import Measured
from rebasin_hub.pipeline.merging.plan import Estimate, MergePlan, WeightGroup
from rebasin_hub.pipeline.merging.recipe import Recipe
from rebasin_hub.pipeline.merging.run import Merged, merge

__all__ = ["Estimate", "Measured", "MergePlan", "Merged", "Recipe", "WeightGroup", "merge"]
