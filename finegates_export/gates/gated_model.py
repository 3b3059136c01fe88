"""A model with gates on its linears: every base layer keeps its name and its class.

    y = w_r * ( (W0 + s W_B W_A) (w_c * x) + b )

The module at a linear's path, plain or wrapped by peft, gets a new `forward`, so LoRA lies inside the gates and peft's
file format is unchanged. Norms are gated by hooks.

Shapes: B batch, S sequence, D features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn

from finegates_export.families.residual import residual_map
from finegates_export.families.structure import LinearSide, Structure
from finegates_export.gates.bank import GateBank
from finegates_export.gates.gated_linear import gated_linear, weights_of
from finegates_export.gates.layout import build_layout
from finegates_export.gates.multiply import multiply
from finegates_export.gates.width import norm_over_open_dims

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle
    from transformers.utils import ModelOutput


class GatedModel(nn.Module):
    """A task model and the gates that act on it.

    Args:
        model: the transformers model, or peft's model around it.
        structure: where its linears are (paths of the plain model).
        layout: `matrix`, `coupled` or `none`.
        width: gate the residual width too (coupled layout).
        noise_sigma: standard deviation of the gate noise in training.
        seed: seed of the noise.
    """

    def __init__(
        self,
        model: nn.Module,
        structure: Structure,
        layout: str,
        *,
        width: bool = False,
        noise_sigma: float = 0.1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.model = model
        residual = residual_map(plain_model(model), structure) if width else None
        self.gates = GateBank(build_layout(layout, structure, residual), structure)
        self.noise_sigma = noise_sigma
        self.seed = seed
        self._scales: dict[LinearSide, Tensor] = {}
        self._width: Tensor | None = None
        self._open: Tensor | None = None
        self._handles: list[RemovableHandle] = []
        self._gated: list[nn.Module] = []
        self._attach()

    def forward(self, *, step: int | None = None, **inputs: Tensor) -> ModelOutput:
        """Run the model under its gates.

        Args:
            step: the optimizer step, which draws its noise in training; without it, evaluation gates are used.
            inputs: inputs of the model's own forward.
        """
        noisy = self.training and step is not None and self.noise_sigma > 0
        gates_N = self.gates.sample(self.noise_sigma, self.seed, step or 0) if noisy else self.gates.values()
        self._scales = self.gates.scales(gates_N)
        self._width = self.gates.width(gates_N)
        if self._width is not None:
            # Noise moves the gate, not the statistics, which are those of the exported model.
            evaluated = self.gates.width(self.gates.values())
            self._open = evaluated > 0 if evaluated is not None else None
        return self.model(**inputs)

    def detach_gates(self) -> nn.Module:
        """Remove the gates and return the inner model; the gates' values stay readable."""
        for handle in self._handles:
            handle.remove()
        for linear in self._gated:
            del linear.forward
        self._handles.clear()
        self._gated.clear()
        self._scales, self._width, self._open = {}, None, None
        return self.model

    def _attach(self) -> None:
        plain = plain_model(self.model)
        for path in self.gates.layout.norms:
            self._handles.append(plain.get_submodule(path).register_forward_hook(self._norm_hook))
        sides: dict[str, dict[str, LinearSide]] = {}
        for side in self.gates.scales(self.gates.values()):
            sides.setdefault(side.linear, {})[side.axis] = side
        for path, gated in sides.items():
            linear = plain.get_submodule(path)
            linear.forward = self._gated_forward(linear, gated.get("column"), gated.get("row"))
            self._gated.append(linear)

    def _norm_hook(self, norm: nn.LayerNorm, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if self._width is None or self._open is None:
            return output
        y_BSD = norm_over_open_dims(args[0], norm, self._open)
        return multiply(y_BSD, self._width)

    def _gated_forward(
        self, linear: nn.Module, column: LinearSide | None, row: LinearSide | None
    ) -> Callable[[Tensor], Tensor]:
        ungated = linear.forward

        def forward(x_BSD: Tensor) -> Tensor:
            column_D = None if column is None else self._scales[column]
            row_D = None if row is None else self._scales[row]
            weights = weights_of(linear)
            if weights is not None:
                return gated_linear(x_BSD, weights, column_D, row_D)
            y_BSD: Tensor = ungated(x_BSD if column_D is None else multiply(x_BSD, column_D))
            return y_BSD if row_D is None else multiply(y_BSD, row_D)

        return forward


def plain_model(model: nn.Module) -> nn.Module:
    """The transformers model inside peft's wrapper, or the model itself."""
    get_base_model = getattr(model, "get_base_model", None)
    return get_base_model() if callable(get_base_model) else model
