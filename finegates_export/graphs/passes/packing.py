"""Whether one packed operator or three products compute Q, K and V of equally wide heads faster.

onnxruntime's packed attention multiplies head by head, and its matrix kernels work in strips of 16 columns: each head's
last strip is computed whole, however little of it is used. Three products for all heads waste nothing, but cost a
little more to start. `make bench-layers` measures both ways at every width.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

STRIP = 16
"""Columns that the matrix kernels compute at a time."""
MOST_WASTED = 32
"""Columns of all heads from which three products are faster."""


def packs_well(heads: npt.ArrayLike, width: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether one operator is faster.

    Args:
        heads: how many there are.
        width: dims of each.
    """
    return np.asarray(np.asarray(heads) * (-np.asarray(width) % STRIP) < MOST_WASTED)


def packed_width(width: npt.ArrayLike, head_dim: int) -> npt.NDArray[np.int64]:
    """The width that costs the same as this one when packed: whole strips, at most the whole head."""
    return np.minimum(-(-np.asarray(width) // STRIP) * STRIP, head_dim).astype(np.int64)
