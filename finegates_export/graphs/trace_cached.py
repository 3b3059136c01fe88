"""Traces a decoder into a graph that reads the past's keys and values and returns them with the new tokens'.

One graph reads a prompt (with an empty past) and the tokens after it, one or several at a time. `position_ids` gives
each token's position, so that rows may be padded on the left.

Shapes: B rows, S new tokens, P tokens of the past, T = P + S, D hidden size, V vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from finegates_export.common.cache_layout import INPUTS, CacheLayout
from finegates_export.common.tasks import HIDDEN, LOGITS
from finegates_export.graphs.trace import WRAPPED, Axes, Example, trace
from finegates_export.pruning.ragged import rotary

if TYPE_CHECKING:
    import onnx_ir

BATCH, SEQUENCE, PAST, TOTAL = "batch", "sequence", "past_sequence", "total_sequence"
OPERATORS_OPSET = 23
"""The first opset with Attention, RotaryEmbedding and RMSNormalization."""
EXAMPLE_ROWS, EXAMPLE_NEW, EXAMPLE_PAST = 2, 3, 5


class WithCache(nn.Module):
    """A causal language model whose cache is a flat list of tensors.

    Args:
        model: the model, gated or plain; gives `logits` for named inputs.
        encoder: the module in it whose first output is the last hidden state.
        layout: the cache's.
    """

    def __init__(self, model: nn.Module, encoder: nn.Module, layout: CacheLayout) -> None:
        super().__init__()
        self.model = model
        self.layout = layout
        self.outputs = (LOGITS, *layout.present_names, HIDDEN)
        """The names of the outputs, in order."""
        self._encoder = [encoder]  # in a list: the encoder is already registered inside the model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, past: tuple[Tensor, ...] = ()
    ) -> tuple[Tensor, ...]:
        """Logits of all new tokens, the cache with them, and the last hidden state of the new tokens.

        Args:
            input_ids: shape (B, S).
            attention_mask: shape (B, T).
            position_ids: shape (B, S).
            past: by `layout.past_names`, shape (B, heads, P, width) each.
        """
        from transformers import DynamicCache

        # A layer without a cache still counts the tokens: transformers reads the length off the first layer.
        counted = attention_mask[:, None, input_ids.shape[1] :, None].to(torch.float32)
        pairs = {one.layer: past[2 * i : 2 * i + 2] for i, one in enumerate(self.layout.layers)}
        cache = DynamicCache([pairs.get(layer, (counted, counted)) for layer in range(self.layout.layer_count)])
        caught: list[Tensor] = []
        handle = self._encoder[0].register_forward_hook(lambda _module, _inputs, output: caught.append(output[0]))
        try:
            result = self.model(
                input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids, past_key_values=cache,
                use_cache=True,
            )  # fmt: skip
        finally:
            handle.remove()
        present = [part for i in pairs for part in (cache.layers[i].keys, cache.layers[i].values)]
        return (result.logits, *present, caught[0])


def write_cached_graph(
    model: nn.Module, encoder: nn.Module, layout: CacheLayout, opset: int, linears: Collection[str] = ()
) -> onnx_ir.Model:
    """Trace a decoder into an ONNX graph with a cache.

    Args:
        model: a causal language model in evaluation mode.
        encoder: see `WithCache`.
        layout: the cache's.
        opset: ONNX opset version; from 23 on attention, rotation and RMSNorm are one operator each.
        linears: module paths of the linears whose products `linear_nodes` is to find.

    Returns:
        The graph. Its inputs are `input_ids`, `attention_mask`, `position_ids` (int64) and the
        past (float32); its outputs are `logits`, the present and `last_hidden_state`.
    """
    shape = EXAMPLE_ROWS, EXAMPLE_NEW
    past = tuple(
        torch.zeros(EXAMPLE_ROWS, one.heads, EXAMPLE_PAST, width) for one in layout.layers for width in one.widths
    )
    example: Example = (
        torch.ones(shape, dtype=torch.int64),
        torch.ones(EXAMPLE_ROWS, EXAMPLE_PAST + EXAMPLE_NEW, dtype=torch.int64),
        torch.full(shape, EXAMPLE_PAST, dtype=torch.int64),
        past,
    )
    new = {0: BATCH, 1: SEQUENCE}
    axes: Axes = (new, {0: BATCH, 1: TOTAL}, new, tuple({0: BATCH, 2: PAST} for _ in past))
    if not past:  # no layer has attention left, and the exporter refuses empty arguments
        example, axes = example[:-1], axes[:-1]
    wrapped = WithCache(model, encoder, layout)
    operators = rotation_as_operator() if opset >= OPERATORS_OPSET else contextlib.nullcontext()
    with operators:
        names = (*INPUTS, *layout.past_names)
        graph = trace(wrapped, example, axes, names, wrapped.outputs, opset, linears, WRAPPED)
    _name_total(graph, layout)
    return graph


def _name_total(graph: onnx_ir.Model, layout: CacheLayout) -> None:
    """Rename the axis, which the exporter names after the sum that it is."""
    import onnx_ir

    for output in graph.graph.outputs:
        if output.name in layout.present_names and output.shape is not None:
            _batch, heads, _total, width = output.shape
            output.shape = onnx_ir.Shape([BATCH, heads, TOTAL, width])


@contextlib.contextmanager
def rotation_as_operator() -> Iterator[None]:
    """While a model is traced, rotate heads that kept the same pairs with one RotaryEmbedding.

    The operator has one table for all heads; if they kept different pairs, the rotation stays as it is.
    """
    own = rotary.rotate

    def rotate(x_BhSq: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if cos.shape[1] != 1:
            return own(x_BhSq, cos, sin)
        half = x_BhSq.shape[-1] // 2
        return torch.onnx.ops.rotary_embedding(x_BhSq, cos[:, 0, :, :half], sin[:, 0, :, :half])

    rotary.rotate = rotate
    try:
        yield
    finally:
        rotary.rotate = own
