"""Records of what was measured, and their JSON Schema."""

from rebasin_hub.record.model import Record

__all__ = ["Record"]
