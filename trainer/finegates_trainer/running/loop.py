"""The training loop: task loss and gate pressure, evaluation, settling, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from finegates_export.common.tasks import SENTENCE, task_of
from finegates_export.errors import DivergedError, RunFolderError
from finegates_trainer.data.batches import EpochBatches, evaluation_batches
from finegates_trainer.data.examples import Examples, collate_groups
from finegates_trainer.learning.losses import TaskLoss
from finegates_trainer.learning.metrics import chosen_metric, compute_metrics, is_better
from finegates_trainer.learning.next_tokens import NextTokens
from finegates_trainer.learning.predictions import predictions_of
from finegates_trainer.learning.schedule import Phase, Schedule
from finegates_trainer.objectives.objective import settle_bank
from finegates_trainer.processes import join_processes
from finegates_trainer.running.checkpoint import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from finegates_trainer.running.make_objective import make_objective
from finegates_trainer.running.reporter import Reporter, StepReport
from finegates_trainer.running.run_places import CHECKPOINT_KEYS
from finegates_trainer.running.setup import Training

SETTLED_GATE_RATE = 0.1
"""Gates of a settled structure learn at this share of their rate, with the same decay as the rest."""
LOSS_MEMORY = 0.95
SEED_STRIDE = 1_000_003
PROCESS_STRIDE = 500_009
"""Offset between the dropout seeds of two processes in one step."""

Decided = TypeVar("Decided")
OnLevel = Callable[[int, dict[str, float], int], None]
"""Called when a level's stretch ends, with its best state restored: level index, metrics, steps done."""


