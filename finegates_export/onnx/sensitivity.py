"""Which linears int8 hurts most: each one's quantization error alone, seen in the outputs, on real inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from finegates_export.verification.chain import Forward
from finegates_export.verification.judge import Array, Outputs

WEIGHT_LEVELS = 127
ACTIVATION_LEVELS = 255


def rank_by_sensitivity(
    model: nn.Module, linears: list[str], forward: Forward, inputs: list[dict[str, Array]], outputs: tuple[str, ...]
) -> list[str]:
    """Linears by how much quantizing each of them alone moves the task's outputs, most first.

    Quantization is simulated as onnxruntime's dynamic int8 does it: weights signed and per output channel, inputs
    unsigned and per tensor.

    Args:
        model: the shrunk torch model.
        linears: paths of the linears to rank.
        forward: runs the model on one batch.
        inputs: batches; a few dozen rows are enough to rank.
        outputs: the outputs that count.
    """
    reference = [forward(batch) for batch in inputs]
    error: dict[str, float] = {}
    for path in linears:
        linear: Any = model.get_submodule(path)
        weight = linear.weight.data
        linear.weight.data = _quantized_weight(weight)
        handle = linear.register_forward_pre_hook(_quantize_input)
        try:
            moved = [_moved(forward(batch), before, outputs) for batch, before in zip(inputs, reference, strict=True)]
        finally:
            handle.remove()
            linear.weight.data = weight
        error[path] = float(np.mean(moved))
    return sorted(linears, key=lambda path: -error[path])


def _moved(after: Outputs, before: Outputs, outputs: tuple[str, ...]) -> float:
    return float(np.mean([np.mean((after[name] - before[name]) ** 2) for name in outputs]))


def _quantized_weight(weight_OI: Tensor) -> Tensor:
    scale_O1 = weight_OI.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(weight_OI.dtype).tiny) / WEIGHT_LEVELS
    return (weight_OI / scale_O1).round() * scale_O1


def _quantize_input(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    x_BSD = args[0]
    low, high = x_BSD.amin().clamp(max=0.0), x_BSD.amax().clamp(min=0.0)
    scale = ((high - low) / ACTIVATION_LEVELS).clamp(min=torch.finfo(x_BSD.dtype).tiny)
    zero_point = (-low / scale).round()
    quantized = ((x_BSD / scale).round() + zero_point).clamp(0, ACTIVATION_LEVELS)
    return ((quantized - zero_point) * scale, *args[1:])
