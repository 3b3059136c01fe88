"""The unpruned model as a user gets it without optimum: torch.onnx, then onnxruntime's optimizer and quantizer."""

from __future__ import annotations

from contract import Arguments, Model, run_script
from onnx_files import exported
from torch_model import merged_model


def make(arguments: Arguments) -> list[Model]:
    """Float32 and int8."""
    return exported(arguments, merged_model(arguments.run, arguments.base), "torch-onnx", "unpruned, torch.onnx")


if __name__ == "__main__":
    run_script(__doc__, ("torch", "transformers", "peft", "onnx", "onnxscript", "onnxruntime"), make)
