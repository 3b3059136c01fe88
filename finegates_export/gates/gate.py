"""The three formulas of a stochastic gate (FineGates, section 3; stochastic gates after Yamada et al., 2020).

`mu` is the learned location of a gate. Its value is 1 at `mu >= 0.5`, 0 at `mu <= -0.5`, and fractional between.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

OPEN_MU = 0.5
"""The smallest `mu` with an evaluation gate of exactly 1: gates start here, where noise gives them a gradient."""
CLOSED_MU = -1.0
"""The `mu` of a gate that was closed for good; its evaluation gate is exactly 0."""


def evaluation_gate(mu_N: Tensor) -> Tensor:
    """The deterministic gate that is exported: clamp(mu + 0.5, 0, 1)."""
    return (mu_N + 0.5).clamp(0.0, 1.0)


def training_gate(mu_N: Tensor, noise_N: Tensor) -> Tensor:
    """The stochastic gate of one step: clamp(mu + 0.5 + eps, 0, 1), with eps ~ N(0, sigma_noise^2) as an argument."""
    return (mu_N + 0.5 + noise_N).clamp(0.0, 1.0)


def open_probability(mu_N: Tensor, sigma: float) -> Tensor:
    """The penalty's surrogate for "this gate is open": Phi((mu + 0.5) / sigma)."""
    return 0.5 * (1.0 + ((mu_N + 0.5) / (sigma * math.sqrt(2.0))).erf())


def gate_noise(size: int, sigma: float, seed: int, step: int) -> Tensor:
    """Noise for all gates of one step, on the CPU.

    It depends only on `seed` and `step`, so every process of a distributed run and every resumed run draws the same.

    Args:
        size: number of gates.
        sigma: standard deviation of the noise, in gate units.
        seed: the run's seed.
        step: the optimizer step.
    """
    import torch

    # numpy mixes a list of seeds; torch's generator keeps 32 bits, and seed and step would collide in them.
    drawn = np.random.default_rng([seed, step]).standard_normal(size, dtype=np.float32)
    return torch.from_numpy(drawn) * sigma
