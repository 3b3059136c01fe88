"""Ranks linears by the error of the outputs on real inputs when each is quantized alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from finegates_export.common.tasks.arrays import Array, Outputs
from finegates_export.families.modules import linear_at
from finegates_export.verification.precise import Forward

ACTIVATION_LEVELS = 255
BLOCK_LEVELS = 15


@dataclass(frozen=True)
class Simulation:
    """The effect of quantization on a linear, simulated in float."""

    weight: Callable[[Tensor], Tensor]
    """Rounds its weight, shape (outputs, inputs)."""
    inputs: Callable[[Tensor], Tensor] | None
    """Rounds its inputs; None if they stay in float."""


def rank_by_sensitivity(
    model: nn.Module,
    linears: list[str],
    forward: Forward,
    inputs: list[dict[str, Array]],
    outputs: tuple[str, ...],
    simulation: Simulation,
) -> list[str]:
    """Rank linears by how much quantizing each one alone changes the task's outputs, most first.

    Args:
        model: the shrunk torch model.
        linears: paths of the linears to rank.
        forward: runs the model on one batch.
        inputs: batches; a few dozen rows are enough to rank.
        outputs: the outputs that count.
        simulation: how a linear is quantized.
    """
    reference = [forward(batch) for batch in inputs]
    error: dict[str, float] = {}
    for path in linears:
        linear = linear_at(model, path)
        weight = linear.weight.data
        linear.weight.data = simulation.weight(weight)
        handle = linear.register_forward_pre_hook(_rounding(simulation))
        try:
            moved = [_moved(forward(batch), before, outputs) for batch, before in zip(inputs, reference, strict=True)]
        finally:
            handle.remove()
            linear.weight.data = weight
        error[path] = float(np.mean(moved))
    return sorted(linears, key=lambda path: -error[path])


def _moved(after: Outputs, before: Outputs, outputs: tuple[str, ...]) -> float:
    return float(np.mean([np.mean((after[name] - before[name]) ** 2) for name in outputs]))


def _rounding(simulation: Simulation) -> Callable[..., tuple[Tensor, ...]]:
    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return args if simulation.inputs is None else (simulation.inputs(args[0]), *args[1:])

    return hook


def _int8_inputs(x_BSD: Tensor) -> Tensor:
    return _asymmetric(x_BSD, x_BSD.amin(), x_BSD.amax(), ACTIVATION_LEVELS)


def _asymmetric(values: Tensor, low: Tensor, high: Tensor, levels: int) -> Tensor:
    """Round to a number of steps between `low` and `high`, one of them at 0."""
    low, high = low.clamp(max=0.0), high.clamp(min=0.0)
    scale = ((high - low) / levels).clamp(min=torch.finfo(values.dtype).tiny)
    zero_point = (-low / scale).round()
    quantized = ((values / scale).round() + zero_point).clamp(0, levels)
    return (quantized - zero_point) * scale


def integers(bits: int) -> Simulation:
    """Dynamic int8 of onnxruntime: weights signed and per output channel, inputs unsigned and per tensor.

    Args:
        bits: of a weight.
    """
    most = 2 ** (bits - 1) - 1

    def rounded(weight_OI: Tensor) -> Tensor:
        scale_O1 = weight_OI.abs().amax(dim=1, keepdim=True).clamp(min=torch.finfo(weight_OI.dtype).tiny) / most
        return (weight_OI / scale_O1).round() * scale_O1

    return Simulation(rounded, _int8_inputs)


def blockwise_int4(block_size: int) -> Simulation:
    """Weights in 4 bits with a scale and a zero point per block of inputs; inputs stay in float."""

    def rounded(weight_OI: Tensor) -> Tensor:
        outputs, inputs = weight_OI.shape
        padded = nn.functional.pad(weight_OI, (0, -inputs % block_size))
        blocks = padded.reshape(outputs, -1, block_size)
        edges = blocks.amin(-1, keepdim=True), blocks.amax(-1, keepdim=True)
        return _asymmetric(blocks, *edges, BLOCK_LEVELS).reshape(outputs, -1)[:, :inputs]

    return Simulation(rounded, None)
