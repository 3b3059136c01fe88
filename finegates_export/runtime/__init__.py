"""Inference on a bundle with onnxruntime and tokenizers alone; nothing here imports torch or transformers."""

from __future__ import annotations

from finegates_export.runtime.predictor import Prediction, Predictor, load

__all__ = ["Prediction", "Predictor", "load"]
