"""Any ONNX graph that gives logits, run by onnxruntime on an .npz file of inputs and labels.

Importing this package imports neither onnx nor onnxruntime.
"""

from rebasin_hub.tasks.onnx.task import OnnxTask

__all__ = ["OnnxTask"]
