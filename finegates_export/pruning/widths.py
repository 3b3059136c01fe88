"""The widths that a target prefers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Sizes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Widths:
    """Preferred multiples of a target: of heads' Q/K and V widths, and of feed-forward widths."""

    head_multiple: int = 1
    ffn_multiple: int = 1

    def head_options(self, head_dim: int, rows_per_unit: int = 1) -> Sizes:
        """Allowed widths of a kept head, in units, ascending; always includes the original one."""
        return _multiples(head_dim // rows_per_unit, -(-self.head_multiple // rows_per_unit))

    def ffn_options(self, intermediate_size: int) -> Sizes:
        """Allowed feed-forward widths, ascending, including 0."""
        return np.concatenate([np.zeros(1, np.int64), _multiples(intermediate_size, self.ffn_multiple)])


def _multiples(size: int, multiple: int) -> Sizes:
    widths = np.arange(multiple, size + 1, multiple)
    return widths if widths.size and widths[-1] == size else np.append(widths, size)
