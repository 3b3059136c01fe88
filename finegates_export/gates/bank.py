"""All gates of a model in one parameter: sampled, penalised and clamped at once.

Shapes: N gates in all, U units of a group, R residual width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from finegates_export.errors import InputError
from finegates_export.families.structure import LinearSide, Structure
from finegates_export.gates.gate import CLOSED_MU, OPEN_MU, evaluation_gate, gate_noise, open_probability, training_gate
from finegates_export.gates.layout import WIDTH_GATE, Factor, GateLayout, UnitKey, residual_factors

Join = Callable[[Tensor], Tensor]
"""Joins gates along the first axis into one."""

LEAST_OPEN = 0.05
"""A gate that was kept when the structure was settled never falls under this value, so that it stays kept."""


class GateBank(nn.Module):
    """The gate vectors of one layout over one flat parameter `mu`.

    Args:
        layout: which vectors exist and what they act on.
        structure: the model's linears and units.
    """

    mu: Tensor
    alive: Tensor
    """False for a gate that was closed for good when the structure was settled."""
    keeps_units: Tensor
    """True for a gate on the side of a linear that holds units, False on the residual side."""

    def __init__(self, layout: GateLayout, structure: Structure) -> None:
        super().__init__()
        self.layout = layout
        self.structure = structure
        self._spans: dict[str, slice] = {}
        start = 0
        for gate in layout.gates:
            self._spans[gate.name] = slice(start, start + gate.size)
            start += gate.size
        self.mu = nn.Parameter(torch.full((start,), OPEN_MU))
        self.register_buffer("alive", torch.ones(start, dtype=torch.bool))
        keeps_units = torch.zeros(start, dtype=torch.bool)
        for factors in layout.units.values():
            for factor in factors:
                keeps_units[self._spans[factor.gate]] = True
        if layout.has_width:
            keeps_units[self._spans[WIDTH_GATE]] = True
        self._blocks: dict[LinearSide, dict[int, LinearSide]] = {}
        for side in layout.scales:
            self._blocks.setdefault(side.whole, {})[side.block] = side
        self.register_buffer("keeps_units", keeps_units, persistent=False)

    def __len__(self) -> int:
        return self.mu.numel()

    def values(self) -> Tensor:
        """Evaluation gates, shape (N,): what is folded and exported."""
        return evaluation_gate(self.mu) * self.alive

    def sample(self, sigma: float, seed: int, step: int) -> Tensor:
        """Training gates of one step, shape (N,); gates closed for good stay closed."""
        noise_N = gate_noise(len(self), sigma, seed, step).to(self.mu.device)
        return training_gate(self.mu, noise_N) * self.alive

    def scales(self, gates_N: Tensor) -> dict[LinearSide, Tensor]:
        """What to multiply each gated side of a linear by, given all gates; blocks of a fused linear side by side."""
        return {whole: self._whole(gates_N, blocks) for whole, blocks in self._blocks.items()}

    def width(self, gates_N: Tensor) -> Tensor | None:
        """The gates of the residual width, shape (R,); None where it is not gated."""
        return gates_N[self._spans[WIDTH_GATE]] if self.layout.has_width else None

    @torch.no_grad()
    def open_width(self) -> tuple[int, ...] | None:
        """The dims of the residual width that evaluation leaves open; None where all are, or none is gated.

        Where every one is closed the first stands for them, with nothing but zeros in it.
        """
        width_R = self.width(self.values())
        if width_R is None or bool((width_R > 0).all()):
            return None
        return tuple(int(dim) for dim in width_R.nonzero()[:, 0]) or (0,)

    def unit_products(self, gates_N: Tensor) -> dict[UnitKey, Tensor]:
        """Per unit group the joint value of all gates that keep a unit, shape (U,)."""
        products = {}
        for key, factors in self.layout.units.items():
            entering = torch.stack([self._entering(gates_N, factor, _either) for factor in factors])
            products[key] = _either(entering) if key in self.layout.any_keeps else entering.prod(dim=0)
        return products

    def kept_share(self, gates_N: Tensor) -> Tensor:
        """The share of the layers' linear weights that gates keep; a weight counts once, whoever closes it.

        Every matrix is cut along the side that holds units (all gates of the unit must be open) and scaled along
        its residual side. With open probabilities in place of gates this is the expected share, differentiable.
        """
        if not self.layout.units:
            return torch.ones((), device=self.mu.device)
        kept = torch.zeros((), device=self.mu.device)
        products = self.unit_products(gates_N)
        for group in self.structure.groups():
            rows = products[group.layer, group.kind].sum() * group.rows_per_unit
            for side in group.sides:
                factors = residual_factors(self.layout, side)
                residual = self._product(gates_N, factors).sum() if factors else self.structure.hidden_size
                kept = kept + rows * residual
        return kept / self.structure.linear_weights

    def expected_kept_share(self, sigma: float) -> Tensor:
        """The penalty: the kept share under P(w > 0) = Phi((mu + 0.5) / sigma); gates closed for good count 0."""
        return self.kept_share(open_probability(self.mu, sigma) * self.alive)

    @torch.no_grad()
    def closed_share(self) -> float:
        """The share of weights whose unit is closed in evaluation: removed, before any padding."""
        if not self.layout.units:
            return 0.0
        kept = 0
        gates_N = self.values()
        products, width_R = self.unit_products(gates_N), self.width(gates_N)
        width = self.structure.hidden_size if width_R is None else int((width_R > 0).sum())
        for group in self.structure.groups():
            open_units = int((products[group.layer, group.kind] > 0).sum())
            kept += open_units * group.unit_weights * width
        return 1.0 - kept / self.structure.linear_weights

    @torch.no_grad()
    def unit_scores(self) -> dict[UnitKey, Tensor]:
        """How open each unit is, shape (U,): its least open gate, not cut off at 1, so that it ranks them all.

        Not the product: a unit behind two gates (its head's and its own) would rank below an equally open one behind
        a single gate.
        """
        openness_N = (self.mu + 0.5).clamp(min=0.0) * self.alive
        scores = {}
        for key, factors in self.layout.units.items():
            entering = torch.stack([self._entering(openness_N, factor, _most) for factor in factors])
            scores[key] = _most(entering) if key in self.layout.any_keeps else entering.amin(dim=0)
        return scores

    @torch.no_grad()
    def width_scores(self) -> Tensor | None:
        """How open each dim of the residual width is, shape (R,), not cut off on either side; None without the gate."""
        return self.width(torch.where(self.alive, self.mu + 0.5, CLOSED_MU))

    @torch.no_grad()
    def settle(self, keep: dict[UnitKey, Tensor], width: Tensor | None = None) -> None:
        """Close for good every unit that is not kept, and lift the kept ones so that none of them dies later.

        Args:
            keep: per unit group a boolean tensor of shape (U,).
            width: boolean, shape (R,): which dims of a gated residual width are kept.
        """
        for key, factors in self.layout.units.items():
            kept_U = keep[key].to(self.mu.device)
            for factor in factors:
                # A gate over several dims (a head's) closes when all of them go.
                kept_gates = kept_U.view(-1, factor.repeat).any(dim=1)
                kept_gates = _each_half(kept_gates, factor.halves) if factor.halves else kept_gates
                self.alive[self._spans[factor.gate]] &= kept_gates
        if width is not None:
            self.alive[self._spans[WIDTH_GATE]] &= width.to(self.mu.device)
        self.hold()

    @torch.no_grad()
    def hold(self) -> None:
        """After an optimizer step on settled gates: closed ones stay closed, kept units stay above `LEAST_OPEN`."""
        kept = self.keeps_units & self.alive
        self.mu.copy_(torch.where(kept, self.mu.clamp(min=LEAST_OPEN - 0.5), self.mu))
        self.mu.masked_fill_(~self.alive, CLOSED_MU)

    def vectors(self) -> dict[str, Tensor]:
        """`mu` by gate name, copies."""
        return {name: self.mu.detach()[span].clone() for name, span in self._spans.items()}

    @torch.no_grad()
    def load_vectors(self, vectors: dict[str, Tensor]) -> None:
        """Set `mu` by gate name.

        Raises:
            InputError: a vector is missing, unknown, of the wrong length, or not finite.
        """
        unknown, missing = sorted(set(vectors) - set(self._spans)), sorted(set(self._spans) - set(vectors))
        if unknown or missing:
            problem = f"unknown gate vector {unknown[0]!r}" if unknown else f"no gate vector {missing[0]!r}"
            raise InputError(f"{problem}: the gates were made for another model or another layout")
        for name, span in self._spans.items():
            vector = vectors[name]
            expected = span.stop - span.start
            if vector.shape != (expected,):
                raise InputError(f"gate vector {name!r} has shape {tuple(vector.shape)}, the model needs ({expected},)")
            if not bool(torch.isfinite(vector).all()):
                raise InputError(f"gate vector {name!r} holds NaN or infinite values; train again or restore the file")
            self.mu[span] = vector.to(self.mu)
        self.alive.fill_(True)

    def _whole(self, gates_N: Tensor, blocks: dict[int, LinearSide]) -> Tensor:
        scaled = {number: self._product(gates_N, self.layout.scales[side]) for number, side in blocks.items()}
        first = next(iter(blocks.values()))
        rest = torch.ones_like(scaled[first.block])
        return torch.cat([scaled.get(number, rest) for number in range(first.blocks)])

    def _product(self, gates_N: Tensor, factors: Iterable[Factor]) -> Tensor:
        product: Tensor | None = None
        for factor in factors:
            gate = self._entering(gates_N, factor, _either)
            product = gate if product is None else product * gate
        if product is None:
            raise InputError("a product of gates needs at least one factor")
        return product

    def _entering(self, gates_N: Tensor, factor: Factor, join: Join) -> Tensor:
        gate = gates_N[self._spans[factor.gate]]
        if factor.repeat > 1:
            return gate.repeat_interleave(factor.repeat)
        if factor.pairs:
            return _each_half(gate, factor.pairs)
        if factor.halves:
            return join(gate.view(-1, 2, factor.halves).transpose(0, 1)).reshape(-1)
        return gate


def _each_half(gate: Tensor, width: int) -> Tensor:
    """From one per rotary pair to one per row: a head's pairs, twice."""
    return gate.view(-1, 1, width).expand(-1, 2, -1).reshape(-1)


def _either(gates: Tensor) -> Tensor:
    """Open while any is; of open probabilities the probability of that."""
    return 1.0 - (1.0 - gates).prod(dim=0)


def _most(gates: Tensor) -> Tensor:
    return gates.amax(dim=0)
