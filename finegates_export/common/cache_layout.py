"""The cache of keys and values that a decoder's graph takes and gives: which layers have one, and how wide it is.

Layers differ once they are shrunk: in heads, in the width of keys and in that of values, and a layer without attention
has no cache. Names and numbers of layers are those of the unpruned model. Light: the runtime may import it.

Shapes: B rows, P tokens of the past, T tokens with the new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IDS, MASK, POSITIONS = "input_ids", "attention_mask", "position_ids"
INPUTS = (IDS, MASK, POSITIONS)
"""Those in front of the cache's."""
PAST, PRESENT = "past_key_values", "present"
PARTS = ("key", "value")


@dataclass(frozen=True)
class LayerCache:
    """What one layer keeps of each token."""

    layer: int
    """Its number in the model."""
    heads: int
    """Those of keys and values."""
    key_width: int
    value_width: int

    @property
    def widths(self) -> tuple[int, int]:
        """Of a head's key and of its value."""
        return self.key_width, self.value_width


@dataclass(frozen=True)
class CacheLayout:
    """The caches of a model's layers."""

    layer_count: int
    """Layers of the model, those without attention among them."""
    layers: tuple[LayerCache, ...]
    """Those with attention, in order."""

    @classmethod
    def of_inputs(cls, shapes: Mapping[str, Sequence[int | str]]) -> CacheLayout:
        """That which a graph takes.

        Args:
            shapes: of its inputs, by name; free axes have names.
        """
        numbers = sorted(int(name.split(".")[1]) for name in shapes if name.endswith(f".{PARTS[0]}"))
        found = [[shapes[f"{PAST}.{number}.{part}"] for part in PARTS] for number in numbers]
        caches = [
            LayerCache(number, int(key[1]), int(key[3]), int(value[3]))
            for number, (key, value) in zip(numbers, found, strict=True)
        ]
        return cls(max(numbers, default=-1) + 1, tuple(caches))

    @property
    def past_names(self) -> tuple[str, ...]:
        """The graph's inputs: key and value of each layer in turn."""
        return tuple(f"{PAST}.{one.layer}.{part}" for one in self.layers for part in PARTS)

    @property
    def present_names(self) -> tuple[str, ...]:
        """The graph's outputs, in the order of `past_names`."""
        return tuple(f"{PRESENT}.{one.layer}.{part}" for one in self.layers for part in PARTS)

    def empty(self, rows: int) -> dict[str, npt.NDArray[np.float32]]:
        """A past of no tokens, by input name: shapes (B, heads, 0, width)."""
        shapes = [(one.heads, width) for one in self.layers for width in one.widths]
        arrays = [np.zeros((rows, heads, 0, width), np.float32) for heads, width in shapes]
        return dict(zip(self.past_names, arrays, strict=True))

    def to_json(self) -> dict[str, Any]:
        """As `bundle.json` says it."""
        return {"layers": self.layer_count, "cached": [asdict(one) for one in self.layers]}
