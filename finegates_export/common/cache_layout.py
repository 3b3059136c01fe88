"""The key-value cache that a decoder's graph takes and returns: which layers have one, and how wide it is.

Shrunk layers differ in heads, key width and value width; a layer without attention has no cache. Layers keep the names
and numbers of the unpruned model. Light: the runtime may import it.

Shapes: B rows, P past tokens, T tokens including the new ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt

IDS, MASK, POSITIONS = "input_ids", "attention_mask", "position_ids"
INPUTS = (IDS, MASK, POSITIONS)
"""The inputs before those of the cache."""
PAST, PRESENT = "past_key_values", "present"
PARTS = ("key", "value")


@dataclass(frozen=True)
class LayerCache:
    """What one layer caches for each token."""

    layer: int
    """The layer's number in the model."""
    heads: int
    """Key-value heads."""
    key_width: int
    value_width: int

    @property
    def widths(self) -> tuple[int, int]:
        """Key width and value width of a head."""
        return self.key_width, self.value_width


@dataclass(frozen=True)
class CacheLayout:
    """The caches of a model's layers."""

    layer_count: int
    """Layers of the model, including those without attention."""
    layers: tuple[LayerCache, ...]
    """The layers with attention, in order."""

    @classmethod
    def of_inputs(cls, shapes: Mapping[str, Sequence[int | str]]) -> CacheLayout:
        """The layout that a graph takes.

        Args:
            shapes: shapes of its inputs, by name; free axes have names.
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
        """The graph's inputs: key, then value, of each layer."""
        return tuple(f"{PAST}.{one.layer}.{part}" for one in self.layers for part in PARTS)

    @property
    def present_names(self) -> tuple[str, ...]:
        """The graph's outputs, in the order of `past_names`."""
        return tuple(f"{PRESENT}.{one.layer}.{part}" for one in self.layers for part in PARTS)

    def empty(self, rows: int) -> dict[str, npt.NDArray[np.float32]]:
        """A past without tokens, by input name: shapes (B, heads, 0, width)."""
        shapes = [(one.heads, width) for one in self.layers for width in one.widths]
        arrays = [np.zeros((rows, heads, 0, width), np.float32) for heads, width in shapes]
        return dict(zip(self.past_names, arrays, strict=True))

    def to_json(self) -> dict[str, object]:
        """The layout as written in `bundle.json`."""
        return {"layers": self.layer_count, "cached": [asdict(one) for one in self.layers]}
