"""Whether Q, K and V of equally wide heads are better computed by one packed operator or by three products.

onnxruntime's packed attention multiplies head by head, and its matrix kernels work in strips of 16 columns: the columns
that a head lacks to a whole strip are computed all the same. Three products for all heads together waste nothing, and
cost a little more to start. `make bench-layers` measures both ways at every width.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

STRIP = 16
"""Columns that the matrix kernels compute at a time."""
MOST_WASTED = 32
"""Columns, all heads together, from which on three products are faster."""


def packs_well(heads: npt.ArrayLike, width: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether one operator is the faster way.

    Args:
        heads: how many there are.
        width: dims of each.
    """
    return np.asarray(np.asarray(heads) * (-np.asarray(width) % STRIP) < MOST_WASTED)


def packed_width(width: npt.ArrayLike, head_dim: int) -> npt.NDArray[np.int64]:
    """The width that costs the same as this one when packed: whole strips, at most the whole head."""
    return np.minimum(-(-np.asarray(width) // STRIP) * STRIP, head_dim).astype(np.int64)
