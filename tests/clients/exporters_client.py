"""transformers' own `ExportedModel` on a bundle.

<interpreter> SCRIPT SPEC.json RESULT.json; the forms of both are described in harness.py.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import transformers
from transformers import AutoTokenizer
from transformers.exporters.base import ExportedModel

OUTPUTS = {"sequence-classification": "logits", "feature-extraction": "last_hidden_state"}


def main() -> None:
    torch.set_num_threads(1)
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    model = ExportedModel.from_pretrained(spec["bundle"], local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(spec["bundle"], local_files_only=True)
    firsts, seconds = [text[0] for text in spec["texts"]], [text[1] for text in spec["texts"] if len(text) > 1]
    inputs = tokenizer(firsts, seconds or None, padding=True, truncation=True, return_tensors="pt")
    name = OUTPUTS[spec["kind"]]
    outputs = {name: getattr(model(**inputs), name).tolist()}
    result = {"outputs": outputs, "version": f"transformers {transformers.__version__}"}
    Path(sys.argv[2]).write_text(json.dumps(result), encoding="utf-8")


main()
