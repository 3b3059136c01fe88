"""Everything `finegates-train` can be told, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finegates_export.gates.layout import LAYOUTS
from finegates_export.options import Options, check
from finegates_export.tasks import POOLINGS, TASKS
from finegates_trainer.metrics import METRICS

LoraTarget = Literal["query", "key", "value", "output", "up", "down"]
LORA_TARGETS: tuple[LoraTarget, ...] = ("query", "key", "value", "output", "up", "down")


@dataclass(frozen=True, kw_only=True)
class TrainOptions(Options):
    """Options of one training run."""

    base: str
    """Base model: a folder with safetensors, or a hub id."""
    data: str
    """Rows: a TSV, CSV, JSONL or Parquet file, a folder with train and dev files, or a `datasets` name."""
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
    ] = "classification"
    """What the model predicts; feature-extraction is exported but not trained."""
    pooling: Literal["mean", "cls"] | None = None
    """Embeddings: the mean over the tokens, or the first one; default: what the base says in 1_Pooling/."""
    normalize: bool | None = None
    """Embeddings: bring vectors to length 1; default: what the base says in modules.json."""
    layout: Literal["matrix", "coupled", "none"] = "coupled"
    """Which gates: `coupled` for speed, `matrix` as in the paper, `none` for the unpruned model."""
    width_gate: bool = False
    """Gate the residual width too: every matrix, norm and embedding gets narrower (layout `coupled`)."""
    target_removed: float = 0.4
    """Share of the layers' linear weights to remove, padding included."""
    levels: tuple[float, ...] = ()
    """Several removed shares in one run, ascending; each is settled and saved. Overrides --target-removed."""

    eval_data: str | None = None
    """Evaluation rows; default: the folder's dev file, else a tenth of the rows, chosen by a hash of the text."""
    text_column: str | None = None
    """Column of the (first) sentence; default: found by its name."""
    pair_column: str | None = None
    """Column of the second sentence; default: found by its name."""
    label_column: str | None = None
    """Column of the label or score; default: found by its name."""
    max_length: int = 128
    """Tokens a row is cut to."""
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
    """Start from this peft LoRA adapter instead of a new one."""
    train_biases: bool = False
    """Train the biases of the gated linears as well."""

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
    """Chooses the best checkpoint; default: the task's first (accuracy, spearman, micro F1, exact match)."""

    noise_sigma: float = 0.1
    """Standard deviation of the gate noise."""
    penalty_sigma: float = 0.5
    """Sigma of the penalty's P(open) = Phi((mu + 0.5) / sigma)."""
    free_fraction: float = 0.1
    """Share of the first level's steps before the gates are pressed."""
    settle_fraction: float = 0.4
    """Share of a level's steps with the structure settled."""

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
        object.__setattr__(self, "out", Path(self.out))
        object.__setattr__(self, "adapter", Path(self.adapter) if self.adapter else None)
        check(self.task in TASKS, "task", f"{self.task!r} is not one of {', '.join(TASKS)}")
        check(
            bool(METRICS[self.task]),
            "task",
            f"{self.task} has no head and no score to train on; train it as an embedding, on scored pairs",
        )
        embeds = self.task == "embedding"
        check(self.pooling is None or embeds, "pooling", f"applies to embeddings, not to {self.task}")
        check(self.pooling in (None, *POOLINGS), "pooling", f"{self.pooling!r} is not one of {', '.join(POOLINGS)}")
        check(self.normalize is None or embeds, "normalize", f"applies to embeddings, not to {self.task}")
        check(self.layout in LAYOUTS, "layout", f"{self.layout!r} is not one of {', '.join(LAYOUTS)}")
        check(
            not self.width_gate or self.layout == "coupled",
            "width-gate",
            f"needs the layout coupled, not {self.layout}",
        )
        check(0 <= self.target_removed < 1, "target-removed", f"must lie in [0, 1), got {self.target_removed}")
        check(all(0 <= level < 1 for level in self.levels), "levels", f"must lie in [0, 1), got {self.levels}")
        ascending = all(low < high for low, high in zip(self.levels, self.levels[1:], strict=False))
        check(ascending, "levels", f"must ascend, got {','.join(map(str, self.levels))}")
        check(not (self.levels and self.layout == "none"), "levels", "need gates; the layout none has no levels")
        check(self.max_length > 1, "max-length", f"must be greater than 1, got {self.max_length}")
        check(self.lora_rank >= 0, "lora-rank", f"must not be negative, got {self.lora_rank}")
        check(bool(self.lora_on), "lora-on", f"names no linear; choose among {', '.join(LORA_TARGETS)}")
        unknown = [name for name in self.lora_on if name not in LORA_TARGETS]
        check(not unknown, "lora-on", f"{unknown} unknown; choose among {', '.join(LORA_TARGETS)}")
        check(0 <= self.seed < 2**32, "seed", f"must lie in [0, 2**32), got {self.seed}")
        check(self.samples >= 0, "samples", f"must not be negative, got {self.samples}")
        check(self.noise_sigma >= 0, "noise-sigma", f"must not be negative, got {self.noise_sigma}")
        check(0 < self.settle_fraction < 1, "settle-fraction", f"must lie in (0, 1), got {self.settle_fraction}")
        check(0 <= self.free_fraction < 1, "free-fraction", f"must lie in [0, 1), got {self.free_fraction}")
        check(0 <= self.warmup < 1, "warmup", f"must lie in [0, 1), got {self.warmup}")
        for name in ("epochs", "batch_size", "learning_rate", "gate_learning_rate", "penalty_sigma", "save_steps"):
            check(getattr(self, name) > 0, name.replace("_", "-"), f"must be positive, got {getattr(self, name)}")
        for name in ("max_steps", "max_train_rows", "threads"):
            value = getattr(self, name)
            check(value is None or value > 0, name.replace("_", "-"), f"must be positive, got {value}")
        known = METRICS[self.task]
        check(
            self.metric is None or self.metric in known, "metric", f"{self.metric!r}: {self.task} has {sorted(known)}"
        )
        check(
            self.class_weights == "none" or TASKS[self.task].unit == "row",
            "class-weights",
            f"weigh rows by their one label; {self.task} has none",
        )

    @property
    def removed_levels(self) -> tuple[float, ...]:
        """The removed shares to settle at, ascending; empty for the layout `none`."""
        if self.layout == "none":
            return ()
        return self.levels or (self.target_removed,)
