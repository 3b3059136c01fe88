"""A model without a head: the encoder under its name in task models, and its sentence embedding.

The paths of all weights are those of the family's task models, so gates, adapters and plans work unchanged.

Shapes: B rows, S tokens, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from finegates_export.common.tasks.pooling import SMALLEST_NORM, Pooling


@dataclass(frozen=True)
class EncoderOutput:
    """The output of an `EncoderModel`."""

    last_hidden_state: Tensor
    """Shape (B, S, D)."""
    sentence_embedding: Tensor | None
    """Shape (B, D); None without a pooling."""


class EncoderModel(nn.Module):
    """An encoder under `prefix`, with or without pooling after it.

    Args:
        encoder: a base model of transformers, without a pooler.
        prefix: the attribute to hold it under.
        pooling: how to make the sentence embedding; None for only the hidden state.
    """

    def __init__(self, encoder: nn.Module, prefix: str, pooling: Pooling | None) -> None:
        super().__init__()
        self.add_module(prefix, encoder)
        self.prefix = prefix
        self.pooling = pooling
        self.config = encoder.config
        self.name_or_path = encoder.name_or_path

    def forward(self, **inputs: Tensor) -> EncoderOutput:
        """Run the encoder on its named inputs."""
        hidden_BSD: Tensor = self.get_submodule(self.prefix)(**inputs)[0]
        if self.pooling is None:
            return EncoderOutput(hidden_BSD, None)
        mask_BS = inputs.get("attention_mask", torch.ones_like(hidden_BSD[..., 0]))
        return EncoderOutput(hidden_BSD, pool_tokens(hidden_BSD, mask_BS, self.pooling))


def pool_tokens(hidden_BSD: Tensor, mask_BS: Tensor, pooling: Pooling) -> Tensor:
    """Sentence embeddings of shape (B, D); `pooling.pool` in torch."""
    if pooling.mode == "cls":
        pooled_BD = hidden_BSD[:, 0]
    else:
        weight_BS1 = mask_BS.unsqueeze(-1).to(hidden_BSD.dtype)
        pooled_BD = (hidden_BSD * weight_BS1).sum(1) / weight_BS1.sum(1).clamp(min=1)
    return nn.functional.normalize(pooled_BD, dim=-1, eps=SMALLEST_NORM) if pooling.normalize else pooled_BD
