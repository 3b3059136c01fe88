"""Everything `finegates-train` can be told, checked when it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal, get_args

from finegates_export.common.options import Options, as_path, check
from finegates_export.common.shapes import Shape
from finegates_export.common.tasks import POOLINGS, TASKS
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

    base: str
    """Base model: a folder with safetensors, or a hub id."""
    data: str
    """Rows: a TSV, CSV, JSONL, Parquet or text file, a folder with train and dev files, or a `datasets` name."""
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
    """What the model predicts; feature-extraction is exported but not trained."""
    pooling: Literal["mean", "cls"] | None = None
    """Embeddings: the mean over the tokens, or the first one; default: what the base says in 1_Pooling/."""
    normalize: bool | None = None
    """Embeddings: bring vectors to length 1; default: what the base says in modules.json."""
    ranking_loss: Literal["binary", "mse"] = "binary"
    """Reranking: `binary` cross-entropy on labels from 0 to 1, or `mse`, the squared error to a teacher's scores."""
    layout: Literal["matrix", "coupled", "none"] = "coupled"
    """Which gates: `coupled` for speed, `matrix` as in the paper, `none` for the unpruned model."""
    width_gate: bool = False
    """Gate the residual width too: every matrix, norm and embedding gets narrower (layout `coupled`)."""
    target_removed: float = 0.4
    """Share of the layers' linear weights to remove, padding included."""
    levels: tuple[float, ...] = ()
    """Several removed shares in one run, ascending; each is settled and saved. Overrides --target-removed."""
    target_speedup: tuple[float, ...] = ()
    """How many times as fast as unpruned, measured on this machine; several ascend in one run, each a level."""
    target: Literal["ort-cpu", "portable", "ort-cuda", "tensorrt", "web"] = "ort-cpu"
    """What the model is made for: the widths that its kernels like, and (`ort-cpu`) whose speed is measured."""
    shape: str = "8x128"
    """Batch x sequence at which --target-speedup is measured."""
    phase: Literal["prefill", "decode"] = "decode"
    """Text generation: what --target-speedup makes faster, reading a prompt of --shape, or writing a token in each of
    BATCH rows behind SEQUENCE others."""
    objective: Literal["share", "target", "penalty", "magnitude", "sensitivity"] = "share"
    """`share` presses gates to the removed share; `sensitivity` closes what costs the task least; `target` and
    `penalty` are the paper's; `magnitude` learns no gates."""
    penalty_weight: float | None = None
    """Weight of the objectives `target` (default 50) and `penalty` (default 1)."""

    teacher: Path | None = None
    """Learn from this run's outputs as well: an unpruned model trained on the same task and labels."""
    distill_logits: float = 1.0
    """Weight of the distance to the teacher's logits."""
    distill_hidden: float = 0.0
    """Weight of the distance to the hidden states behind each of the teacher's layers."""
    distill_temperature: float = 2.0
    """Temperature at which logits are compared."""

    eval_data: str | None = None
    """Evaluation rows; default: the folder's dev file, else a tenth of the rows, chosen by a hash of the text."""
    text_column: str | None = None
    """Column of the (first) sentence, prompt or conversation; default: found by its name."""
    pair_column: str | None = None
    """Column of the second sentence; default: found by its name."""
    label_column: str | None = None
    """Column of the label, score or completion; default: found by its name."""
    max_length: int = 128
    """Tokens a row is cut to; documents to generate are packed into blocks of as many."""
    max_train_rows: int | None = None
    """Train on this many rows, drawn by the seed."""
    samples: int = 500
    """Evaluation rows kept, tokenized, in the run folder so that the exporter checks on real input; 0 keeps none."""

    lora_rank: int = 8
    """Rank of LoRA; 0 trains without it."""
    lora_alpha: float = 16.0
    """LoRA's alpha."""
    lora_dropout: float = 0.0
    """Dropout in front of LoRA."""
    lora_on: tuple[LoraTarget, ...] = LORA_TARGETS
    """Gated linears that get LoRA."""
    rslora: bool = False
    """Scale LoRA by alpha / sqrt(rank)."""
    dora: bool = False
    """Weight-decomposed LoRA."""
    adapter: Path | None = None
    """Start from this peft LoRA adapter, or from LoRA and head of this unpruned run, instead of a new one; rank and
    alpha are its own."""
    train_biases: bool = False
    """Train the biases of the gated linears as well."""
    train_head: bool = False
    """Text generation: train the head too, where it is not tied to the embeddings; other heads always train."""
    train_base: bool = False
    """Train all weights (layout `none`, without LoRA); the whole model is then part of the run folder."""

    epochs: float = 5.0
    """Passes over the training rows, all levels together."""
    max_steps: int | None = None
    """Optimizer steps, all levels together; overrides --epochs."""
    batch_size: int = 32
    """Rows a step, over all processes."""
    learning_rate: float = 5e-4
    """Peak learning rate of LoRA, head and biases."""
    gate_learning_rate: float = 2e-2
    """Learning rate of the gates."""
    weight_decay: float = 0.01
    """Decay of LoRA and head; gates have none."""
    warmup: float = 0.06
    """Share of the steps over which the learning rate rises."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm; 0 leaves them."""
    class_weights: str = "none"
    """`none`, `balanced`, or one weight per label in label order: 0.3,0.7."""
    metric: str | None = None
    """Chooses the best checkpoint; default: the task's first (accuracy, spearman, exact match, perplexity ...)."""

    noise_sigma: float = 0.1
    """Standard deviation of the gate noise."""
    penalty_sigma: float = 0.5
    """Sigma of the penalty's P(open) = Phi((mu + 0.5) / sigma)."""
    free_fraction: float = 0.1
    """Share of the first level's steps before the gates are pressed."""
    settle_fraction: float = 0.4
    """Share of a level's steps with the structure settled."""

    eval_steps: int | None = None
    """Steps between evaluations; default: one after every pass over the rows."""
    save_steps: int = 100
    """Steps between checkpoints for --resume."""
    resume: bool = False
    """Go on from the last checkpoint of an interrupted run."""
    overwrite: bool = False
    """Replace an existing run folder."""
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    """Arithmetic of forward and backward; `auto` is bfloat16 where the processor has it. Gates stay in float32."""
    seed: int = 0
    """Order of rows, new head and LoRA, dropout, gate noise."""
    threads: int | None = None
    """Processor threads; default: torch's."""

    def __post_init__(self) -> None:
        for name in ("out", "adapter", "teacher"):
            value = getattr(self, name)
            object.__setattr__(self, name, as_path(value) if value else None)
        self._check_task()
        self._check_gates()
        self._check_objective()
        self._check_learning()

    def _check_task(self) -> None:
        check(self.task in TASKS, "task", f"{self.task!r} is not one of {', '.join(TASKS)}")
        check(
            bool(METRICS[self.task]),
            "task",
            f"{self.task} has no head and no score to train on; train it as an embedding, on scored pairs",
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
        known = METRICS[self.task]
        check(
            self.metric is None or self.metric in known, "metric", f"{self.metric!r}: {self.task} has {sorted(known)}"
        )
        check(
            not self.train_head or task.generates,
            "train-head",
            f"is for text-generation; the head of {self.task} always trains",
        )
        check(
            self.class_weights == "none" or task.one_label,
            "class-weights",
            f"weigh rows by their one label; {self.task} has none",
        )

    def _check_gates(self) -> None:
        check(self.layout in LAYOUTS, "layout", f"{self.layout!r} is not one of {', '.join(LAYOUTS)}")
        check(
            not self.width_gate or self.layout == "coupled",
            "width-gate",
            f"needs the layout coupled, not {self.layout}",
        )
        check(0 <= self.target_removed < 1, "target-removed", f"must lie in [0, 1), got {self.target_removed}")
        check(all(0 <= level < 1 for level in self.levels), "levels", f"must lie in [0, 1), got {self.levels}")
        check(all(x > 1 for x in self.target_speedup), "target-speedup", f"must exceed 1, got {self.target_speedup}")
        for name in ("levels", "target_speedup"):
            values, flag = getattr(self, name), name.replace("_", "-")
            ascending = all(low < high for low, high in pairwise(values))
            check(ascending, flag, f"must ascend, got {','.join(map(str, values))}")
            check(not (values and self.layout == "none"), flag, "needs gates; the layout none has none")
            if values:
                alike = ", ".join(name for name, after in pairwise(self.level_names) if name == after)
                check(not alike, flag, f"more than one would be saved as {alike}; ask for levels 0.01 apart")
        check(not (self.levels and self.target_speedup), "target-speedup", "is one way to ask, --levels another")

    def _check_objective(self) -> None:
        check(self.target in TARGETS, "target", f"{self.target!r} is not one of {', '.join(TARGETS)}")
        check(self.objective in OBJECTIVES, "objective", f"{self.objective!r} is not one of {', '.join(OBJECTIVES)}")
        check_shape(self.shape)
        check(self.phase in PHASES, "phase", f"{self.phase!r} is not one of {', '.join(PHASES)}")
        if self.target_speedup:
            held = self.objective in ("share", "sensitivity")
            check(held, "objective", f"{self.objective} has no speed-up to hold; leave it away")
            measured = self.target in MEASURED_TARGETS
            told = f"no costs are measured for {self.target} here; use {', '.join(MEASURED_TARGETS)}, or --levels"
            check(measured, "target-speedup", told)
            check(not self.width_gate, "width-gate", "is not in the table of costs; leave it or --target-speedup away")
        check(not (self.levels and self.objective == "penalty"), "levels", "the objective penalty meets no share")
        ranks = self.objective == "sensitivity"
        check(not (ranks and self.width_gate), "width-gate", "is closed by pressure; use --objective share")
        weighed = self.objective in PENALTY_WEIGHTS
        check(
            self.penalty_weight is None or weighed, "penalty-weight", f"has no place in the objective {self.objective}"
        )
        check(self.penalty_weight is None or self.penalty_weight > 0, "penalty-weight", "must be positive")
        for name in ("distill_logits", "distill_hidden"):
            check(getattr(self, name) >= 0, name.replace("_", "-"), f"must not be negative, got {getattr(self, name)}")
        check(self.distill_temperature > 0, "distill-temperature", f"must be positive, got {self.distill_temperature}")
        check(not (self.distill_hidden and self.width_gate), "distill-hidden", "needs the whole residual width")

    def _check_learning(self) -> None:
        check(self.max_length > 1, "max-length", f"must be greater than 1, got {self.max_length}")
        check(self.lora_rank >= 0, "lora-rank", f"must not be negative, got {self.lora_rank}")
        check(bool(self.lora_on), "lora-on", f"names no linear; choose among {', '.join(LORA_TARGETS)}")
        unknown = [name for name in self.lora_on if name not in LORA_TARGETS]
        check(not unknown, "lora-on", f"{unknown} unknown; choose among {', '.join(LORA_TARGETS)}")
        alone = self.layout == "none" and not self.lora_rank and self.adapter is None
        check(
            alone or not self.train_base,
            "train-base",
            "needs --layout none and --lora-rank 0: gates act on a frozen base",
        )
        check(0 <= self.seed < 2**32, "seed", f"must lie in [0, 2**32), got {self.seed}")
        check(self.samples >= 0, "samples", f"must not be negative, got {self.samples}")
        check(self.noise_sigma >= 0, "noise-sigma", f"must not be negative, got {self.noise_sigma}")
        check(0 < self.settle_fraction < 1, "settle-fraction", f"must lie in (0, 1), got {self.settle_fraction}")
        check(0 <= self.free_fraction < 1, "free-fraction", f"must lie in [0, 1), got {self.free_fraction}")
        check(0 <= self.warmup < 1, "warmup", f"must lie in [0, 1), got {self.warmup}")
        for name in ("epochs", "batch_size", "learning_rate", "gate_learning_rate", "penalty_sigma", "save_steps"):
            check(getattr(self, name) > 0, name.replace("_", "-"), f"must be positive, got {getattr(self, name)}")
        check(self.max_grad_norm >= 0, "max-grad-norm", f"must not be negative, got {self.max_grad_norm}")
        weights = self.label_weights
        check(
            all(0 <= weight < math.inf for weight in weights) and (not weights or any(weights)),
            "class-weights",
            f"must be finite, none negative and not all 0, got {self.class_weights}",
        )
        for name in ("max_steps", "max_train_rows", "threads", "eval_steps"):
            value = getattr(self, name)
            check(value is None or value > 0, name.replace("_", "-"), f"must be positive, got {value}")

    @property
    def label_weights(self) -> tuple[float, ...]:
        """The weights that `class_weights` lists, in label order; empty where it lists none."""
        if self.class_weights in ("none", "balanced"):
            return ()
        try:
            return tuple(float(part) for part in self.class_weights.split(","))
        except ValueError as error:
            raise ValueError(f"class-weights: {self.class_weights!r} is not a list of numbers") from error

    @property
    def presses(self) -> bool:
        """Whether pressure closes gates, under noise; by a ranking they close where they are."""
        return self.objective not in RANKINGS

    @property
    def gate_weight(self) -> float:
        """What the objective's penalty weighs beside the task loss; 1 where a multiplier finds its own weight."""
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
        """How each level's folder is called; one without gates."""
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
