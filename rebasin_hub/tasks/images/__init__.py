"""Image classification: well-known data sets, and images of one's own in the usual formats.

Importing this package imports neither torch nor any reader of images.
"""

from rebasin_hub.tasks.images.task import NAMES, image_task

__all__ = ["NAMES", "image_task"]
