"""How labels flow through operators: one rule for each, in one table."""

from rebasin_hub.infer.rules import (
    attention,
    choosing,
    contraction,
    loops,
    pointwise,
    quantized,
    recurrent,
    reduction,
    reshaping,
    scattering,
    slicing,
    spatial,
)
from rebasin_hub.infer.rules.table import RULES, rule

__all__ = [
    "RULES",
    "attention",
    "choosing",
    "contraction",
    "loops",
    "pointwise",
    "quantized",
    "recurrent",
    "reduction",
    "reshaping",
    "rule",
    "scattering",
    "slicing",
    "spatial",
]
