"""`rebasin-hub demo`: two small networks from training to merge, with data that sklearn ships."""

from rebasin_hub.demo.run import run_demo

__all__ = ["run_demo"]
