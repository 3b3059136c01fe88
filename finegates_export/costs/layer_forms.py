"""The forms of a model's layers, in terms of the measured blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from finegates_export.common.shapes import Shape
from finegates_export.costs.blocks.layer_shapes import ACTIVATIONS, STYLES, AttentionShape, FeedForwardShape
from finegates_export.errors import UnsupportedError
from finegates_export.families.model_config import ModelConfig
from finegates_export.families.structure import LayerMap

if TYPE_CHECKING:
    from finegates_export.families.family import Family

LayerForm = tuple[AttentionShape, FeedForwardShape]


def layer_forms(family: Family, config: ModelConfig, shape: Shape) -> tuple[LayerForm, ...]:
    """The unpruned halves of every layer.

    Args:
        family: the model's family.
        config: its config.
        shape: the input.

    Raises:
        UnsupportedError: an activation that no block supports.
    """
    structure = family.structure(config)
    return tuple(_form(layer, structure.hidden_size, config, shape) for layer in structure.layers)


def _form(layer: LayerMap, hidden: int, config: ModelConfig, shape: Shape) -> LayerForm:
    attention, feed_forward = layer.attention, layer.feed_forward
    if feed_forward.activation not in ACTIVATIONS:
        raise UnsupportedError(
            f"the cost of a feed-forward network with the activation {feed_forward.activation!r} cannot be measured; "
            f"supported are: {', '.join(ACTIVATIONS)}. Aim at a removed share instead of a speed-up"
        )
    if attention.kind not in STYLES:
        raise UnsupportedError(
            "the cost of causal attention cannot be measured; aim at a removed share instead of a speed-up"
        )
    positions, terms = _position_terms(config) if attention.kind == "disentangled" else (0, 0)
    return (
        AttentionShape(
            batch=shape.batch,
            sequence=shape.sequence,
            hidden=hidden,
            all_heads=attention.heads,
            head_dim=attention.head_dim,
            heads=attention.heads,
            qk=attention.head_dim,
            vo=attention.head_dim,
            style=attention.kind,
            biased=bool(getattr(config, "attention_bias", getattr(config, "qkv_bias", True))),
            positions=positions,
            terms=terms,
        ),
        FeedForwardShape(
            batch=shape.batch,
            sequence=shape.sequence,
            hidden=hidden,
            neurons=feed_forward.intermediate_size,
            activation=feed_forward.activation,
            gated=feed_forward.factor is not None,
            biased=bool(getattr(config, "mlp_bias", True)),
        ),
    )


def _position_terms(config: ModelConfig) -> tuple[int, int]:
    """Rows of DeBERTa's table of relative positions, and the number of terms that read it."""
    terms = sum(term in ("c2p", "p2c") for term in config.pos_att_type or ()) if config.relative_attention else 0
    farthest = config.max_relative_positions if config.max_relative_positions > 0 else config.max_position_embeddings
    buckets = getattr(config, "position_buckets", -1)
    return 2 * (buckets if buckets > 0 else farthest), terms
