"""Records of connectivity as text, which importing it registers, as a page, and as a picture."""

from rebasin_hub.report.connect import text as _text  # noqa: F401 - registers how it is printed
from rebasin_hub.report.connect.save import save_connect_report

__all__ = ["save_connect_report"]
