"""Check every renumbered tensor before it is written."""

from __future__ import annotations

from rebasin_hub.digest import tensor_digest
from rebasin_hub.errors import ProofError
from rebasin_hub.permute import Element
from rebasin_hub.pipeline.models import Model
from rebasin_hub.rearrange import Array, gather, plan, same_after

__all__ = ["Prover"]


class Prover:
    """Reads a model renumbered, and proves each tensor as it makes it.

    The inverse element, computed by itself, must lead every renumbered tensor back to the stored
    bits. Together with the element being one of the binding's group, and the group being one that
    keeps the function (`spec prove`), this is the proof that the function is unchanged.

    `sources` collects the SHA-256 of each stored tensor's bytes on the way. Several threads may
    read different tensors at a time.
    """

    def __init__(self, model: Model, element: Element) -> None:
        self.sources: dict[str, str] = {}
        self._model = model
        self._there = plan(model.binding, element)
        self._back = plan(model.binding, model.binding.group.invert(element))

    def __call__(self, name: str) -> Array:
        """Return one renumbered tensor.

        Raises:
            ProofError: it does not lead back.

        """
        step = self._there[name]
        back = self._back[step.source]
        stored = self._model.read(step.source)
        dtype = self._model.header[step.source].dtype
        self.sources[step.source] = tensor_digest(stored, dtype)
        renumbered = gather(step.index, stored)
        if back.source != name or not same_after(back.index, renumbered, stored):
            raise ProofError(
                f"'{name}': the inverse permutation does not lead back to '{step.source}'; nothing "
                "was written. This is a defect of rebasin-hub: please report it with the spec"
            )
        return renumbered

    def cost(self, name: str) -> int:
        """Return the bytes in memory while a tensor is made: as stored, and renumbered."""
        return 2 * self._model.header[name].nbytes
