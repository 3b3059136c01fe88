"""A bundle's tokenizer as a model of Triton's Python backend; needs only `tokenizers` and numpy.

A row of the input `text` holds one text or a pair of texts. Requests are padded to a few lengths, so that the server
can put several of them into one call of the graph.

Shapes: B rows, N texts per row (1 or 2), S tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils
from tokenizers import Tokenizer

TEXTS = (1, 2)
"""One text or a pair of texts."""


class TritonPythonModel:
    """The class that the backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the tokenizer next to this file.

        Args:
            args: from the backend: the model's config, folder and version.
        """
        config = json.loads(args["model_config"])
        values = {name: value["string_value"] for name, value in config["parameters"].items()}
        folder = Path(args["model_repository"]) / args["model_version"]
        self._outputs = [output["name"] for output in config["output"]]
        self._lengths = [int(length) for length in values["lengths"].split(",")]
        self._pad_id, self._segments = int(values["pad_id"]), values["segments"] == "1"
        self._attended_when_empty = [1] if values["one_answer"] == "1" else []
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = values["splits_special_tokens"] == "1"
        self._tokenizer.enable_truncation(self._lengths[-1], direction=values["truncation_side"])

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Tokenize every request; one that cannot be read gets an error, the others are answered."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        text_BN = pb_utils.get_input_tensor_by_name(request, "text").as_numpy()
        if text_BN.ndim != 2 or text_BN.shape[1] not in TEXTS or not len(text_BN):
            told = f"text has the shape {list(text_BN.shape)}; each row must hold one text or a pair of texts"
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(told))
        try:
            rows = [[text.decode("utf-8") for text in row] for row in text_BN]
        except UnicodeDecodeError as error:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(f"text is not UTF-8: {error}"))
        encoded = self._tokenizer.encode_batch([tuple(row) if len(row) > 1 else row[0] for row in rows])
        longest = max(len(one.ids) for one in encoded)
        attended = [one.attention_mask or self._attended_when_empty for one in encoded]
        columns = {
            "input_ids": self._padded([one.ids for one in encoded], self._pad_id, longest),
            # without any attended token all padding is attended, and its length depends on the batch
            "attention_mask": self._padded(attended, 0, longest),
            "token_type_ids": self._padded([one.type_ids if self._segments else [] for one in encoded], 0, longest),
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, columns[name]) for name in self._outputs])

    def _padded(self, rows: list[list[int]], filler: int, longest: int) -> Any:
        length = next(length for length in self._lengths if length >= longest)
        return np.asarray([row + [filler] * (length - len(row)) for row in rows], np.int64)
