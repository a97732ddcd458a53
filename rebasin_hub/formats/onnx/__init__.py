"""ONNX models as checkpoints: their weights read and written in place, the graph left alone."""

from rebasin_hub.formats.onnx.checkpoint import OnnxCheckpoint
from rebasin_hub.formats.onnx.external import find_file
from rebasin_hub.formats.onnx.write import data_files, write_onnx

__all__ = [
    "OnnxCheckpoint",
    "data_files",
    "find_file",
    "write_onnx",
]
