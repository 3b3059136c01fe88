"""Every part of another library that it does not promise to keep, in one place; a test of each fails when it changes.

What is private (its name begins with an underscore) or replaced while we work is touched here and nowhere else.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

MaskMaker = Callable[..., "Tensor | None"]
"""transformers' way to make a mask: True where a query (third axis) attends to a token (fourth)."""
MaskRule = Callable[..., "Tensor | bool"]
"""transformers' way to say, by row, head, query and token, whether a query attends to a token."""

LAST_MATCH = ("_graph", "_current_node", "_match", "_tracer")
"""Attributes of an onnxscript pattern matcher that its next match sets again."""


def model_classes(auto_class: Any) -> Mapping[type, Any]:
    """The model classes that one of transformers' auto classes chooses from, by the class of the config.

    Args:
        auto_class: `AutoModelForCausalLM` and its like.

    Returns:
        A class, or a tuple of them, for each class of config; not a real mapping, but it has `keys` and subscripts.
    """
    classes: Mapping[type, Any] = auto_class._model_mapping
    return classes


def model_class(loader: Any, config: object) -> Any:
    """The class that a loader makes a model of.

    Args:
        loader: an auto class of transformers, or a model class, which is what is returned.
        config: a transformers config.
    """
    from transformers.models.auto.auto_factory import _get_model_class

    mapping = getattr(loader, "_model_mapping", None)
    return loader if mapping is None else _get_model_class(config, mapping)


@contextlib.contextmanager
def replaced_masks(wrap: Callable[[MaskMaker, MaskRule], MaskMaker]) -> Iterator[None]:
    """Have transformers make its masks in another way, for eager attention and for torch's own.

    Args:
        wrap: from transformers' maker and the rule of full attention to the maker that stands in for it.
    """
    from transformers import masking_utils

    makers, own = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS, masking_utils.sdpa_mask
    chosen = makers["sdpa"]
    # Eager attention calls the function by its name, and makes numbers of what it returns.
    masking_utils.sdpa_mask = makers["sdpa"] = wrap(own, masking_utils.bidirectional_mask_function)
    try:
        yield
    finally:
        masking_utils.sdpa_mask, makers["sdpa"] = own, chosen


def tree_structure(value: object) -> str:
    """How containers are nested in a value, in torch's JSON."""
    from torch.utils import _pytree

    text: str = _pytree.treespec_dumps(_pytree.tree_structure(value))
    return text


def forget_graphs() -> None:
    """Make onnxscript's rewrite rules drop the graphs that they matched last.

    The rules live as long as the process, and each one's last match refers to a whole graph: a model's weights would
    stay in memory until the next model is traced.
    """
    patterns = sys.modules.get("onnxscript.rewriter.pattern")
    if patterns is None:  # nothing has been traced
        return
    for one in gc.get_objects():
        if isinstance(one, patterns.SimplePatternMatcher):
            for name in vars(one).keys() & set(LAST_MATCH):
                setattr(one, name, None)
