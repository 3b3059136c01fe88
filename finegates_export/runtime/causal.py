"""The graph of a decoder, with the keys and values of what it has read: they stay where onnxruntime keeps them.

Shapes: B rows, S tokens of a call, T tokens read so far, V tokens of the vocabulary; keys and values of a layer are
(B, heads of keys and values, T, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from finegates_export.common.cache_layout import IDS, MASK, POSITIONS, CacheLayout
from finegates_export.common.tasks import LOGITS

Array = npt.NDArray[Any]
READ_TOGETHER = 1024
"""Tokens of all rows that a call reads at most, so that its logits stay within some hundred megabytes."""
DEVICES = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}
"""Where providers keep their tensors, if not in the processor's memory."""


class CausalGraph:
    """What all calls share; nothing in it changes.

    Args:
        session: an onnxruntime session.
    """

    def __init__(self, session: Any) -> None:
        self.session = session
        self.layout = CacheLayout.of_inputs({value.name: value.shape for value in session.get_inputs()})
        """Which layers keep something of what they read."""
        self.device = DEVICES.get(session.get_providers()[0], "cpu")

    def read(self, rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Cache, Array]:
        """Read prompts.

        Args:
            rows: token ids, one at least of each prompt.
            pad_id: what shorter prompts are filled up with, on the left.

        Returns:
            what continues them, and the logits of the token that follows each, shape (B, V).
        """
        longest = max(len(row) for row in rows)
        padded = [
            ([pad_id] * (longest - len(row)) + list(row), [0] * (longest - len(row)) + [1] * len(row)) for row in rows
        ]
        ids_BS, mask_BS = (np.array(part, np.int64) for part in zip(*padded, strict=True))
        cache = Cache(self, len(rows))
        step = max(1, READ_TOGETHER // len(rows))
        for start in range(0, longest, step):
            logits_BV = cache.read(ids_BS[:, start : start + step], mask_BS[:, start : start + step])
        return cache, logits_BV


class Cache:
    """What a graph has read of some rows. Belongs to one call of the generator.

    Args:
        graph: the graph.
        rows: how many.
    """

    def __init__(self, graph: CausalGraph, rows: int) -> None:
        self._graph = graph
        self._mask_BT = np.zeros((rows, 0), np.int64)
        self._past = [self._held(value) for value in graph.layout.empty(rows).values()]

    def read(self, ids_BS: Array, mask_BS: Array) -> Array:
        """Read tokens of every row.

        Args:
            ids_BS: token ids.
            mask_BS: 1 for a token, 0 for a filler.

        Returns:
            logits of the token that follows the last one, shape (B, V).
        """
        graph, length = self._graph, ids_BS.shape[1]
        self._mask_BT = np.concatenate([self._mask_BT, mask_BS], 1)
        positions_BT = np.maximum(self._mask_BT.cumsum(1) - 1, 0)
        given = {IDS: ids_BS, MASK: self._mask_BT, POSITIONS: positions_BT[:, -length:]}
        binding = graph.session.io_binding()
        for name, value in given.items():
            binding.bind_cpu_input(name, np.ascontiguousarray(value, np.int64))
        for name, held in zip(graph.layout.past_names, self._past, strict=True):
            binding.bind_ortvalue_input(name, held)
        binding.bind_output(LOGITS, "cpu")
        for name in graph.layout.present_names:
            binding.bind_output(name, graph.device)
        graph.session.run_with_iobinding(binding)
        logits, *self._past = binding.get_outputs()
        return np.array(logits.numpy()[:, -1])  # a copy: the rest of the logits is let go

    def keep(self, rows: Sequence[int]) -> None:
        """Forget all other rows, and the fillers that no row needs any more.

        Args:
            rows: by their present number.
        """
        self._mask_BT = self._mask_BT[list(rows)]
        first = int(self._mask_BT.argmax(1).min())
        self._mask_BT = self._mask_BT[:, first:]
        self._past = [self._held(np.ascontiguousarray(value.numpy()[list(rows), :, first:])) for value in self._past]

    def _held(self, value: Array) -> Any:
        from onnxruntime import OrtValue

        return OrtValue.ortvalue_from_numpy(value, self._graph.device, 0)
