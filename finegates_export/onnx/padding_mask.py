"""The padding mask of full attention as what it is: the tokens' own mask, the same for every query.

transformers makes all masks in one way, index by index: two grids of positions and a GatherND, twenty operators in a
traced graph where four compute the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

MaskMaker = Callable[..., Tensor | None]


@contextlib.contextmanager
def spread_padding() -> Iterator[None]:
    """While a model is traced, full attention's mask is spread and not looked up; other masks are made as ever."""
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
    """`own`, but for attention of everything to everything.

    Args:
        own: makes any mask, True where a query (third axis) attends to a token (fourth).
        full: the rule of full attention.
    """

    def make(*, q_length: int, attention_mask: Tensor | None = None, mask_function: Any = None, **rest: Any) -> Any:
        if mask_function is not full or attention_mask is None or rest.get("kv_offset"):
            return own(q_length=q_length, attention_mask=attention_mask, mask_function=mask_function, **rest)
        return attention_mask.bool()[:, None, None, :].expand(-1, 1, q_length, -1)

    return make
