"""Check every renumbered tensor before it is written."""

from __future__ import annotations

from rebasin_hub.digest import digest_of, tensor_digest
from rebasin_hub.errors import ProofError
from rebasin_hub.permute import Element
from rebasin_hub.pipeline.models import Model
from rebasin_hub.rearrange import Array, gather, plan, same_after

__all__ = ["Prover"]


class Prover:
    """Reads a model renumbered, and proves each tensor as it makes it.

    The inverse element, computed by itself, must lead every renumbered tensor back to the stored
    bits. Together with the element being one of the binding's group, and the group being one that
    keeps the function (`spec prove`), this is the proof that the function is unchanged. Where a
    result was promised, its digest must come out before the last tensor is handed over.

    `sources` collects the SHA-256 of each stored tensor's bytes on the way.
    """

    def __init__(self, model: Model, element: Element, expected: str | None = None) -> None:
        self.sources: dict[str, str] = {}
        self._model = model
        self._there = plan(model.binding, element)
        self._back = plan(model.binding, model.binding.group.invert(element))
        self._expected = expected
        self._results: dict[str, str] = {}

    def __call__(self, name: str) -> Array:
        """Return one renumbered tensor.

        Raises:
            ProofError: it does not lead back, or the result is not the promised one.

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
        if self._expected is not None:
            self._results[name] = tensor_digest(renumbered, dtype)
            self._check_result()
        return renumbered

    def _check_result(self) -> None:
        header, tied = self._model.header, self._model.checkpoint.tied
        if not header.keys() - tied.keys() <= self._results.keys():
            return
        digest = digest_of(header, self._results, tied)
        if digest != self._expected:
            raise ProofError(
                f"the permutations lead to model {digest[:12]}, their file promises "
                f"{str(self._expected)[:12]}; the file was changed, and nothing was written"
            )
