"""What a spec means: its permutations, its lines, and the languages that these are written in."""

from rebasin_hub.spec.model import Ignore, Line, Permutation, Spec

__all__ = ["Ignore", "Line", "Permutation", "Spec"]
