"""A spec from a graph: which axes can be renumbered together, found by following every operator.

Front ends (`exported`, `onnx_graph`) give a neutral graph; `run_rules` lets labels flow through its
operators; `find_layout` sums up what stands on the axes of the stored tensors; `infer_spec` writes
that as a spec and certifies it on a running model.
"""

from rebasin_hub.infer.certify import Certificate, Inferred, Runner, Trial, infer_spec
from rebasin_hub.infer.flow import Flow, run_rules
from rebasin_hub.infer.graph import Graph, Node, Stored
from rebasin_hub.infer.layout import Fixed, Group, Layout, find_layout

__all__ = [
    "Certificate",
    "Fixed",
    "Flow",
    "Graph",
    "Group",
    "Inferred",
    "Layout",
    "Node",
    "Runner",
    "Stored",
    "Trial",
    "find_layout",
    "infer_spec",
    "run_rules",
]
