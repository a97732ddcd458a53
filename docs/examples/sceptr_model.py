"""A small SCEPTR for `prove_spec`: the tensor names and the function of libtcrlm's, new code."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

LAYERS = "_self_attention_stack._standard_stack._self_attention_stack"


class Sceptr(nn.Module):
    """Map features (batch, tokens, features) to masked-token logits and distances.

    The first token stands for the receptor: the last layer's output there, normalized to length
    one, is its vector. What SCEPTR is used for are the distances between such vectors.
    """

    def __init__(
        self, *, features: int, width: int, heads: int, feedforward: int, layers: int
    ) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(width, heads, feedforward, batch_first=True)
        stack, standard = nn.Module(), nn.Module()
        standard._self_attention_stack = nn.TransformerEncoder(
            layer, layers, enable_nested_tensor=False
        )
        stack._initial_projector = nn.Linear(features, width, bias=False)
        stack._standard_stack = standard
        self._self_attention_stack = stack
        self._mlm_token_prediction_projector = nn.Module()
        self._mlm_token_prediction_projector.projector = nn.Linear(width, 20)

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        """Return `logits` (batch, tokens, 20) and `distances` (batch, batch)."""
        stream = self.get_submodule("_self_attention_stack._initial_projector")(features)
        stream = self.get_submodule(LAYERS)(stream)
        vectors = functional.normalize(stream[:, 0], dim=1)
        return {
            "logits": self.get_submodule("_mlm_token_prediction_projector.projector")(stream),
            "distances": torch.cdist(vectors, vectors),
        }


def build() -> tuple[nn.Module, Tensor]:
    """Return a model with sizes that differ from one another, and random inputs."""
    model = Sceptr(features=7, width=15, heads=3, feedforward=17, layers=2)
    return model, torch.randn(4, 6, 7, generator=torch.Generator().manual_seed(0))
