"""The Hugging Face Hub: names of models there, reading them, and publishing in one commit."""

from rebasin_hub.hub.reference import HubReference, name_of

__all__ = ["HubReference", "name_of"]
