"""A decoder's graph with its key-value cache, which stays in onnxruntime's memory.

Shapes: B rows, S tokens per call, T tokens read so far, V tokens of the vocabulary; a layer's keys and values are
(B, key-value heads, T, width).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from finegates_export.common.cache_layout import IDS, MASK, POSITIONS, CacheLayout
from finegates_export.common.tasks import LOGITS
from finegates_export.common.tasks.arrays import Array
from finegates_export.errors import InputError
from finegates_export.runtime.session import QUOTED, OrtSession

if TYPE_CHECKING:
    from onnxruntime import OrtValue

READ_TOGETHER = 1024
"""Maximum tokens per call, over all rows, so that logits stay within a few hundred megabytes."""
DEVICES = {"CUDAExecutionProvider": "cuda", "TensorrtExecutionProvider": "cuda"}
"""Where providers keep their tensors, if not in CPU memory."""


class CausalGraph:
    """The part that all calls share; immutable.

    Args:
        session: an onnxruntime session.
    """

    def __init__(self, session: OrtSession) -> None:
        self.session = session
        self.layout = CacheLayout.of_inputs({value.name: value.shape for value in session.get_inputs()})
        """The layers that have a cache."""
        self.device = DEVICES.get(session.get_providers()[0], "cpu")

    def read(self, rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Cache, Array]:
        """Read prompts.

        Args:
            rows: token ids, at least one per prompt.
            pad_id: the token that pads shorter prompts, on the left.

        Returns:
            the state to continue from, and the logits of the next token of each prompt, shape (B, V).
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
    """The cache of some rows. Belongs to one call of the generator.

    Args:
        graph: the graph.
        rows: number of rows.
    """

    def __init__(self, graph: CausalGraph, rows: int) -> None:
        self._graph = graph
        self._mask_BT = np.zeros((rows, 0), np.int64)
        self._past = [self._held(value) for value in graph.layout.empty(rows).values()]

    def read(self, ids_BS: Array, mask_BS: Array) -> Array:
        """Read tokens of every row.

        Args:
            ids_BS: token ids.
            mask_BS: 1 for a token, 0 for padding.

        Returns:
            logits of the next token, shape (B, V).

        Raises:
            InputError: onnxruntime fails, or the logits are no numbers.
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
        try:
            graph.session.run_with_iobinding(binding)
        except Exception as error:  # onnxruntime's errors have no narrower common root
            told = " ".join(str(error).split())[:QUOTED]
            shown = f"{ids_BS.shape[0]} x {length} tokens"
            raise InputError(f"onnxruntime fails on {shown}: {told}; pass fewer prompts, or export again") from error
        logits, *self._past = binding.get_outputs()
        last_BV = np.array(logits.numpy()[:, -1])  # a copy, so that the other logits can be freed
        if np.isnan(last_BV).any():
            raise InputError(
                "the model answers with logits that are no numbers (NaN); its weights are damaged: export again"
            )
        return last_BV

    def keep(self, rows: Sequence[int]) -> None:
        """Keep only these rows, and drop padding that no row needs any more.

        Args:
            rows: their current numbers.
        """
        self._mask_BT = self._mask_BT[list(rows)]
        first = int(self._mask_BT.argmax(1).min())
        self._mask_BT = self._mask_BT[:, first:]
        self._past = [self._held(np.ascontiguousarray(value.numpy()[list(rows), :, first:])) for value in self._past]

    def _held(self, value: Array) -> OrtValue:
        from onnxruntime import OrtValue

        return OrtValue.ortvalue_from_numpy(value, self._graph.device, 0)
