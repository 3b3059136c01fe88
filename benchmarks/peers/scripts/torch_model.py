"""The unpruned model as its user has it: base and head from their files, LoRA merged by peft. Plain libraries alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from contract import Array
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

LINEARS = ("query", "key", "value", "intermediate.dense", "output.dense")
LAYERS = "bert.encoder.layer."


def merged_model(run: Path, base: Path, attention: str = "eager") -> Any:
    """A run folder of the layout `none` as a plain transformers model in evaluation mode.

    Args:
        run: the run folder.
        base: its base.
        attention: transformers' implementation; `eager` is what exporters and pruners can follow.
    """
    labels = json.loads((run / "run.json").read_text(encoding="utf-8"))["labels"]
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        base,
        id2label=dict(enumerate(labels)),
        label2id={label: number for number, label in enumerate(labels)},
        attn_implementation=attention,
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
    )
    head = load_file(run / "head.safetensors")
    stray = model.load_state_dict(head, strict=False).unexpected_keys
    if stray:
        raise SystemExit(f"head tensor {stray[0]} has no place in the model of {base}")
    if (run / "adapter").is_dir():
        model = PeftModel.from_pretrained(model, str(run / "adapter")).merge_and_unload(safe_merge=True)
    return model.requires_grad_(False).eval()


def fast_model(run: Path, base: Path) -> Any:
    """The same model as it runs in torch, with transformers' usual attention."""
    return merged_model(run, base, "sdpa")


def torch_forward(model: Any) -> Callable[[dict[str, Array]], Array]:
    """A torch model as a function from inputs to logits."""

    def forward(inputs: dict[str, Array]) -> Array:
        with torch.no_grad():
            logits: Array = model(**{name: torch.from_numpy(values) for name, values in inputs.items()}).logits.numpy()
        return logits

    return forward


def parameter_count(model: Any) -> int:
    """Elements of all parameters, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def layer_weights(model: Any) -> int:
    """Elements of the layers' linear weights."""
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if name.startswith(LAYERS) and name.endswith(tuple(f"{linear}.weight" for linear in LINEARS))
    )
