"""Learning from an unpruned model that was fine-tuned: its logits, and the hidden states after each of its layers.

Shapes: B rows, S tokens, C labels, D hidden size.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from finegates_export.common.tasks import NO_LABEL, task_of
from finegates_export.errors import InputError
from finegates_export.gates.gated_model import GatedModel, plain_model
from finegates_export.sources.assemble import assemble, base_of
from finegates_export.sources.run_folder import Run
from finegates_trainer.learning.losses import LEAST_COUNT
from finegates_trainer.learning.next_tokens import NextTokens, postpone_head
from finegates_trainer.processes import Average, alone

SEGMENTS = "token_type_ids"


@dataclass(frozen=True)
class DistillationWeights:
    """Weights of the distillation terms beside the task loss."""

    logits: float
    hidden: float
    temperature: float


class Recorder:
    """Keeps the output of every layer of a model's latest forward pass.

    Args:
        model: a plain transformers model.
        paths: its layers.
    """

    def __init__(self, model: nn.Module, paths: Sequence[str]) -> None:
        self.states: list[Tensor] = []
        """Shape (B, S, D) each."""
        for number, path in enumerate(paths):
            model.get_submodule(path).register_forward_hook(self._hook(number))

    def _hook(self, number: int) -> Any:
        def keep(_module: nn.Module, _args: Any, output: Any) -> None:
            if number == 0:
                self.states.clear()
            self.states.append(output[0] if isinstance(output, tuple) else output)

        return keep


class Teacher:
    """A run whose outputs a student learns to match.

    Args:
        run: the teacher's run folder.
        student: the model that learns.
        weights: the weight of each part.

    Raises:
        InputError: student and teacher differ in a compared width, or the teacher does not fit its base.
        RunFolderError: the teacher's base is not the one it was trained on.
    """

    def __init__(self, run: Run, student: GatedModel, weights: DistillationWeights) -> None:
        self.run, self.weights, self.task = run, weights, task_of(run.info.task)
        assembled = assemble(run, base_of(run))
        self.input_names = assembled.family.input_names(assembled.config)
        self.gated = assembled.gated.eval().requires_grad_(False)
        if self.task.generates:
            postpone_head(self.gated)
        self._mine: Recorder | None = None
        self._theirs: Recorder | None = None
        plain, other = plain_model(student.model), plain_model(self.gated.model)
        if weights.logits and not self.task.has_head:
            _check_same_embedding(run, plain, other)
        if weights.hidden:
            paths = assembled.family.layer_paths(assembled.config)
            _check_same_layers(run, plain, other, paths)
            self._mine, self._theirs = Recorder(plain, paths), Recorder(other, paths)

    def check_reads(self, input_names: Collection[str]) -> None:
        """Refuse pairs read together if the student's inputs lack the segments that the teacher needs.

        Args:
            input_names: the student's inputs, which the teacher gets too.

        Raises:
            InputError: the teacher would read both texts as one.
        """
        if SEGMENTS in self.input_names and SEGMENTS not in input_names:
            raise InputError(
                f"teacher {self.run.folder} tells the two texts of a row apart by {SEGMENTS}, which the student's base "
                f"does not read ({', '.join(input_names)}); take a teacher whose base reads the same"
            )

    def loss(self, inputs: dict[str, Tensor], labels: Tensor, outputs: Any, average: Average = alone) -> Tensor:
        """What is added to the task loss; call it right after the student's forward pass.

        Args:
            inputs: the student's inputs.
            labels: of `Examples.collate`; text to generate is compared where it is learned.
            outputs: the student's outputs.
            average: a count's mean over the processes of the run; see `processes`.
        """
        with torch.no_grad():
            theirs = self.gated(**inputs)
        mask_BS = inputs.get("attention_mask")
        total = torch.zeros((), device=next(self.gated.parameters()).device)
        if self.weights.logits:
            if self.task.generates:
                distance, count = self._next_token_distance(outputs, theirs, labels != NO_LABEL)
            else:
                each, known = self.task.distances(outputs, theirs, mask_BS, self._divergence)
                counted = torch.ones_like(each) if known is None else known
                distance, count = (each * counted).sum(), counted.sum()
            total = total + self.weights.logits * distance / average(count).clamp(min=LEAST_COUNT)
        if self._mine is not None and self._theirs is not None:
            pairs = zip(self._mine.states, self._theirs.states, strict=True)
            distances, scales = zip(*(_squares(mine, other, mask_BS) for mine, other in pairs), strict=True)
            relative = torch.stack(distances) / average(torch.stack(scales))
            total = total + self.weights.hidden * relative.mean()
        return total

    def _next_token_distance(self, mine: NextTokens, theirs: NextTokens, known_BS: Tensor) -> tuple[Tensor, Tensor]:
        """The sum over learned tokens, and how many there are."""

        def sum_of(logits_NV: Tensor, hidden_ND: Tensor) -> Tensor:
            with torch.no_grad():
                wanted_NV = theirs.logits(hidden_ND)
            return self._divergence(logits_NV, wanted_NV).sum()

        return mine.total(sum_of, known_BS, theirs.hidden), known_BS.sum().float()

    def _divergence(self, mine: Tensor, theirs: Tensor) -> Tensor:
        """KL of softened distributions over the last axis, times the squared temperature (Hinton et al., 2015)."""
        heat = self.weights.temperature
        mine_log = functional.log_softmax(mine.float() / heat, -1)
        theirs_log = functional.log_softmax(theirs.float() / heat, -1)
        return heat**2 * (theirs_log.exp() * (theirs_log - mine_log)).sum(-1)


def check_teacher(run: Run, *, task: str, labels: tuple[str, ...], vocabulary: dict[str, int] | None) -> None:
    """Refuse a teacher that was trained for something else.

    Args:
        run: the teacher.
        task: the student's task.
        labels: the student's labels, in order.
        vocabulary: of the student's tokenizer; None for images.

    Raises:
        InputError: another task, other labels, or another tokenizer.
    """
    info = run.info
    if info.task != task:
        raise InputError(f"teacher {run.folder} was trained for {info.task}, not {task}; take one of the same task")
    if info.labels != labels:
        raise InputError(
            f"teacher {run.folder} has the labels {list(info.labels)}, the rows have {list(labels)}; train it on the "
            "same rows"
        )
    if vocabulary is None:
        return
    from transformers import AutoTokenizer

    if AutoTokenizer.from_pretrained(run.folder).get_vocab() != vocabulary:
        raise InputError(
            f"teacher {run.folder} reads other tokens than the student's base; take one with the same tokenizer"
        )


def _check_same_embedding(run: Run, mine: Any, theirs: Any) -> None:
    widths = [model.config.hidden_size for model in (mine, theirs)]
    if widths[0] != widths[1]:
        raise InputError(
            f"teacher {run.folder} makes embeddings of {widths[1]} dims, the student of {widths[0]}; take a teacher of "
            "the same width"
        )


def _check_same_layers(run: Run, mine: Any, theirs: Any, paths: Sequence[str]) -> None:
    sizes = [(model.config.num_hidden_layers, model.config.hidden_size) for model in (mine, theirs)]
    if sizes[0] != sizes[1] or mine.config.model_type != theirs.config.model_type or len(paths) != sizes[0][0]:
        raise InputError(
            f"distill-hidden: teacher {run.folder} has {sizes[1][0]} layers of {sizes[1][1]} dims, the student "
            f"{sizes[0][0]} of {sizes[0][1]}; match hidden states of equal models, or set distill-hidden to 0"
        )


def _squares(mine_BSD: Tensor, theirs_BSD: Tensor, mask_BS: Tensor | None) -> tuple[Tensor, Tensor]:
    """Squared distance of attended tokens' states, and the teacher's own squares."""
    attended = 1.0 if mask_BS is None else mask_BS.unsqueeze(-1).float()
    theirs_BSD = theirs_BSD.float() * attended
    return (mine_BSD.float() * attended - theirs_BSD).square().sum(), theirs_BSD.square().sum()
