"""An embedded registry of models: SQLite and a content-addressed store, with nothing to set up."""

from rebasin_hub.registry.names import PREFIX, Reference, is_reference
from rebasin_hub.registry.place import VARIABLE, default_place
from rebasin_hub.registry.registry import Registry
from rebasin_hub.registry.results import Facts, FileFacts, Kept, Metric, Parent, ParentKind

__all__ = [
    "PREFIX",
    "VARIABLE",
    "Facts",
    "FileFacts",
    "Kept",
    "Metric",
    "Parent",
    "ParentKind",
    "Reference",
    "Registry",
    "default_place",
    "is_reference",
]
