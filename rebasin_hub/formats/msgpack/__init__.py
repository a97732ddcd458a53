"""Trees of arrays in MessagePack, as `flax.serialization` writes them (.msgpack)."""

from rebasin_hub.formats.msgpack.checkpoint import MsgpackCheckpoint
from rebasin_hub.formats.msgpack.write import check_msgpack, write_msgpack

__all__ = ["MsgpackCheckpoint", "check_msgpack", "write_msgpack"]
