"""optimum's ORTModelFor... classes on a bundle.

<interpreter> SCRIPT SPEC.json RESULT.json; the forms of both are described in harness.py.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from optimum.onnxruntime import ORTModelForFeatureExtraction, ORTModelForSequenceClassification
from transformers import AutoTokenizer

CLASSES = {
    "sequence-classification": (ORTModelForSequenceClassification, "logits"),
    "feature-extraction": (ORTModelForFeatureExtraction, "last_hidden_state"),
}


def main() -> None:
    torch.set_num_threads(1)
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    loader, output = CLASSES[spec["kind"]]
    model = loader.from_pretrained(spec["bundle"], local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(spec["bundle"], local_files_only=True)
    firsts, seconds = [text[0] for text in spec["texts"]], [text[1] for text in spec["texts"] if len(text) > 1]
    inputs = tokenizer(firsts, seconds or None, padding=True, truncation=True, return_tensors="pt")
    outputs = {output: model(**inputs)[output].tolist()}
    versions = ", ".join(f"{name} {version(name)}" for name in ("optimum-onnx", "transformers"))
    Path(sys.argv[2]).write_text(json.dumps({"outputs": outputs, "version": versions}), encoding="utf-8")


main()
