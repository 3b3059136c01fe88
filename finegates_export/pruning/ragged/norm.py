"""RMSNorm over a head's remaining dims (Qwen3's norms after Q and K).

    y = w x / sqrt(sum(x^2) / d + eps)

Dims that are always zero do not change the sum; the mean over fewer dims is larger by d / d', which
`w sqrt(d / d')` and `eps d / d'` undo.

Shapes: q remaining dims of a head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from finegates_export.pruning.plan import Dims

if TYPE_CHECKING:
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm


class RaggedNorm(nn.Module):
    """See above.

    Args:
        weight_q: scale of the normalised dims.
        eps: added to the mean square.
    """

    def __init__(self, weight_q: Tensor, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight_q, requires_grad=False)
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as the input, (..., q); the mean is taken in float32."""
        exact = x.float()
        scaled = exact * torch.rsqrt(exact.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * scaled.to(x.dtype)


def slice_norm(norm: Qwen3RMSNorm, dims: Dims) -> RaggedNorm:
    """A norm over the chosen dims, for inputs that are zero in all others.

    Args:
        norm: for its `weight` and `variance_epsilon`.
        dims: the kept dims, by old numbers.
    """
    weight = norm.weight.detach()
    grown = len(weight) / len(dims)
    return RaggedNorm(weight[list(dims)] * grown**0.5, norm.variance_epsilon * grown)
