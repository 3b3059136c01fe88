"""What is removed, what is kept, and why. Slicing decides nothing: every decision is in the plan made by `planner`.

Heads of one layer are padded to the widest of them with dead dims, kept as zeros.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from finegates_export.errors import InputError

Dims = tuple[int, ...]


@dataclass(frozen=True)
class AttentionPlan:
    """One layer's attention."""

    heads_before: int
    width_before: int
    heads: Dims
    """Kept heads, by their old numbers; empty: the sublayer is a constant."""
    qk: tuple[Dims, ...]
    """Per kept head, its kept Q/K dims by their old numbers within the head; the same number for each.

    Under rotary embeddings the first halves of the kept pairs come first, then their second halves.
    """
    vo: tuple[Dims, ...]
    """The same for V/O dims."""
    constants: Dims
    """Removed V/O dims whose V row is only a bias, by their rows in V; O's product with it is folded into O's bias."""
    padding: int
    """Dead Q/K and V/O dims kept as zeros so that heads have equal widths."""
    why: str
    group: int = 1
    """Query heads that share each head: a head's dims apply to each of them."""

    @property
    def qk_width(self) -> int:
        """Q/K dims per kept head."""
        return len(self.qk[0]) if self.qk else 0

    @property
    def vo_width(self) -> int:
        """V/O dims per kept head."""
        return len(self.vo[0]) if self.vo else 0

    def rows(self, dims: tuple[Dims, ...], copies: int = 1) -> list[int]:
        """Positions of the kept dims in the linear, head-major, with each head's repeated as in Q and O."""
        return [
            (head * copies + copy) * self.width_before + dim
            for head, kept in zip(self.heads, dims, strict=True)
            for copy in range(copies)
            for dim in kept
        ]

    def columns(self, values: Dims) -> list[list[int]]:
        """For each query head of a group, the columns of O that read these rows of V."""
        heads = [divmod(row, self.width_before) for row in values]
        return [
            [(head * self.group + copy) * self.width_before + dim for head, dim in heads] for copy in range(self.group)
        ]


@dataclass(frozen=True)
class FeedForwardPlan:
    """One layer's feed-forward network."""

    width_before: int
    neurons: Dims
    """Kept neurons; empty: the sublayer is a constant."""
    constants: Dims
    """Removed neurons with constant output act(bias); down's product with it is folded into down's bias."""
    padding: int
    why: str
    matrices: int = 2
    """Matrices that hold a neuron: up and down, or 3 where a factor multiplies it."""


@dataclass(frozen=True)
class LayerPlan:
    """One layer."""

    layer: int
    attention: AttentionPlan
    feed_forward: FeedForwardPlan

    def kept_weights(self, width: int) -> int:
        """Kept linear weights, given this many residual dims."""
        attention, feed_forward = self.attention, self.feed_forward
        dims = len(attention.heads) * (attention.qk_width + attention.vo_width)
        return width * ((1 + attention.group) * dims + feed_forward.matrices * len(feed_forward.neurons))


Side = Literal["reads", "writes"]
"""What a linear does with the residual stream at the side in question."""


@dataclass(frozen=True)
class ResidualPlan:
    """The treatment of closed dims on the residual side of one linear."""

    linear: str
    side: Side
    width: int
    """Dims of the residual stream."""
    dims: Dims
    """The dims that the linear really reads or writes, by their numbers in the shrunk model."""
    units: int
    """Rows or columns on the other side of the shrunk linear."""
    gathered: bool
    """Whether a gather makes the matrix smaller; otherwise the closed dims stay in it as zeros."""
    why: str

    @property
    def saved_weights(self) -> int:
        """Elements that the gather removes from the matrix; a write keeps one zero column to scatter from."""
        if not self.gathered:
            return 0
        return self.units * (self.width - len(self.dims) - (self.side == "writes"))