class Loop:
    """One run from its first step, or from its checkpoint, to its last.

    Args:
        training: the prepared run.
        work: folder for checkpoints.
        reporter: receives progress.
    """

    def __init__(self, training: Training, work: Path, reporter: Reporter) -> None:
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from torch.utils.data import DataLoader

        options = training.options
        self.training, self.options, self.work, self.reporter = training, options, work, reporter
        self.task = task_of(options.task)
        if training.teacher is not None and self.task.joins_pairs and training.data.train.pairs is not None:
            training.teacher.check_reads(training.family.input_names(training.base.config()))
        self.metric = chosen_metric(options.task, options.metric, training.labels)
        self.processes = join_processes()
        self.accelerator = Accelerator(
            mixed_precision="bf16" if _bfloat16(options.precision) else "no",
            # Every process computes the same values.
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        rows = training.train_rows
        groups = rows.groups if options.compares_rows else None
        self.batches = EpochBatches(rows.lengths, options.batch_size, options.seed, self.processes, groups)
        self.loader: Any = DataLoader(
            range(len(rows)),  # type: ignore[arg-type]  # a range is a map-style data set of indices
            batch_sampler=self.batches,
            collate_fn=rows.collate if groups is None else partial(collate_groups, rows),
        )
        self.named = [pair for pairs in training.parameters().values() for pair in pairs]
        self.optimizer = self._optimizer()
        self.model, self.optimizer = self.accelerator.prepare(training.gated, self.optimizer)
        per_epoch = len(self.batches)
        steps = options.max_steps or max(1, math.ceil(options.epochs * per_epoch))
        self.schedule = Schedule(options.aims, steps, options.free_fraction, options.settle_fraction, options.warmup)
        self.objective = make_objective(training, self._on_main_process)
        self.settled: dict[str, Any] = {}
        """The record of the latest settling."""
        self.outputs = self.task.outputs if training.pooling is None else (SENTENCE,)
        self.loss = self._loss_function()
        self.step = 0
        self.mean_loss = 0.0
        self.latest: dict[str, float] = {}
        self.best: dict[str, float] = {}
        self.best_state: dict[str, Tensor] = {}

    @property
    def bank(self) -> Any:
        """The run's gates."""
        return self.training.gated.gates

    def run(self, on_level: OnLevel) -> None:
        """Train to the end, handing every finished level to `on_level`.

        Raises:
            DivergedError: a step's loss, or the model's output in evaluation, is not finite.
        """
        for _ in self.steps(on_level):
            pass

    def steps(self, on_level: OnLevel) -> Iterator[None]:
        """`run`, one step at a time."""
        try:
            for inputs, labels in self._batches_from_here():
                phase = self.schedule.phase(self.step)
                if self.schedule.levels and self.step == self.schedule.settle_step(phase.level):
                    self._settle(phase)
                self._train_step(inputs, labels, phase)
                self._after_step(phase, on_level)
                yield
                if self.step == self.schedule.steps:
                    break
        finally:
            self.reporter.finished()

    def resume(self) -> bool:
        """Restore the last checkpoint; False if there is none.

        Raises:
            RunFolderError: it belongs to a run with other options or rows, or on another base, teacher or adapter.
        """
        found = load_checkpoint(self.work)
        if found is None:
            return False
        tensors, scalars = found
        if scalars["fingerprint"] != self._fingerprint():
            mine, theirs = self._fingerprint(), scalars["fingerprint"]
            differing = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
            raise RunFolderError(
                f"the interrupted run in {self.work} was started with different {', '.join(differing)}; "
                "give the same options, or --overwrite in place of --resume to start again"
            )
        self._restore(_below("state/", tensors))
        self.best_state = _below("best/", tensors)
        restore_optimizer(self._inner_optimizer(), self._names(), tensors)
        self.step, self.mean_loss = scalars["step"], scalars["mean_loss"]
        self.latest, self.best = scalars["latest"], scalars["best"]
        self.settled = scalars["settled"]
        self.objective.restore(_below("objective/", tensors))
        return True

    @torch.no_grad()
    def evaluate(self, rows: Examples) -> dict[str, float]:
        """All metrics of the task on some rows, gates in evaluation."""
        predicted: list[Any] = [None] * len(rows)
        self.training.gated.eval()
        for indices in evaluation_batches(rows, self.options.batch_size):
            inputs, labels = rows.collate(indices)
            on_device = {name: tensor.to(self.accelerator.device) for name, tensor in inputs.items()}
            with self.accelerator.autocast():
                result = self.training.gated(**on_device)
                answers = self._predictions(result, inputs, labels)
            for i, prediction in zip(indices, answers, strict=True):
                predicted[i] = prediction
        return compute_metrics(self.task.name, predicted, rows.labels, rows.groups, self.training.labels)

    def _predictions(self, result: Any, inputs: dict[str, Tensor], labels: Tensor) -> list[Any]:
        if isinstance(result, NextTokens):
            answers = result.predictions(labels.to(self.accelerator.device))
            self._check_finite(answers)
            return answers
        outputs = {name: getattr(result, name).float().cpu().numpy() for name in self.outputs}
        self._check_finite(outputs.values())
        mask = inputs["attention_mask"].numpy() if "attention_mask" in inputs else None
        return predictions_of(self.task.name, outputs, mask)

    def _check_finite(self, answers: Iterable[Any]) -> None:
        """A step's loss belongs to the weights before it; predictions from NaN would look normal."""
        if not all(np.isfinite(values).all() for values in answers):
            raise self._diverged(f"the model's output after step {self.step} is not finite")

    def _train_step(self, inputs: dict[str, Tensor], labels: Tensor, phase: Phase) -> None:
        self.model.train()
        torch.manual_seed(self.options.seed * SEED_STRIDE + self.step + PROCESS_STRIDE * self.processes.index)
        self._set_learning_rates(phase)
        noisy = phase.name != "settled"
        with self.accelerator.autocast():
            outputs = self.model(step=self.step if noisy else None, **inputs)
            task_loss = self.loss(outputs, labels)
            teacher = self.training.teacher
            if teacher is None:
                loss = task_loss
            else:
                loss = task_loss + teacher.loss(inputs, labels, outputs, self.processes.average)
        pressed = phase.name == "close"
        loss = loss + self.objective.penalty(phase.aim) if pressed else loss
        self.accelerator.backward(loss)
        self.objective.gather()
        if self.options.max_grad_norm:
            self.accelerator.clip_grad_norm_([parameter for _, parameter in self.named], self.options.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        # Over all processes, so that all of them continue or none.
        value, whole = self.processes.average(torch.stack([task_loss.detach(), loss.detach()])).tolist()
        if not math.isfinite(whole):
            raise self._diverged(f"the loss of step {self.step + 1} is {whole}")
        if phase.name == "settled" and self.schedule.levels:
            self.objective.hold()
        if pressed:
            self.objective.correct(phase.aim)
        self.mean_loss = value if self.step == 0 else LOSS_MEMORY * self.mean_loss + (1 - LOSS_MEMORY) * value
        self.step += 1

    def _diverged(self, what: str) -> DivergedError:
        options = self.options
        return DivergedError(
            f"{what} (learning rate {options.learning_rate:g}, precision {options.precision}); train again with a "
            "lower --learning-rate, or with --precision float32"
        )

    def _after_step(self, phase: Phase, on_level: OnLevel) -> None:
        ends = self.step == self.schedule.end(phase.level)
        if ends or self.step % (self.options.eval_steps or len(self.batches)) == 0:
            self.latest = self._on_main_process(lambda: self.evaluate(self.training.eval_rows))
            better = phase.name == "settled" and (
                not self.best or is_better(self.metric, self.latest[self.metric], self.best[self.metric])
            )
            if better:
                self.best, self.best_state = dict(self.latest), self._state()
            self.reporter.evaluated(self.step, self.latest, self.bank.closed_share(), best=better)
        self.reporter.stepped(
            StepReport(
                step=self.step,
                steps=self.schedule.steps,
                phase=phase.name,
                loss=self.mean_loss,
                metric_name=self.metric,
                metric=self.latest.get(self.metric),
                standing=self.objective.standing(phase.aim) if self.schedule.levels else "",
            )
        )
        if ends:
            now = self._state()
            self._restore(self.best_state)
            on_level(phase.level, self.best, self.step)
            self._restore(now)
            self.best, self.best_state = {}, {}
        if ends or self.step % self.options.save_steps == 0:
            self._save()

    def _settle(self, phase: Phase) -> None:
        settlement = self._on_main_process(lambda: self.objective.settle(phase.aim))
        settle_bank(self.bank, settlement)
        self.settled = settlement.facts
        self.reporter.settled(self.bank.closed_share(), settlement.words)

    def _on_main_process(self, decide: Callable[[], Decided]) -> Decided:
        """One process decides for all, since measurements differ between processes."""
        from accelerate.utils import broadcast_object_list

        decided = [decide() if self.processes.is_main else None]
        told: Decided = broadcast_object_list(decided)[0]
        return told

    def _batches_from_here(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        from accelerate.utils import send_to_device

        while True:
            self.batches.epoch, self.batches.done = divmod(self.step, len(self.batches))
            for batch in self.loader:
                yield send_to_device(batch, self.accelerator.device)

    def _optimizer(self) -> torch.optim.Optimizer:
        options, kinds = self.options, self.training.parameters()
        gates = [parameter for _, parameter in kinds["gates"]]
        rest = [parameter for kind in ("lora", "head", "biases", "base") for _, parameter in kinds[kind]]
        groups: list[dict[str, Any]] = [
            {"params": rest, "lr": options.learning_rate, "weight_decay": options.weight_decay, "kind": "rest"}
        ]
        if gates:
            groups.append({"params": gates, "lr": options.gate_learning_rate, "weight_decay": 0.0, "kind": "gates"})
        return torch.optim.AdamW(groups)

    def _set_learning_rates(self, phase: Phase) -> None:
        factor = self.schedule.learning_rate_factor(self.step)
        for group in self._inner_optimizer().param_groups:
            if group["kind"] == "rest":
                group["lr"] = self.options.learning_rate * factor
            else:
                group["lr"] = self.options.gate_learning_rate * self._gate_rate_factor(phase, factor)

    def _gate_rate_factor(self, phase: Phase, factor: float) -> float:
        if phase.name == "settled":
            return SETTLED_GATE_RATE * factor
        return 1.0 if self.options.presses else 0.0

    def _loss_function(self) -> TaskLoss:
        labels, ranking = self.training.train_rows.labels, self.options.ranking_loss
        settings = self.task.loss_settings(labels, self._class_weights(), ranking)
        return TaskLoss(self.task.name, settings, self.processes.average)

    def _class_weights(self) -> Tensor | None:
        count = len(self.training.labels)
        if self.options.class_weights == "none":
            return None
        if self.options.class_weights == "balanced":
            labels = np.asarray(self.training.train_rows.labels, np.int64)
            rows = np.bincount(labels, minlength=count)
            weights = len(labels) / (count * rows)
        else:
            weights = np.array(self.options.label_weights)
            if len(weights) != count:
                raise ValueError(f"class-weights: {len(weights)} given for {count} labels {list(self.training.labels)}")
        return torch.tensor(weights, dtype=torch.float32, device=self.accelerator.device)

    def _state(self) -> dict[str, Tensor]:
        state = {name: parameter.detach().cpu().clone() for name, parameter in self.named}
        return {**state, "gates.alive": self.bank.alive.cpu().clone()}

    @torch.no_grad()
    def _restore(self, state: dict[str, Tensor]) -> None:
        for name, parameter in self.named:
            parameter.copy_(state[name])
        self.bank.alive.copy_(state["gates.alive"])

    def _save(self) -> None:
        if not self.processes.is_main:
            return
        tensors = {f"state/{name}": tensor for name, tensor in self._state().items()}
        tensors |= {f"best/{name}": tensor for name, tensor in self.best_state.items()}
        tensors |= optimizer_tensors(self._inner_optimizer(), self._names())
        tensors |= {f"objective/{name}": _exact(value) for name, value in self.objective.state().items()}
        scalars = {
            "step": self.step,
            "mean_loss": self.mean_loss,
            "latest": self.latest,
            "best": self.best,
            "settled": self.settled,
            "fingerprint": self._fingerprint(),
        }
        save_checkpoint(self.work, tensors, scalars)

    def _fingerprint(self) -> dict[str, Any]:
        options = {name: value for name, value in self.options.to_json().items() if name not in CHECKPOINT_KEYS}
        data = self.training.data
        # With other evaluation rows, scores would not be comparable with the checkpoint's.
        rows = {"rows": data.train.digest(), "evaluation rows": data.evaluation.digest()}
        return {**options, **rows, **self.training.contents}

    def _names(self) -> dict[int, str]:
        return {id(parameter): name for name, parameter in self.named}

    def _inner_optimizer(self) -> torch.optim.Optimizer:
        """The optimizer inside accelerate's wrapper."""
        return getattr(self.optimizer, "optimizer", self.optimizer)


def _below(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def _exact(value: Tensor | float) -> Tensor:
    return value if isinstance(value, Tensor) else torch.tensor(value, dtype=torch.float64)


def _bfloat16(precision: str) -> bool:
    """Whether to compute in bfloat16, which is slower on a CPU without its instructions."""
    if precision == "auto":
        return torch.cuda.is_available() or torch.cpu.get_capabilities().get("avx512_bf16", False)
    return precision == "bfloat16"
