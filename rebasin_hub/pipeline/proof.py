"""Check every renumbered tensor before it is written."""

from __future__ import annotations

import hashlib

from rebasin_hub.bind import Binding
from rebasin_hub.errors import ProofError
from rebasin_hub.formats.raw import bytes_of
from rebasin_hub.permute import Element
from rebasin_hub.rearrange import Array, Read, gather, plan, same_after

__all__ = ["Prover"]


class Prover:
    """Reads a checkpoint renumbered, and proves each tensor as it makes it.

    The inverse element, computed by itself, must lead every renumbered tensor back to the stored
    bits. Together with the element being one of the binding's group, and the group being one that
    keeps the function (`spec prove`), this is the proof that the function is unchanged.

    `sources` collects the SHA-256 of each stored tensor's bytes on the way.
    """

    def __init__(self, binding: Binding, element: Element, read: Read) -> None:
        self.sources: dict[str, str] = {}
        self._header = binding.header
        self._there = plan(binding, element)
        self._back = plan(binding, binding.group.invert(element))
        self._read = read

    def __call__(self, name: str) -> Array:
        """Return one renumbered tensor.

        Raises:
            ProofError: it does not lead back.

        """
        step = self._there[name]
        back = self._back[step.source]
        stored = self._read(step.source)
        self.sources[step.source] = hashlib.sha256(
            bytes_of(stored, self._header[step.source].dtype)
        ).hexdigest()
        renumbered = gather(step.index, stored)
        if back.source != name or not same_after(back.index, renumbered, stored):
            raise ProofError(
                f"'{name}': the inverse permutation does not lead back to '{step.source}'; nothing "
                "was written. This is a defect of rebasin-hub: please report it with the spec"
            )
        return renumbered