@dataclass(frozen=True)
class ShrinkPlan:
    """The whole model. `str(plan)` is the table that users read."""

    hidden_size: int
    layers: tuple[LayerPlan, ...]
    linear_weights: int
    """Elements of the layers' linear weights in the base."""
    width: Dims | None = None
    """Kept dims of the residual stream, by their old numbers; None if all are."""
    residual: tuple[ResidualPlan, ...] = ()
    """Linears with closed dims on their residual side (matrix layout)."""

    @property
    def residual_width(self) -> int:
        """Number of kept dims of the residual stream."""
        return self.hidden_size if self.width is None else len(self.width)

    @property
    def kept_weights(self) -> int:
        """Kept elements of the layers' linear weights, padding included."""
        layers = sum(layer.kept_weights(self.residual_width) for layer in self.layers)
        return layers - sum(side.saved_weights for side in self.residual)

    @property
    def removed(self) -> float:
        """The removed share, 1 - kept / base: the aim of training and the figure in reports."""
        return 1.0 - self.kept_weights / self.linear_weights

    @property
    def padding_weights(self) -> int:
        """Dead elements that are kept so that widths fit."""
        units = sum(
            (1 + layer.attention.group) * layer.attention.padding
            + layer.feed_forward.matrices * layer.feed_forward.padding
            for layer in self.layers
        )
        return self.residual_width * units

    @property
    def attention_layers(self) -> int:
        """Layers with at least one head left."""
        return sum(bool(layer.attention.heads) for layer in self.layers)

    @property
    def feed_forward_layers(self) -> int:
        """Layers with at least one neuron left."""
        return sum(bool(layer.feed_forward.neurons) for layer in self.layers)

    def kept_flops(self, batch: int, sequence: int) -> float:
        """Kept share of the unpruned layers' floating-point operations: linears, Q K^T and A V."""
        return self._flops(batch, sequence, kept=True) / self._flops(batch, sequence, kept=False)

    def flops(self, batch: int, sequence: int) -> int:
        """Floating-point operations of the kept layers."""
        return self._flops(batch, sequence, kept=True)

    def _flops(self, batch: int, sequence: int, *, kept: bool) -> int:
        per_token = 2 * (self.kept_weights if kept else self.linear_weights)
        total = per_token * batch * sequence
        for layer in self.layers:
            attention = layer.attention
            if kept:
                dims = len(attention.heads) * (attention.qk_width + attention.vo_width)
            else:
                dims = 2 * attention.heads_before * attention.width_before
            total += 2 * attention.group * dims * batch * sequence * sequence
        return total

    def to_json(self) -> dict[str, object]:
        """Everything, as JSON types."""
        return {**asdict(self), "removed": self.removed, "padding_weights": self.padding_weights}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> ShrinkPlan:
        """Rebuild from `to_json`.

        Raises:
            InputError: something is missing or invalid.
        """
        try:
            layers = tuple(
                LayerPlan(
                    entry["layer"],
                    AttentionPlan(**_tuples(entry["attention"])),
                    FeedForwardPlan(**_tuples(entry["feed_forward"])),
                )
                for entry in values["layers"]
            )
            return cls(
                values["hidden_size"],
                layers,
                values["linear_weights"],
                _tuples(values["width"]),
                tuple(ResidualPlan(**_tuples(side)) for side in values["residual"]),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"not a shrink plan of this version: {error}") from error

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"{'layer':>5}  {'heads':>9}  {'Q/K':>9}  {'V/O':>9}  {'FFN':>13}  {'padding':>7}  why"
        for layer in self.layers:
            attention, feed_forward = layer.attention, layer.feed_forward
            heads = f"{attention.heads_before} -> {len(attention.heads)}"
            qk = f"{attention.width_before} -> {attention.qk_width}"
            vo = f"{attention.width_before} -> {attention.vo_width}"
            ffn = f"{feed_forward.width_before} -> {len(feed_forward.neurons)}"
            padding = attention.padding + feed_forward.padding
            why = "; ".join(reason for reason in (attention.why, feed_forward.why) if reason) or "nothing is dead"
            yield f"{layer.layer:>5}  {heads:>9}  {qk:>9}  {vo:>9}  {ffn:>13}  {padding:>7}  {why}"
        if self.width is not None:
            yield f"residual width: {self.hidden_size} -> {len(self.width)}"
        for side in self.residual:
            yield f"{side.linear} {side.side} {len(side.dims)} of {side.width} dims: {side.why}"
        yield (
            f"removed {self.removed:.1%} of the layers' linear weights "
            f"({self.linear_weights:,} -> {self.kept_weights:,}, {self.padding_weights:,} of them padding)"
        )


def _tuples(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    if isinstance(value, dict):
        return {name: _tuples(item) for name, item in value.items()}
    return value
