"""Where reading, computing and the Hub meet: inputs from it, publishing, pulling, auditing."""

from rebasin_hub.pipeline.hub.audit import Audit, Check, audit
from rebasin_hub.pipeline.hub.inputs import headers_of, on_hub, resolve, resolve_all
from rebasin_hub.pipeline.hub.publish import Publication, push, written_card
from rebasin_hub.pipeline.hub.pull import Pulled, pull

__all__ = [
    "Audit",
    "Check",
    "Publication",
    "Pulled",
    "audit",
    "headers_of",
    "on_hub",
    "pull",
    "push",
    "resolve",
    "resolve_all",
    "written_card",
]
