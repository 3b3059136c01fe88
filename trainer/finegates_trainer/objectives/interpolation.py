"""A table of costs as a differentiable function: multilinear between its knots.

Shapes: L layers.
"""

from __future__ import annotations

from itertools import product

import numpy as np
import torch
from torch import Tensor

from finegates_export.costs.grid import Grid

TILT = 0.2
"""Share of the even slope in `TiltedGrid`."""


class SmoothGrid:
    """A measured grid at expected widths, between the measured ones.

    Args:
        grid: knots and milliseconds.
        device: the widths' device.
    """

    def __init__(self, grid: Grid, device: torch.device) -> None:
        self._axes = [torch.tensor(axis, dtype=torch.float32, device=device) for axis in grid.axes]
        self._values = torch.tensor(np.ascontiguousarray(grid.milliseconds), dtype=torch.float32, device=device)

    def __call__(self, *coordinates: Tensor) -> Tensor:
        """Milliseconds, shape (L,).

        Args:
            coordinates: one tensor per axis, shape (L,); values are clamped to the outermost knots.
        """
        lows, shares = [], []
        for axis, wanted_L in zip(self._axes, coordinates, strict=True):
            at_L = wanted_L.clamp(float(axis[0]), float(axis[-1]))
            low_L = torch.searchsorted(axis, at_L.detach(), right=True).sub(1).clamp(0, len(axis) - 2)
            lows.append(low_L)
            shares.append((at_L - axis[low_L]) / (axis[low_L + 1] - axis[low_L]))
        total = torch.zeros_like(coordinates[0])
        for corner in product((0, 1), repeat=len(lows)):
            weight = torch.ones_like(total)
            for upper, share_L in zip(corner, shares, strict=True):
                weight = weight * (share_L if upper else 1.0 - share_L)
            total = total + weight * self._values[tuple(low + upper for low, upper in zip(lows, corner, strict=True))]
        return total


class TiltedGrid:
    """A grid with a slope everywhere, for gradients: on flat steps the grid itself has none.

    Args:
        grid: knots and milliseconds.
        device: the widths' device.
    """

    def __init__(self, grid: Grid, device: torch.device) -> None:
        ends = np.ix_(*((0, len(axis) - 1) for axis in grid.axes))
        even = Grid(tuple((axis[0], axis[-1]) for axis in grid.axes), grid.milliseconds[ends])
        self._exact, self._even = SmoothGrid(grid, device), SmoothGrid(even, device)

    def __call__(self, *coordinates: Tensor) -> Tensor:
        """See `SmoothGrid`; equal at both ends of every axis."""
        return (1.0 - TILT) * self._exact(*coordinates) + TILT * self._even(*coordinates)
