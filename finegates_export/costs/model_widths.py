"""The widths that the exporter makes from masks over a model's units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from finegates_export.families.structure import Structure
from finegates_export.gates.layout import UnitKey
from finegates_export.pruning.widths import Widths

if TYPE_CHECKING:
    from finegates_export.costs.counted_costs import SublayerCosts

Mask = npt.NDArray[np.bool_]
ANY_WIDTH = Widths()


@dataclass(frozen=True)
class ModelWidths:
    """The widths of every layer; models with equal widths take equal time."""

    heads: tuple[int, ...]
    qk: tuple[int, ...]
    """Q/K dims per head; 0 if no head is left."""
    vo: tuple[int, ...]
    neurons: tuple[int, ...]

    @classmethod
    def of(cls, keep: Mapping[UnitKey, Mask], structure: Structure, widths: Widths = ANY_WIDTH) -> ModelWidths:
        """The widths of the coupled layout's model with these units, as the planner makes them.

        Args:
            keep: per unit group a mask of shape (units,): True stays.
            structure: the model's units.
            widths: the widths that the target prefers.
        """
        rows = []
        for layer in structure.layers:
            qk, vo, ffn = layer.groups()
            qk_hd = np.asarray(keep[layer.index, "qk"], bool).reshape(qk.heads, qk.width)
            vo_hd = np.asarray(keep[layer.index, "vo"], bool).reshape(vo.heads, vo.width)
            stays = qk_hd.any(1) & vo_hd.any(1)  # a head's gate closes if all its dims of either kind close
            dims = [
                _round_up(max(1, int(hd[stays].sum(1).max(initial=0))), options)
                for hd, options in (
                    (qk_hd, widths.head_options(layer.attention.head_dim, qk.rows_per_unit)),
                    (vo_hd, widths.head_options(layer.attention.head_dim)),
                )
            ]
            neurons = _round_up(int(np.sum(keep[layer.index, "ffn"])), widths.ffn_options(ffn.width))
            heads = int(stays.sum())
            rows.append((heads, dims[0] * qk.rows_per_unit, dims[1], neurons) if heads else (0, 0, 0, neurons))
        heads_L, qk_L, vo_L, neurons_L = (tuple(column) for column in zip(*rows, strict=True))
        return cls(heads_L, qk_L, vo_L, neurons_L)

    def layers_ms(self, costs: Sequence[SublayerCosts]) -> float:
        """The total cost of all layers' halves.

        Args:
            costs: one per layer.
        """
        return float(
            sum(
                table.attention_ms(heads, qk, vo) + table.feed_forward_ms(neurons)
                for table, heads, qk, vo, neurons in zip(costs, self.heads, self.qk, self.vo, self.neurons, strict=True)
            )
        )


def _round_up(width: int, options: npt.NDArray[np.int64]) -> int:
    return int(options[options >= width][0])
