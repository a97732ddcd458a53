"""What a network computes on its task's data, for the methods of aligning that look at it.

`evidence_of` makes the `Evidence` of a network. Importing this package imports torch.
"""

from rebasin_hub.evidence.network import NetworkEvidence, evidence_of

__all__ = ["NetworkEvidence", "evidence_of"]
