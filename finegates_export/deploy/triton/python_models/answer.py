"""From logits to labels and probabilities, as a model of Triton's Python backend; needs only numpy.

Shapes: B rows, C labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """The class that the backend calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the labels.

        Args:
            args: from the backend: the model's config, which names the labels and says whether an answer has several.
        """
        values = {name: value["string_value"] for name, value in json.loads(args["model_config"])["parameters"].items()}
        self._labels_C = np.array([label.encode("utf-8") for label in json.loads(values["labels"])], np.object_)
        self._several = values["several"] == "1"

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer every request."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        logits_BC = pb_utils.get_input_tensor_by_name(request, "logits").as_numpy().astype(np.float32)
        outputs = self._several_labels(logits_BC) if self._several else self._one_label(logits_BC)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, values) for name, values in outputs.items()])

    def _one_label(self, logits_BC: Any) -> dict[str, Any]:
        """The most probable label, its probability, and that of every label."""
        shifted_BC = np.exp(logits_BC - logits_BC.max(-1, keepdims=True))
        scores_BC = shifted_BC / shifted_BC.sum(-1, keepdims=True)
        return {
            "label": self._labels_C[scores_BC.argmax(-1)][:, None],
            "score": scores_BC.max(-1, keepdims=True),
            "scores": scores_BC,
        }

    def _several_labels(self, logits_BC: Any) -> dict[str, Any]:
        """The labels above one half, empty strings for the others, and every label's probability."""
        nothing = np.array(b"", np.object_)
        return {"label": np.where(logits_BC > 0, self._labels_C, nothing), "scores": 1 / (1 + np.exp(-logits_BC))}
