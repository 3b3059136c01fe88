"""GPT-2: pre-norm LayerNorm, fused c_attn, learned positions (Radford et al., 2019).

Its linears are stored transposed, as `Conv1D`; they become linears when a model is made. Every query head has its own
keys and values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from finegates_export.families.decoder import Decoder
from finegates_export.families.model_config import ModelConfig
from finegates_export.families.structure import AttentionMap, FeedForwardMap, rows_of

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers.pytorch_utils import Conv1D

TRANSPOSED = ("c_attn", "c_fc", "c_proj")
"""Linears stored with one row per input."""


class GPT2(Decoder):
    """`GPT2Model` and its task models."""

    name = "gpt2"
    model_types = ("gpt2",)
    prefix = "transformer"
    layers = "h"

    def attention(self, config: ModelConfig, path: str, index: int) -> AttentionMap:
        """Rows of c_attn are blocks of Q, K and V; two options change the scale."""
        head_dim = config.hidden_size // config.num_attention_heads
        scale = head_dim**-0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            scale /= index + 1
        fused = f"{path}.attn.c_attn"
        return AttentionMap(
            module=f"{path}.attn",
            query=rows_of(fused, 0, 3),
            key=rows_of(fused, 1, 3),
            value=rows_of(fused, 2, 3),
            output=f"{path}.attn.c_proj",
            heads=config.num_attention_heads,
            head_dim=head_dim,
            kind="causal",
            scale=scale,
            dropout=config.attn_pdrop,
        )

    def feed_forward(self, config: ModelConfig, path: str) -> FeedForwardMap:
        """See `Family.feed_forward`."""
        return FeedForwardMap(
            module=f"{path}.mlp",
            up=rows_of(f"{path}.mlp.c_fc"),
            down=f"{path}.mlp.c_proj",
            intermediate_size=config.n_inner or 4 * config.hidden_size,
            activation=config.activation_function,
        )

    def make_linears(self, model: nn.Module) -> None:
        """Every `Conv1D` of transformers becomes a linear, with its weight transposed."""
        import torch
        from torch import nn

        for path, module in [*model.named_modules()]:
            parent, _, name = path.rpartition(".")
            if name not in TRANSPOSED:
                continue
            stored = cast("Conv1D", module)
            with torch.device("meta"):
                linear = nn.Linear(*stored.weight.shape)
            linear.weight = nn.Parameter(stored.weight.detach().t().contiguous())
            linear.bias = stored.bias
            setattr(model.get_submodule(parent), name, linear)

    def stored_tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """The layers' linears, transposed back."""
        tensors = dict(model.state_dict())
        for path, _ in model.named_modules():
            if path.rpartition(".")[2] in TRANSPOSED:
                tensors[f"{path}.weight"] = tensors[f"{path}.weight"].t().contiguous()
        return tensors
