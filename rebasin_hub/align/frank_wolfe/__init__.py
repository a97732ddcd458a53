"""Frank-Wolfe on soft numberings: all permutations move together."""

from rebasin_hub.align.frank_wolfe.search import FrankWolfeSettings, frank_wolfe

__all__ = ["FrankWolfeSettings", "frank_wolfe"]
