"""Torch-Pruning: whole heads and feed-forward neurons of the fine-tuned model go by magnitude, then it learns on.

Heads are cut as evenly as their number allows, neurons make up for the rest, so that the share that is gone is the one
asked for. What Torch-Pruning leaves to its user is done in `_keep_books`.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch_pruning as tp
from contract import Arguments, Model, run_script
from learning import learn
from onnx_files import exported
from torch import nn
from torch_model import layer_weights, merged_model


def make(arguments: Arguments) -> list[Model]:
    """Float32 and int8."""
    unpruned = merged_model(arguments.run, arguments.base)
    model = copy.deepcopy(unpruned)
    prune(model, arguments.removed)
    removed = 1.0 - layer_weights(model) / layer_weights(unpruned)
    learn(model, unpruned, arguments)
    return exported(arguments, model, "torch-pruning", f"{removed:.0%} removed, Torch-Pruning", removed)


def prune(model: Any, share: float) -> None:
    """Cut the same number of heads and of neurons from every layer.

    Args:
        model: a BERT in evaluation mode.
        share: of the layers' linear weights.
    """
    heads, neurons = shares(model.config, share)
    layers = model.bert.encoder.layer
    attentions = [layer.attention.self for layer in layers]
    pruner = tp.pruner.BasePruner(
        model.requires_grad_(True),
        {name: torch.ones(2, 8, dtype=torch.int64) for name in ("input_ids", "attention_mask", "token_type_ids")},
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=share,
        pruning_ratio_dict={layer.intermediate.dense: neurons for layer in layers},
        num_heads={
            linear: attention.num_attention_heads
            for attention in attentions
            for linear in (attention.query, attention.key, attention.value)
        },
        prune_num_heads=True,
        prune_head_dims=False,
        # The pruner rounds up, and a quotient may lie a hair above its number.
        head_pruning_ratio=(heads - 0.5) / model.config.num_attention_heads,
        ignored_layers=_residual_writers(model),
        output_transform=lambda outputs: outputs.logits.sum(),
    )
    pruner.step()
    _keep_books(model, pruner)


def shares(config: Any, share: float) -> tuple[int, float]:
    """How many heads, and which share of the neurons, together make up this share of the layers' linear weights."""
    attention, feed_forward = 4 * config.hidden_size**2, 2 * config.hidden_size * config.intermediate_size
    heads = round(share * config.num_attention_heads)
    gone = heads / config.num_attention_heads * attention
    return heads, (share * (attention + feed_forward) - gone) / feed_forward


def _residual_writers(model: Any) -> list[nn.Module]:
    """What would narrow the residual stream if its outputs were cut, and the head."""
    layers = model.bert.encoder.layer
    outputs = [part for layer in layers for part in (layer.attention.output.dense, layer.output.dense)]
    return [*outputs, model.bert.embeddings, model.bert.pooler, model.classifier]


def _keep_books(model: Any, pruner: Any) -> None:
    """Tell the attention modules how many heads they have left; the width of a head is what it was."""
    for layer in model.bert.encoder.layer:
        attention = layer.attention.self
        attention.num_attention_heads = pruner.num_heads[attention.query]
        attention.all_head_size = attention.query.out_features
        kept = attention.num_attention_heads * attention.attention_head_size
        if not kept == attention.key.out_features == attention.value.out_features == attention.all_head_size:
            raise SystemExit(f"heads were not cut whole: {attention}")


if __name__ == "__main__":
    run_script(__doc__, ("torch-pruning", "torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime"), make)
