"""Canonical order: the same numbering for every renumbered copy of a model."""

from rebasin_hub.canonical.canonical import Canonical, canonical_order

__all__ = ["Canonical", "canonical_order"]
