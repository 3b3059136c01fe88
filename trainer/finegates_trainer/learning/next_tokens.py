"""A language model's head, applied late: only at labelled positions, and a part of them at a time.

With a vocabulary of 49,152, a token's logits take 85 times the memory of its 576 hidden numbers; a float32 copy, the
softmax and the gradient take as much again each. Here only a part exists at a time: the loss of each part is
differentiated at once, and only the gradient of the hidden states is kept.

Shapes: B rows, S tokens, N chosen tokens, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from finegates_export.common.tasks import NO_LABEL
from finegates_export.common.tasks.text_generation import next_token_predictions
from finegates_export.gates.gated_model import GatedModel, plain_model

LOGITS_AT_ONCE = 2**24
"""Maximum numbers at a time: 64 MiB in float32."""
SumOf = Callable[..., Tensor]
"""Maps logits (N, V), and further values at the same tokens, to a sum over the tokens."""


@dataclass(frozen=True)
class NextTokens:
    """The output of a language model in training: everything but the logits."""

    hidden: Tensor
    """Input of the head, shape (B, S, D)."""
    head: nn.Module

    def logits(self, hidden_ND: Tensor) -> Tensor:
        """The head's output in float32, without the hooks of `postpone_head`."""
        logits_NV: Tensor = self.head.forward(hidden_ND)
        return logits_NV.float()

    def total(self, sum_of: SumOf, chosen_BS: Tensor, *given: Tensor) -> Tensor:
        """The sum over chosen tokens of a function of their logits.

        Args:
            sum_of: the function.
            chosen_BS: the chosen tokens.
            given: further arguments of the function, shape (B, S, ...) each.
        """
        others = [one[chosen_BS] for one in given]
        trained = [parameter for parameter in self.head.parameters() if parameter.requires_grad]

        def part(hidden_ND: Tensor, where: slice) -> Tensor:
            return sum_of(self.logits(hidden_ND), *(one[where] for one in others))

        total: Tensor = _Total.apply(part, self._at_once(), self.hidden[chosen_BS], *trained)
        return total

    def predictions(self, labels_BS: Tensor) -> list[npt.NDArray[np.float64]]:
        """See `next_token_predictions`; shape (S, 2) per row, 0 without a label."""
        known_BS = labels_BS != NO_LABEL
        found_BS2 = np.zeros((*labels_BS.shape, 2))
        hidden_ND, labels_N = self.hidden[known_BS], labels_BS[known_BS]
        parts = [
            next_token_predictions(self.logits(hidden_ND[where]), labels_N[where])
            for where in _slices(len(labels_N), self._at_once())
        ]
        found_BS2[known_BS.cpu().numpy()] = np.concatenate([np.zeros((0, 2)), *parts])
        return list(found_BS2)

    def _at_once(self) -> int:
        """Tokens."""
        vocabulary = next(self.head.parameters()).shape[0]
        return max(1, LOGITS_AT_ONCE // vocabulary)


def postpone_head(gated: GatedModel) -> None:
    """Have a gated language model return `NextTokens`; nothing is generated, so keys and values are not cached."""
    head: Any = plain_model(gated.model).get_output_embeddings()  # type: ignore[operator]  # a model of transformers
    read: list[Tensor] = []

    def keep(_head: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        read.append(args[0])
        return (args[0][:, :0],)

    def without_cache(_gated: nn.Module, args: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        read.clear()
        return args, {**named, "use_cache": False}

    head.register_forward_pre_hook(keep)
    gated.register_forward_pre_hook(without_cache, with_kwargs=True)
    gated.register_forward_hook(lambda _gated, _args, _output: NextTokens(read.pop(), head))


class _Total(torch.autograd.Function):
    """A sum over parts, each differentiated at once."""

    @staticmethod
    def forward(
        ctx: Any, part: Callable[[Tensor, slice], Tensor], size: int, hidden_ND: Tensor, *trained: Tensor
    ) -> Tensor:
        total = hidden_ND.new_zeros((), dtype=torch.float32)
        learns = any(ctx.needs_input_grad)
        gradients = [torch.zeros_like(tensor) for tensor in (hidden_ND, *trained)] if learns else []
        for where in _slices(len(hidden_ND), size):
            with torch.set_grad_enabled(learns):
                own_ND = hidden_ND[where].detach().requires_grad_(learns)
                value = part(own_ND, where)
            total += value.detach()
            if learns:
                of_hidden, *of_trained = torch.autograd.grad(value, (own_ND, *trained))
                gradients[0][where] = of_hidden
                for gradient, more in zip(gradients[1:], of_trained, strict=True):
                    gradient.add_(more)
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *(gradient * outer[0] for gradient in ctx.saved_tensors))


def _slices(count: int, size: int) -> Iterator[slice]:
    for start in range(0, count, size):
        yield slice(start, start + size)
