"""All products of a model's gates at once.

The gates of each product are looked up once, when the model is made. A step then costs one gather and one
multiplication per factor, for any number of layers.

Shapes: N gates, P elements of all rows, F factors of the row with the most, R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

from finegates_export.gates.layout import Factor

Key = TypeVar("Key", bound=Hashable)
Join = Callable[[Tensor], Tensor]
"""Joins gates along the first axis into one."""


@dataclass(frozen=True)
class Row:
    """One vector of products: consecutive parts of equal size."""

    parts: tuple[tuple[Factor, ...], ...]
    """The factors of each part; a part without factors is ones."""
    size: int
    """Elements of a part."""
    any_keeps: bool = False
    """Joined as "any is open" instead of "all are"."""

    @property
    def length(self) -> int:
        """Total number of elements."""
        return len(self.parts) * self.size


class GateProducts(nn.Module, Generic[Key]):
    """Rows of products over one flat vector of gates.

    Args:
        rows: the rows by key.
        spans: the place of each gate vector in the flat one.
        gates: length of the flat one, N.
    """

    index: Tensor
    """The gate of each factor, shape (F * P,); after the N gates come the two constants, then the joined gates."""
    joined: Tensor
    """Members of joined gates, shape (most members, joined gates); shorter ones are padded with zeros."""
    any_keeps: Tensor
    """True for elements kept by any factor, shape (P,)."""

    def __init__(self, rows: Mapping[Key, Row], spans: Mapping[str, slice], gates: int) -> None:
        super().__init__()
        # Rows of one length are adjacent, so that summing each is one operation per length.
        self.keys = sorted(rows, key=lambda key: rows[key].length)
        self.lengths = [rows[key].length for key in self.keys]
        index = _Index(spans, gates)
        factors = max((len(part) for row in rows.values() for part in row.parts), default=0)
        columns = [torch.empty(max(1, factors), 0, dtype=torch.int64)]
        for key in self.keys:
            row = rows[key]
            for part in row.parts:
                neutral = index.zero if row.any_keeps else index.one
                entering = [index.of(factor) for factor in part]
                rest = [torch.full((row.size,), neutral)] * (max(1, factors) - len(part))
                columns.append(torch.stack([*entering, *rest]))
        index_FP = torch.cat(columns, 1)
        kept = [torch.full((rows[key].length,), rows[key].any_keeps) for key in self.keys]
        self._factors = len(index_FP)
        self._extended = bool((index_FP >= gates).any())
        self._any = any(row.any_keeps for row in rows.values())
        self.register_buffer("index", index_FP.flatten(), persistent=False)
        self.register_buffer("joined", index.joined(), persistent=False)
        self.register_buffer("any_keeps", torch.cat([torch.empty(0, dtype=torch.bool), *kept]), persistent=False)

    def forward(self, gates_N: Tensor) -> Tensor:
        """The products, shape (P,); of open probabilities, the probability that a unit is open."""
        entering = self._entering(gates_N, 1.0, either)
        product_P = reduce(torch.mul, entering)
        return torch.where(self.any_keeps, either(torch.stack(entering)), product_P) if self._any else product_P

    def least(self, openness_N: Tensor) -> Tensor:
        """The least factor instead of the product, and the greatest instead of "any"; shape (P,)."""
        entering = self._entering(openness_N, torch.inf, _most)
        least_P = reduce(torch.minimum, entering)
        return torch.where(self.any_keeps, _most(torch.stack(entering)), least_P) if self._any else least_P

    def by_key(self, values_P: Tensor) -> dict[Key, Tensor]:
        """One view per row."""
        return dict(zip(self.keys, values_P.split(self.lengths), strict=True))

    def sums(self, values_P: Tensor) -> Tensor:
        """The sum of each row, shape (R,), in the order of `keys`."""
        counts = {length: self.lengths.count(length) for length in self.lengths}
        blocks = values_P.split([length * count for length, count in counts.items()])
        sums = [block.view(count, -1).sum(1) for block, count in zip(blocks, counts.values(), strict=True)]
        return torch.cat([values_P[:0], *sums])

    def _entering(self, gates_N: Tensor, one: float, join: Join) -> tuple[Tensor, ...]:
        if self._extended:
            constants = torch.tensor([one, 0.0], dtype=gates_N.dtype, device=gates_N.device)
            gates_N = torch.cat([gates_N, constants])
            if self.joined.numel():
                gates_N = torch.cat([gates_N, join(gates_N[self.joined])])
        return gates_N.index_select(0, self.index).view(self._factors, -1).unbind()


class _Index:
    """Positions in and after the flat vector."""

    def __init__(self, spans: Mapping[str, slice], gates: int) -> None:
        self._spans = spans
        self.one, self.zero = gates, gates + 1
        self._next = gates + 2
        self._found: dict[Factor, Tensor] = {}
        self._joined: list[Tensor] = []

    def of(self, factor: Factor) -> Tensor:
        """The position of each element of a factor."""
        span = self._spans[factor.gate]
        own = torch.arange(span.start, span.stop)
        if factor.joined > 1:
            own = self._join(factor, own)
        return each_run(own, factor.run, factor.times).repeat_interleave(factor.repeat)

    def joined(self) -> Tensor:
        """The members of all joined gates, shape (most members, joined gates)."""
        most = max(map(len, self._joined), default=0)
        padded = [nn.functional.pad(gates, (0, 0, 0, most - len(gates)), value=self.zero) for gates in self._joined]
        return torch.cat([torch.empty(most, 0, dtype=torch.int64), *padded], 1)

    def _join(self, factor: Factor, own: Tensor) -> Tensor:
        if factor not in self._found:
            runs = own.view(-1, factor.joined, factor.run).transpose(0, 1).reshape(factor.joined, -1)
            self._found[factor] = torch.arange(self._next, self._next + runs.shape[1])
            self._next += runs.shape[1]
            self._joined.append(runs)
        return self._found[factor]


def each_run(gates: Tensor, width: int, times: int) -> Tensor:
    """Repeat each run of gates: from one per unit of a head to one per row."""
    return gates if times == 1 else gates.view(-1, 1, width).expand(-1, times, -1).reshape(-1)


def either(gates: Tensor) -> Tensor:
    """Open while any is open; for open probabilities, the probability of that."""
    return 1.0 - reduce(torch.mul, (1.0 - gates).unbind())


def _most(gates: Tensor) -> Tensor:
    return gates.amax(dim=0)
