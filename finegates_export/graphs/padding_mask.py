"""Traces the padding mask as the tokens' own mask, broadcast over the queries.

transformers makes every mask index by index: two grids of positions and a GatherND, twenty operators in a traced graph.
Four compute the same for full attention, and ten for causal attention.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import cast

import torch
from torch import Tensor

from finegates_export.common.foreign import MaskMaker, MaskRule, replaced_masks


def spread_padding() -> AbstractContextManager[None]:
    """While a model is traced, broadcast masks for full attention, and after a cache, instead of looking them up."""
    return replaced_masks(_maker)


def _maker(own: MaskMaker, full: MaskRule) -> MaskMaker:
    """`own`, with other masks for full attention and for causal attention after a cache.

    Args:
        own: makes any mask, True where a query (third axis) attends to a token (fourth).
        full: the rule of full attention.
    """

    def make(
        *,
        q_length: int,
        attention_mask: Tensor | None = None,
        mask_function: MaskRule | None = None,
        **rest: object,
    ) -> Tensor | None:
        sizes = {"q_length": q_length, "mask_function": mask_function, **rest}
        if attention_mask is None or rest.get("kv_offset"):
            return own(attention_mask=attention_mask, **sizes)
        if mask_function is full:
            return attention_mask.bool()[:, None, None, :].expand(-1, 1, q_length, -1)
        offset = rest.get("q_offset")
        if not isinstance(offset, torch.SymInt):  # no cache before the queries
            return own(attention_mask=attention_mask, **sizes)
        order_B1ST = own(attention_mask=None, **{**sizes, "allow_is_causal_skip": False})
        return _causal(cast(Tensor, order_B1ST), attention_mask, offset)  # None is returned only if the skip is allowed

    return make


def _causal(order_B1ST: Tensor, attention_mask: Tensor, offset: torch.SymInt) -> Tensor:
    """The causal mask and the padding mask. Padding attends to itself: a softmax over nothing would be NaN."""
    new, total = order_B1ST.shape[2:]
    own_ST = torch.arange(new)[:, None] + offset == torch.arange(total)
    return order_B1ST & (attention_mask.bool()[:, None, None, :] | own_ST)
