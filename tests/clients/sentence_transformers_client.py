"""sentence-transformers with its ONNX backend on a bundle: CrossEncoder and SentenceTransformer.

<interpreter> SCRIPT SPEC.json RESULT.json; the forms of both are described in harness.py.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer


def main() -> None:
    torch.set_num_threads(1)
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    options = {"backend": "onnx", "local_files_only": True, "device": "cpu"}
    if spec["kind"] == "cross-encoder":
        scores = CrossEncoder(spec["bundle"], **options).predict(spec["texts"], show_progress_bar=False)
        outputs = {"logits": scores.reshape(len(scores), -1).tolist()}
    else:
        encoder = SentenceTransformer(spec["bundle"], **options)
        texts = [text[0] for text in spec["texts"]]
        outputs = {"sentence_embedding": encoder.encode(texts, show_progress_bar=False).tolist()}
    versions = ", ".join(f"{name} {version(name)}" for name in ("sentence-transformers", "transformers"))
    Path(sys.argv[2]).write_text(json.dumps({"outputs": outputs, "version": versions}), encoding="utf-8")


main()
