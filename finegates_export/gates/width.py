"""The width gate's norm: statistics over the open dims, so that the others can be removed.

Closing a dim of the residual stream changes what LayerNorm divides by; with the statistics taken over the open dims,
in training as in evaluation, the narrower model's ordinary LayerNorm computes the same.

Shapes: B batch, S sequence, D residual width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def norm_over_open_dims(x_BSD: Tensor, norm: nn.LayerNorm, open_D: Tensor) -> Tensor:
    """LayerNorm over the open dims; closed dims are left at the norm's bias, for the gate to close.

    Args:
        x_BSD: the norm's input; any number of leading axes.
        norm: for its affine parameters and eps.
        open_D: the dims that count.
    """
    kept_D = open_D.to(x_BSD.dtype)
    count = kept_D.sum().clamp(min=1.0)
    mean = (x_BSD * kept_D).sum(-1, keepdim=True) / count
    centred = (x_BSD - mean) * kept_D
    variance = centred.square().sum(-1, keepdim=True) / count
    y_BSD = centred * torch.rsqrt(variance + norm.eps) * norm.weight
    return y_BSD if norm.bias is None else y_BSD + norm.bias


class OpenDimsNorm(nn.Module):
    """A folded norm of a model with gated width: the affine parameters include the gate.

    Args:
        norm: gate folded in.
        open_D: the dims that its statistics use.
    """

    open_D: Tensor  # noqa: N815  # a shape suffix

    def __init__(self, norm: nn.LayerNorm, open_D: Tensor) -> None:
        super().__init__()
        self.norm = norm
        self.register_buffer("open_D", open_D)

    def forward(self, x_BSD: Tensor) -> Tensor:
        """Same shape as the input."""
        return norm_over_open_dims(x_BSD, self.norm, self.open_D)
