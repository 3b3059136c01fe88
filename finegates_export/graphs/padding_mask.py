"""The padding mask as what it is: the tokens' own mask, the same for every query.

transformers makes all masks in one way, index by index: two grids of positions and a GatherND, twenty operators in a
traced graph where four compute the same for full attention, and ten for a causal one.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import cast

import torch
from torch import Tensor

from finegates_export.common.foreign import MaskMaker, MaskRule, replaced_masks


def spread_padding() -> AbstractContextManager[None]:
    """While a model is traced, masks of full attention and behind a cache are spread and not looked up."""
    return replaced_masks(_maker)


def _maker(own: MaskMaker, full: MaskRule) -> MaskMaker:
    """`own`, but for attention of everything to everything, and of everything to what came before it.

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
        if not isinstance(offset, torch.SymInt):  # no cache in front of the queries
            return own(attention_mask=attention_mask, **sizes)
        order_B1ST = own(attention_mask=None, **{**sizes, "allow_is_causal_skip": False})
        return _causal(cast(Tensor, order_B1ST), attention_mask, offset)  # it is None only where it may be skipped

    return make


def _causal(order_B1ST: Tensor, attention_mask: Tensor, offset: torch.SymInt) -> Tensor:
    """The order's mask and the padding's. Padding attends to itself: a softmax over nothing would be NaN."""
    new, total = order_B1ST.shape[2:]
    own_ST = torch.arange(new)[:, None] + offset == torch.arange(total)
    return order_B1ST & (attention_mask.bool()[:, None, None, :] | own_ST)
