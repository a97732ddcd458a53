"""Records of what was measured, their files, and their JSON Schema."""

from rebasin_hub.record.files import load, save
from rebasin_hub.record.model import Record

__all__ = ["Record", "load", "save"]
