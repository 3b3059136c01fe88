"""The padding mask as what it is: the tokens' own mask, the same for every query.

transformers makes all masks in one way, index by index: two grids of positions and a GatherND, twenty operators in a
traced graph where four compute the same for full attention, and ten for a causal one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

MaskMaker = Callable[..., Tensor | None]


@contextlib.contextmanager
def spread_padding() -> Iterator[None]:
    """While a model is traced, masks of full attention and behind a cache are spread and not looked up."""
    from transformers import masking_utils

    makers, own = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS, masking_utils.sdpa_mask
    chosen = makers["sdpa"]
    # Eager attention calls the function by its name, and makes numbers of what it returns.
    masking_utils.sdpa_mask = makers["sdpa"] = _maker(own, masking_utils.bidirectional_mask_function)
    try:
        yield
    finally:
        masking_utils.sdpa_mask, makers["sdpa"] = own, chosen


def _maker(own: MaskMaker, full: Any) -> MaskMaker:
    """`own`, but for attention of everything to everything, and of everything to what came before it.

    Args:
        own: makes any mask, True where a query (third axis) attends to a token (fourth).
        full: the rule of full attention.
    """

    def make(*, q_length: int, attention_mask: Tensor | None = None, mask_function: Any = None, **rest: Any) -> Any:
        sizes = {"q_length": q_length, "mask_function": mask_function, **rest}
        if attention_mask is None or rest.get("kv_offset"):
            return own(attention_mask=attention_mask, **sizes)
        if mask_function is full:
            return attention_mask.bool()[:, None, None, :].expand(-1, 1, q_length, -1)
        if not isinstance(rest.get("q_offset"), torch.SymInt):  # no cache in front of the queries
            return own(attention_mask=attention_mask, **sizes)
        return _causal(own(attention_mask=None, **{**sizes, "allow_is_causal_skip": False}), attention_mask, rest)

    return make


def _causal(order_B1ST: Any, attention_mask: Tensor, rest: dict[str, Any]) -> Any:
    """The order's mask and the padding's. Padding attends to itself: a softmax over nothing would be NaN."""
    new, total = order_B1ST.shape[2:]
    own_ST = torch.arange(new)[:, None] + rest["q_offset"] == torch.arange(total)
    return order_B1ST & (attention_mask.bool()[:, None, None, :] | own_ST)
