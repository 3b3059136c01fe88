"""Inference on a bundle with only onnxruntime and tokenizers; nothing here imports torch or transformers."""

from __future__ import annotations

from finegates_export.common.tasks.answers import Answer, Entity, LabelSet, Prediction, TaggedText, Word
from finegates_export.runtime.generation import Generation, GenerationOptions
from finegates_export.runtime.generator import TextGenerator
from finegates_export.runtime.loading import load
from finegates_export.runtime.predictor import Predictor

__all__ = [
    "Answer",
    "Entity",
    "Generation",
    "GenerationOptions",
    "LabelSet",
    "Prediction",
    "Predictor",
    "TaggedText",
    "TextGenerator",
    "Word",
    "load",
]
