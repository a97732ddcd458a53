"""One self-contained interactive HTML page that shows a record."""

from rebasin_hub.report.html.page import html_report, save_html

__all__ = ["html_report", "save_html"]
