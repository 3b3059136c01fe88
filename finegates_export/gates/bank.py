"""All gates of a model in one parameter: sampled, penalised and clamped at once.

Shapes: N gates in all, U units of a group, R residual width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from finegates_export.errors import InputError
from finegates_export.families.structure import LinearSide, Structure
from finegates_export.gates.gate import CLOSED_MU, OPEN_MU, evaluation_gate, gate_noise, open_probability, training_gate
from finegates_export.gates.layout import WIDTH_GATE, Factor, GateLayout, UnitKey, residual_factors
from finegates_export.gates.products import GateProducts, Row, each_run

JUST_CLOSED = 0.01
"""Openness of a gate at the edge of being open; more closed gates count less, down to 0."""
LEAST_OPEN = 0.05
"""A gate kept at settling never falls below this value, so that it stays kept."""


class GateBank(nn.Module):
    """The gate vectors of one layout over one flat parameter `mu`.

    Args:
        layout: which vectors exist and what they act on.
        structure: the model's linears and units.
    """

    mu: Tensor
    alive: Tensor
    """False for a gate closed for good at settling."""
    keeps_units: Tensor
    """True for a gate on the unit side of a linear, False on the residual side."""
    unit_weights: Tensor
    """Weights of each unit per residual dim, in the order of the unit products."""
    vector_sizes: Tensor
    """Gates of each vector, in the order of `means`."""
    side_units: Tensor
    side_residual: Tensor
    side_weights: Tensor
    """For each unit side: its row of unit products, its row of residual products, its rows per unit."""

    def __init__(self, layout: GateLayout, structure: Structure) -> None:
        super().__init__()
        self.layout = layout
        self.structure = structure
        self._spans: dict[str, slice] = {}
        start = 0
        for gate in layout.gates:
            self._spans[gate.name] = slice(start, start + gate.size)
            start += gate.size
        # Without gates there is nothing to learn, and a distributed run would wait forever for a gradient.
        self.mu = nn.Parameter(torch.full((start,), OPEN_MU), requires_grad=start > 0)
        self.register_buffer("alive", torch.ones(start, dtype=torch.bool))
        keeps_units = torch.zeros(start, dtype=torch.bool)
        for factors in layout.units.values():
            for factor in factors:
                keeps_units[self._spans[factor.gate]] = True
        if layout.has_width:
            keeps_units[self._spans[WIDTH_GATE]] = True
        self.register_buffer("keeps_units", keeps_units, persistent=False)
        self._scales = GateProducts(self._scale_rows(), self._spans, start)
        self._units = GateProducts(self._unit_rows(), self._spans, start)
        self._residual = GateProducts(self._residual_rows(), self._spans, start)
        vectors = {gate.name: Row(((Factor(gate.name),),), gate.size) for gate in layout.gates}
        self._vectors = GateProducts(vectors, self._spans, start)
        sizes = torch.tensor(self._vectors.lengths, dtype=torch.float32)
        self.register_buffer("vector_sizes", sizes, persistent=False)
        self._count_sides()

    def __len__(self) -> int:
        return self.mu.numel()

    def values(self) -> Tensor:
        """Evaluation gates, shape (N,), as folded and exported."""
        return evaluation_gate(self.mu) * self.alive

    def sample(self, sigma: float, seed: int, step: int) -> Tensor:
        """Training gates of one step, shape (N,); gates closed for good stay closed."""
        noise_N = gate_noise(len(self), sigma, seed, step).to(self.mu.device)
        return training_gate(self.mu, noise_N) * self.alive

    def means(self, values_N: Tensor) -> Tensor:
        """The mean over each gate vector of a value per gate; one number per vector."""
        return self._vectors.sums(self._vectors(values_N)) / self.vector_sizes

    def scales(self, gates_N: Tensor) -> dict[LinearSide, Tensor]:
        """What to multiply each gated side of a linear by, given all gates; blocks of a fused linear in a row."""
        return self._scales.by_key(self._scales(gates_N))

    def width(self, gates_N: Tensor) -> Tensor | None:
        """The gates of the residual width, shape (R,); None if it is not gated."""
        return gates_N[self._spans[WIDTH_GATE]] if self.layout.has_width else None

    @torch.no_grad()
    def open_width(self) -> tuple[int, ...] | None:
        """The residual dims that are open in evaluation; None if all are, or without a width gate.

        If all are closed, the first one is kept, holding only zeros.
        """
        width_R = self.width(self.values())
        if width_R is None or bool((width_R > 0).all()):
            return None
        return tuple(int(dim) for dim in width_R.nonzero()[:, 0]) or (0,)

    def unit_products(self, gates_N: Tensor) -> dict[UnitKey, Tensor]:
        """Per unit group, the joint value of all gates that keep a unit, shape (U,)."""
        return self._units.by_key(self._units(gates_N))

    def kept_share(self, gates_N: Tensor) -> Tensor:
        """The share of the layers' linear weights that gates keep; a weight counts once, whichever gate closes it.

        Every matrix is cut along its unit side (all gates of the unit must be open) and scaled along
        its residual side. With open probabilities instead of gates, this is the expected share, differentiable.
        """
        if not self.layout.units:
            return torch.ones((), device=self.mu.device)
        rows_R = self._units.sums(self._units(gates_N))
        residual_R = self._residual.sums(self._residual(gates_N))
        kept_S = rows_R[self.side_units] * residual_R[self.side_residual] * self.side_weights
        return kept_S.sum() / self.structure.linear_weights

    def expected_kept_share(self, sigma: float) -> Tensor:
        """The penalty: the kept share under P(w > 0) = Phi((mu + 0.5) / sigma); gates closed for good count 0."""
        return self.kept_share(open_probability(self.mu, sigma) * self.alive)

    @torch.no_grad()
    def closed_share(self) -> float:
        """The share of weights whose unit is closed in evaluation: removed, before any padding."""
        if not self.layout.units:
            return 0.0
        gates_N = self.values()
        # In integers: float32 cannot count that many weights exactly.
        kept = ((self._units(gates_N) > 0) * self.unit_weights).sum()
        width_R = self.width(gates_N)
        kept = kept * (self.structure.hidden_size if width_R is None else (width_R > 0).sum())
        return 1.0 - int(kept) / self.structure.linear_weights

    @torch.no_grad()
    def nominal_share(self) -> float:
        """The share of weights behind a closed gate, matrix by matrix.

        Exceeds `closed_share` where gates close residual sides: other layers need those dims, so none can be cut.
        """
        return max(0.0, 1.0 - float(self.kept_share((self.values() > 0).float())))

    @torch.no_grad()
    def unit_scores(self) -> dict[UnitKey, Tensor]:
        """How open each unit is, shape (U,): its least open gate, not clamped to [0, 1], so that units can be ranked.

        Never negative, and small for every closed gate, so that none outweighs an open one. Not the product: a unit
        with two gates (its head's and its own) would rank below an equally open one with a single gate.
        """
        open_N = self.mu + 0.5
        openness_N = (open_N.clamp(min=0.0) + JUST_CLOSED * open_N.clamp(max=0.0).exp()) * self.alive
        return self.unit_least(openness_N)

    def unit_least(self, values_N: Tensor) -> dict[UnitKey, Tensor]:
        """Per unit group, the least value over all gates that keep a unit, shape (U,)."""
        return self._units.by_key(self._units.least(values_N))

    @torch.no_grad()
    def width_scores(self) -> Tensor | None:
        """How open each dim of the residual width is, shape (R,), not clamped; None without the gate."""
        return self.width(torch.where(self.alive, self.mu + 0.5, CLOSED_MU))

    @torch.no_grad()
    def settle(self, keep: dict[UnitKey, Tensor], width: Tensor | None = None) -> None:
        """Close every unit that is not kept for good, and lift the kept ones so that none of them closes later.

        Args:
            keep: per unit group, a boolean tensor of shape (U,).
            width: boolean, shape (R,): which dims of a gated residual width are kept.
        """
        for key, factors in self.layout.units.items():
            kept_U = keep[key].to(self.mu.device)
            for factor in factors:
                # A gate over several units (a head's, or one that heads share) closes if all of them go.
                kept_gates = kept_U.view(-1, factor.repeat).any(dim=1)
                if factor.times > 1:
                    kept_gates = kept_gates.view(-1, factor.times, factor.run).any(dim=1).flatten()
                self.alive[self._spans[factor.gate]] &= each_run(kept_gates, factor.run, factor.joined)
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

    def _scale_rows(self) -> dict[LinearSide, Row]:
        blocks: dict[LinearSide, dict[int, LinearSide]] = {}
        for side in self.layout.scales:
            blocks.setdefault(side.whole, {})[side.block] = side
        rows = {}
        for whole, gated in blocks.items():
            first = next(iter(gated.values()))
            parts = [self.layout.scales[gated[number]] if number in gated else () for number in range(first.blocks)]
            rows[whole] = Row(tuple(parts), self._length(self.layout.scales[first][0]))
        return rows

    def _unit_rows(self) -> dict[UnitKey, Row]:
        return {
            key: Row((factors,), self._length(factors[0]), any_keeps=key in self.layout.any_keeps)
            for key, factors in self.layout.units.items()
        }

    def _residual_rows(self) -> dict[tuple[Factor, ...], Row]:
        sides = [side for group in self.structure.groups() for side in group.sides]
        different = dict.fromkeys(residual_factors(self.layout, side) for side in sides)
        return {factors: Row((factors,), self.structure.hidden_size) for factors in different}

    def _length(self, factor: Factor) -> int:
        span = self._spans[factor.gate]
        return (span.stop - span.start) // factor.joined * factor.times * factor.repeat

    def _count_sides(self) -> None:
        """Weights per unit, and for every unit side its unit row and its residual row."""
        unit_rows = {key: row for row, key in enumerate(self._units.keys)}
        residual_rows = {factors: row for row, factors in enumerate(self._residual.keys)}
        groups = {(group.layer, group.kind): group for group in self.structure.groups()} if unit_rows else {}
        sides = [(key, side) for key, group in groups.items() for side in group.sides]
        weights = [torch.full((groups[key].size,), groups[key].unit_weights) for key in self._units.keys]
        numbers = {
            "unit_weights": torch.cat([torch.empty(0, dtype=torch.int64), *weights]),
            "side_units": torch.tensor([unit_rows[key] for key, _ in sides], dtype=torch.int64),
            "side_residual": torch.tensor(
                [residual_rows[residual_factors(self.layout, side)] for _, side in sides], dtype=torch.int64
            ),
            "side_weights": torch.tensor([float(groups[key].rows_per_unit * side.copies) for key, side in sides]),
        }
        for name, tensor in numbers.items():
            self.register_buffer(name, tensor, persistent=False)
