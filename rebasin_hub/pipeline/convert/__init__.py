"""Convert checkpoints: to other formats, element types, shards, ties and layouts."""

from rebasin_hub.pipeline.convert.cast import Cast
from rebasin_hub.pipeline.convert.plan import Wish
from rebasin_hub.pipeline.convert.run import ConversionPlan, Converted, convert

__all__ = ["Cast", "ConversionPlan", "Converted", "Wish", "convert"]
