"""The unpruned model as a user gets it today: merged by peft, exported and optimized by optimum, int8 by onnxruntime.

optimum's own quantizer refuses graphs that optimum has optimized, so onnxruntime's is called as it would be.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from contract import Arguments, Model, run_script
from onnx_files import FLOAT32, with_int8
from optimum.exporters.onnx import main_export
from torch_model import merged_model

LEVEL = "O2"
"""`optimum-cli export onnx --optimize O2`: onnxruntime's fusions for the model's type, nothing approximated."""
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "special_tokens_map.json")


def make(arguments: Arguments) -> list[Model]:
    """Float32 and int8."""
    model = merged_model(arguments.run, arguments.base)
    with tempfile.TemporaryDirectory(dir=arguments.out) as scratch:
        merged, made = Path(scratch) / "merged", Path(scratch) / "made"
        model.save_pretrained(merged)
        for name in TOKENIZER:
            if (arguments.base / name).is_file():
                shutil.copyfile(arguments.base / name, merged / name)
        main_export(str(merged), made, task="text-classification", optimize=LEVEL, local_files_only=True)
        shutil.move(made / FLOAT32, arguments.out / FLOAT32)
    return with_int8(arguments, model, "optimum", f"unpruned, optimum {LEVEL}")


if __name__ == "__main__":
    run_script(__doc__, ("optimum-onnx", "torch", "transformers", "peft", "onnx", "onnxruntime"), make)
