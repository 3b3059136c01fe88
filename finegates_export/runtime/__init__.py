"""Inference on a bundle with onnxruntime and tokenizers alone; nothing here imports torch or transformers."""

from __future__ import annotations

from finegates_export.runtime.predictions import Answer, LabelSet, Prediction, Word
from finegates_export.runtime.predictor import Predictor, load

__all__ = ["Answer", "LabelSet", "Prediction", "Predictor", "Word", "load"]
