"""The options of `finegates-train`, checked when they are made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar, Literal, get_args

from finegates_export.common.options import Groups, Options, as_path, check
from finegates_export.common.shapes import Shape
from finegates_export.common.tasks import TASKS
from finegates_export.common.tasks.pooling import POOLINGS
from finegates_export.common.tasks.task import RankingLoss
from finegates_export.costs.blocks.measured_targets import MEASURED_TARGETS
from finegates_export.costs.counted_costs import PHASES
from finegates_export.gates.layout import LAYOUTS
from finegates_export.graphs.targets import TARGETS
from finegates_trainer.learning.metrics import METRICS

LoraTarget = Literal["query", "key", "value", "output", "up", "down"]
OBJECTIVES = ("share", "target", "penalty", "magnitude", "sensitivity")
RANKINGS = ("magnitude", "sensitivity")
PENALTY_WEIGHTS = {"target": 50.0, "penalty": 1.0}
LORA_TARGETS: tuple[LoraTarget, ...] = ("query", "key", "value", "output", "up", "down")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """Options of one training run."""

    groups: ClassVar[Groups] = {
        "Everyday": (
            *("base", "data", "out", "task", "layout", "target_removed"),
            *("lora_rank", "epochs", "batch_size", "learning_rate"),
        ),
        "Model": ("pooling", "normalize", "ranking_loss", "train_biases", "train_head", "train_base"),
        "Data": ("eval_data", "text_column", "pair_column", "label_column", "max_length", "max_train_rows", "samples"),
        "Gates": (
            *("width_gate", "levels", "target_speedup", "target", "shape", "phase", "objective", "penalty_weight"),
            *("gate_learning_rate", "noise_sigma", "penalty_sigma", "free_fraction", "settle_fraction"),
        ),
        "Training": (
            *("max_steps", "weight_decay", "warmup", "max_grad_norm", "class_weights", "metric"),
            *("eval_steps", "precision", "seed", "threads"),
        ),
        "LoRA": ("lora_alpha", "lora_dropout", "lora_on", "rslora", "dora", "adapter"),
        "Distillation": ("teacher", "distill_logits", "distill_hidden", "distill_temperature"),
        "Output": ("save_steps", "resume", "overwrite"),
    }

    base: str
    """The base model: a folder with safetensors, or a hub id."""
    data: str
    """Training rows: a TSV, CSV, JSONL, Parquet or text file, a folder with train and dev files, or a `datasets`
    name."""
    out: Path
    """The run folder to write."""
    task: Literal[
        "classification",
        "multi-label",
        "regression",
        "token-classification",
        "question-answering",
        "embedding",
        "feature-extraction",
        "image-classification",
        "text-generation",
        "reranking",
    ] = "classification"
    """What the model predicts; feature-extraction can be exported but not trained."""
    pooling: Literal["mean", "cls"] | None = None
    """Embeddings: pool the mean over the tokens, or the first token; default: as in the base's 1_Pooling/."""
    normalize: bool | None = None
    """Embeddings: scale vectors to length 1; default: as in the base's modules.json."""
    ranking_loss: Literal["binary", "mse", "margin"] = "binary"
    """Reranking: `binary` cross-entropy on labels from 0 to 1; for a teacher's scores, `mse` (squared error) or
    `margin` (squared error of the differences between the passages of a query)."""
    layout: Literal["matrix", "coupled", "none"] = "coupled"
    """Where gates sit: `coupled` for speed, `matrix` as in the paper, `none` for an unpruned model."""
    width_gate: bool = False
    """Gate the residual width too, so that every matrix, norm and embedding gets narrower (layout `coupled`)."""
    target_removed: float = 0.4
    """Share of the layers' linear weights to remove, padding included."""
    levels: tuple[float, ...] = ()
    """Several removed shares in one run, in ascending order; each is settled and saved. Overrides --target-removed."""
    target_speedup: tuple[float, ...] = ()
    """Speed-up over the unpruned model, measured on this machine; several, in ascending order, make a level each."""
    target: Literal["ort-cpu", "portable", "ort-cuda", "tensorrt", "web"] = "ort-cpu"
    """Deployment target: decides which widths its kernels prefer and, for `ort-cpu`, which speed is measured."""
    shape: str = "8x128"
    """Batch x sequence at which --target-speedup is measured."""
    phase: Literal["prefill", "decode"] = "decode"
    """Text generation: what --target-speedup speeds up. `prefill` reads a prompt of --shape; `decode` writes one token
    in each of BATCH rows after SEQUENCE others."""
    objective: Literal["share", "target", "penalty", "magnitude", "sensitivity"] = "share"
    """`share` presses gates shut until the removed share is met; `sensitivity` closes what costs the task least;
    `target` and `penalty` are the paper's; `magnitude` learns no gates."""
    penalty_weight: float | None = None
    """Weight of the penalty in the objectives `target` (default 50) and `penalty` (default 1)."""

    teacher: Path | None = None
    """Distill from this run as well: an unpruned model trained on the same task and labels."""
    distill_logits: float = 1.0
    """Weight of the distance to the teacher's logits."""
    distill_hidden: float = 0.0
    """Weight of the distance to the hidden states after each of the teacher's layers."""
    distill_temperature: float = 2.0
    """Temperature of the softmax when logits are compared."""

    eval_data: str | None = None
    """Evaluation rows; default: the folder's dev file, else a tenth of the rows, selected by a hash of the text."""
    text_column: str | None = None
    """Column of the (first) sentence, prompt or conversation; default: detected by name."""
    pair_column: str | None = None
    """Column of the second sentence; default: detected by name."""
    label_column: str | None = None
    """Column of the label, score or completion; default: detected by name."""
    max_length: int = 128
    """Maximum tokens per row, longer rows are truncated; text generation packs documents into blocks of this length."""
    max_train_rows: int | None = None
    """Train on this many rows, sampled with the seed; default: all."""
    samples: int = 500
    """Tokenized evaluation rows to keep in the run folder, for the exporter to check on real input; 0 keeps none."""

    lora_rank: int = 8
    """LoRA rank; 0 trains without LoRA."""
    lora_alpha: float = 16.0
    """LoRA alpha."""
    lora_dropout: float = 0.0
    """Dropout on the input of LoRA."""
    lora_on: tuple[LoraTarget, ...] = LORA_TARGETS
    """Gated linears that get LoRA."""
    rslora: bool = False
    """Scale LoRA by alpha / sqrt(rank)."""
    dora: bool = False
    """Use weight-decomposed LoRA."""
    adapter: Path | None = None
    """Start from this peft LoRA adapter, or from the LoRA and head of this unpruned run; LoRA keeps its rank, alpha
    and dropout, and others are refused."""
    train_biases: bool = False
    """Train the biases of the gated linears as well."""
    train_head: bool = False
    """Text generation: train the LM head too, unless it is tied to the embeddings; other heads always train."""
    train_base: bool = False
    """Train all weights (layout `none`, without LoRA); the run folder then holds the whole model."""

    epochs: float = 5.0
    """Passes over the training rows, summed over all levels."""
    max_steps: int | None = None
    """Optimizer steps, summed over all levels; overrides --epochs."""
    batch_size: int = 32
    """Rows per step, over all processes."""
    learning_rate: float = 5e-4
    """Peak learning rate of LoRA, head and biases."""
    gate_learning_rate: float = 2e-2
    """Learning rate of the gates."""
    weight_decay: float = 0.01
    """Weight decay of LoRA and head; gates have none."""
    warmup: float = 0.06
    """Share of the steps over which the learning rate rises."""
    max_grad_norm: float = 1.0
    """Clip gradients to this norm; 0 does not clip."""
    class_weights: str = "none"
    """`none`, `balanced`, or one weight per label in label order: 0.3,0.7."""
    metric: str | None = None
    """Metric that selects the best checkpoint; default: the task's first (accuracy, spearman, exact match ...)."""

    noise_sigma: float = 0.1
    """Standard deviation of the gate noise."""
    penalty_sigma: float = 0.5
    """Sigma of the penalty's P(open) = Phi((mu + 0.5) / sigma)."""
    free_fraction: float = 0.1
    """Share of the first level's steps before pressure on the gates starts."""
    settle_fraction: float = 0.4
    """Share of each level's steps that train with the structure settled."""

    eval_steps: int | None = None
    """Steps between evaluations; default: one evaluation per epoch."""
    save_steps: int = 100
    """Steps between checkpoints for --resume."""
    resume: bool = False
    """Continue from the last checkpoint of an interrupted run."""
    overwrite: bool = False
    """Replace an existing run folder."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Precision of forward and backward passes; `auto` is bfloat16 where the CPU supports it. Gates stay float32."""
    seed: int = 0
    """Seed of the row order, the new head and LoRA, dropout, and gate noise."""
    threads: int | None = None
    """CPU threads; default: torch's choice."""

    def __post_init__(self) -> None:
        for name in ("out", "adapter", "teacher"):
            value = getattr(self, name)
            object.__setattr__(self, name, as_path(value) if value else None)
        self._check_task()
        self._check_gates()
        self._check_levels()
        self._check_objective()
        self._check_speedup()
        self._check_distillation()
        self._check_lora()
        self._check_training()

    def _check_task(self) -> None:
        check(self.task in TASKS, "task", f"{self.task!r} is not one of {', '.join(TASKS)}")
        check(
            bool(METRICS[self.task]),
            "task",
            f"{self.task} has no head and no score to train on; train --task embedding on scored pairs instead",
        )
        task = TASKS[self.task]
        embeds = task.pools
        check(self.pooling is None or embeds, "pooling", f"applies to embeddings, not to {self.task}")
        check(self.pooling in (None, *POOLINGS), "pooling", f"{self.pooling!r} is not one of {', '.join(POOLINGS)}")
        check(self.normalize is None or embeds, "normalize", f"applies to embeddings, not to {self.task}")
        losses = get_args(RankingLoss)
        check(self.ranking_loss in losses, "ranking-loss", f"{self.ranking_loss!r} is not one of {', '.join(losses)}")
        ranks = self.ranking_loss == "binary" or task.ranks
        check(ranks, "ranking-loss", f"applies to reranking, not to {self.task}")
        check(
            not self.compares_rows or self.batch_size != 1,
            "batch-size",
            "ranking-loss margin compares the passages of a batch; give at least 2",
        )
        known = (*METRICS[self.task], *task.entity_metrics)
        check(
            self.metric is None or self.metric in known,
            "metric",
            f"{self.metric!r} is not a metric of {self.task}, which has {', '.join(sorted(known))}",
        )
        check(
            not self.train_head or task.generates,
            "train-head",
            f"applies to text-generation; the head of {self.task} always trains",
        )
        check(
            self.class_weights == "none" or task.one_label,
            "class-weights",
            f"need rows with exactly one label each; {self.task} has none",
        )

    def _check_gates(self) -> None:
        check(self.layout in LAYOUTS, "layout", f"{self.layout!r} is not one of {', '.join(LAYOUTS)}")
        check(
            not self.width_gate or self.layout == "coupled",
            "width-gate",
            f"needs --layout coupled, not {self.layout}",
        )
        check(0 <= self.target_removed < 1, "target-removed", f"must lie in [0, 1), got {self.target_removed}")
        check(all(0 <= level < 1 for level in self.levels), "levels", f"must lie in [0, 1), got {self.levels}")
        check(all(x > 1 for x in self.target_speedup), "target-speedup", f"must exceed 1, got {self.target_speedup}")

    def _check_levels(self) -> None:
        for name in ("levels", "target_speedup"):
            values, flag = getattr(self, name), name.replace("_", "-")
            ascending = all(low < high for low, high in pairwise(values))
            check(ascending, flag, f"must ascend, got {','.join(map(str, values))}")
            check(not (values and self.layout == "none"), flag, "needs gates, and --layout none has none")
            if values:
                alike = ", ".join(name for name, after in pairwise(self.level_names) if name == after)
                check(not alike, flag, f"more than one would be saved as {alike}; choose levels 0.01 apart")
        check(not (self.levels and self.target_speedup), "target-speedup", "cannot be combined with --levels; omit one")

    def _check_objective(self) -> None:
        check(self.target in TARGETS, "target", f"{self.target!r} is not one of {', '.join(TARGETS)}")
        check(self.objective in OBJECTIVES, "objective", f"{self.objective!r} is not one of {', '.join(OBJECTIVES)}")
        aimless = bool(self.levels) and self.objective == "penalty"
        check(not aimless, "levels", "the objective penalty cannot aim at a removed share; use --objective share")
        ranked = self.width_gate and self.objective == "sensitivity"
        check(not ranked, "width-gate", "the objective sensitivity cannot close it; use --objective share")
        weight = self.penalty_weight
        weighed = weight is None or self.objective in PENALTY_WEIGHTS
        check(weighed, "penalty-weight", f"has no effect with --objective {self.objective}; omit it")
        check(weight is None or weight > 0, "penalty-weight", f"must be positive, got {weight}")

    def _check_speedup(self) -> None:
        check_shape(self.shape)
        check(self.phase in PHASES, "phase", f"{self.phase!r} is not one of {', '.join(PHASES)}")
        if not self.target_speedup:
            return
        held = self.objective in ("share", "sensitivity")
        check(held, "objective", f"{self.objective} cannot aim at --target-speedup; use share or sensitivity")
        measured = self.target in MEASURED_TARGETS
        message = f"no costs are measured for {self.target} here; use {', '.join(MEASURED_TARGETS)}, or --levels"
        check(measured, "target-speedup", message)
        message = "is missing from the cost table that --target-speedup needs; omit one of them"
        check(not self.width_gate, "width-gate", message)

    def _check_distillation(self) -> None:
        for name in ("distill_logits", "distill_hidden"):
            value = getattr(self, name)
            check(value >= 0, name.replace("_", "-"), f"must not be negative, got {value}")
        check(self.distill_temperature > 0, "distill-temperature", f"must be positive, got {self.distill_temperature}")
        narrowed = bool(self.distill_hidden) and self.width_gate
        check(not narrowed, "distill-hidden", "needs the full residual width; omit --width-gate")

    def _check_lora(self) -> None:
        check(self.lora_rank >= 0, "lora-rank", f"must not be negative, got {self.lora_rank}")
        check(bool(self.lora_on), "lora-on", f"names no linear; choose among {', '.join(LORA_TARGETS)}")
        unknown = [name for name in self.lora_on if name not in LORA_TARGETS]
        check(not unknown, "lora-on", f"unknown: {', '.join(unknown)}; choose among {', '.join(LORA_TARGETS)}")
        alone = self.layout == "none" and not self.lora_rank and self.adapter is None
        message = "needs --layout none and --lora-rank 0, for gates act on a frozen base"
        check(alone or not self.train_base, "train-base", message)

    def _check_training(self) -> None:
        check(self.max_length > 1, "max-length", f"must be greater than 1, got {self.max_length}")
        check(0 <= self.seed < 2**32, "seed", f"must lie in [0, 2**32), got {self.seed}")
        check(0 < self.settle_fraction < 1, "settle-fraction", f"must lie in (0, 1), got {self.settle_fraction}")
        for name in ("free_fraction", "warmup"):
            value = getattr(self, name)
            check(0 <= value < 1, name.replace("_", "-"), f"must lie in [0, 1), got {value}")
        for name in ("samples", "noise_sigma", "max_grad_norm"):
            value = getattr(self, name)
            check(value >= 0, name.replace("_", "-"), f"must not be negative, got {value}")
        for name in ("epochs", "batch_size", "learning_rate", "gate_learning_rate", "penalty_sigma", "save_steps"):
            value = getattr(self, name)
            check(value > 0, name.replace("_", "-"), f"must be positive, got {value}")
        for name in ("max_steps", "max_train_rows", "threads", "eval_steps"):
            value = getattr(self, name)
            check(value is None or value > 0, name.replace("_", "-"), f"must be positive, got {value}")
        weights = self.label_weights
        usable = all(0 <= weight < math.inf for weight in weights) and (not weights or any(weights))
        message = f"must be finite, not negative and not all 0, got {self.class_weights}"
        check(usable, "class-weights", message)

    @property
    def label_weights(self) -> tuple[float, ...]:
        """The weights that `class_weights` lists, in label order; empty if it lists none."""
        if self.class_weights in ("none", "balanced"):
            return ()
        try:
            return tuple(float(part) for part in self.class_weights.split(","))
        except ValueError as error:
            raise ValueError(f"class-weights: {self.class_weights!r} is not a list of numbers") from error

    @property
    def compares_rows(self) -> bool:
        """Whether the loss compares the rows of a group, so that they have to come in one batch."""
        return self.ranking_loss == "margin"

    @property
    def presses(self) -> bool:
        """Whether the objective presses noisy gates shut; a ranking closes them directly instead."""
        return self.objective not in RANKINGS

    @property
    def gate_weight(self) -> float:
        """Weight of the objective's penalty relative to the task loss; 1 where a multiplier finds its own weight."""
        return PENALTY_WEIGHTS.get(self.objective, 1.0) if self.penalty_weight is None else self.penalty_weight

    @property
    def aims(self) -> tuple[float, ...]:
        """What each level aims at, ascending: removed shares, or shares of the time to save; empty without gates."""
        if self.layout == "none":
            return ()
        if self.target_speedup:
            return tuple(1.0 - 1.0 / speedup for speedup in self.target_speedup)
        return self.levels or (self.target_removed,)

    @property
    def level_names(self) -> tuple[str, ...]:
        """The name of each level's folder; a run without gates has one level."""
        if self.target_speedup and self.layout != "none":
            return tuple(f"{speedup:.2f}x" for speedup in self.target_speedup)
        return tuple(f"{aim:.2f}" for aim in self.aims) or ("0.00",)

    @property
    def walks(self) -> bool:
        """Whether the run keeps several levels."""
        return bool(self.levels) or len(self.target_speedup) > 1


def check_shape(text: str) -> None:
    """Refuse a text that is not BATCHxSEQUENCE, naming the option."""
    try:
        Shape.parse(text)
    except ValueError as error:
        raise ValueError(f"shape: {error}") from error
