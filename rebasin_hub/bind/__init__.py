"""Bind a spec to the header of a checkpoint."""

from rebasin_hub.bind.binder import Binding, bind

__all__ = ["Binding", "bind"]
