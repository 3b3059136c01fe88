"""A pattern: a family, a task, a layout, an adapter, and gates drawn afresh per layer, all from one seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from finegates_export.families import family_of
from finegates_export.families.residual import residual_map
from finegates_export.gates.adapter import LoraSettings
from finegates_export.gates.layout import build_layout
from tests.tiny import LORA
from tests.tiny_models import DECODER_VARIANTS, ENCODER_VARIANTS, IMAGE_VARIANTS, tiny_model

ADAPTERS: dict[str, LoraSettings | None] = {
    "none": None,
    "lora": LORA,
    "rslora": LoraSettings(rank=2, alpha=3.0, rslora=True),
    "dora": LoraSettings(rank=2, alpha=3.0, dora=True),
}
ACTIVATIONS = ("gelu", "gelu", "relu", "silu", "sigmoid")
"""gelu twice: it is what most models have. sigmoid(0) is not 0: a closed neuron leaves a constant."""
TEXT_TASKS = (
    "classification", "classification", "multi-label", "regression", "token-classification", "question-answering",
    "feature-extraction", "embedding",
)  # fmt: skip
IMAGE_TASKS = ("image-classification",)
DECODER_TASKS = (
    "text-generation", "text-generation", "text-generation", "classification", "regression", "feature-extraction",
)  # fmt: skip
ALL_OPEN, ALL_CLOSED = 0.15, 0.1
"""How often a gate vector has no closed gate, and how often no open one; else any share is as likely as any other."""


@dataclass(frozen=True)
class Pattern:
    """Everything that a seed decides, apart from the weights and the gates themselves."""

    seed: int
    variant: str
    task: str
    layout: str
    adapter: str
    width: bool
    gathers: str
    layers: int
    activation: str

    def words(self) -> str:
        """The pattern in one cell of a table."""
        more = "+width" if self.width else "+gathers" if self.gathers == "always" else ""
        return f"{self.variant} {self.task} {self.layout}{more} {self.adapter} {self.layers}x {self.activation}"

    @property
    def base(self) -> dict[str, Any]:
        """What tells one base model from another."""
        labels = 1 if self.task == "regression" else 3
        shape = {"variant": self.variant, "layers": self.layers, "activation": self.activation, "labels": labels}
        return {**shape, "generator": True} if self.task == "text-generation" else shape


def draw_pattern(seed: int, *, decoders: bool = False) -> Pattern:
    """The pattern of a seed, of an encoder or of a decoder; consecutive seeds walk through the families."""
    generator = np.random.default_rng([seed, 2 if decoders else 0])
    variants = tuple(DECODER_VARIANTS) if decoders else ENCODER_VARIANTS
    variant = variants[seed % len(variants)]
    tasks = DECODER_TASKS if decoders else IMAGE_TASKS if variant in IMAGE_VARIANTS else TEXT_TASKS
    task = str(generator.choice(tasks))
    layout = str(generator.choice(["coupled", "matrix"]))
    layers = int(generator.integers(1, 3))
    config = tiny_model(variant, layers=1).config
    may_narrow = layout == "coupled" and family_of(config.model_type).width_refusal(config) is None
    return Pattern(
        seed=seed,
        variant=variant,
        task=task,
        layout=layout,
        adapter=str(generator.choice(list(ADAPTERS))),
        width=may_narrow and bool(generator.random() < 0.4),
        gathers="always" if layout == "matrix" and generator.random() < 0.5 else "never",
        layers=layers,
        activation=str(generator.choice(ACTIVATIONS)),
    )


def draw_gates(pattern: Pattern, model: Any) -> dict[str, Tensor]:
    """Gate vectors: of each a share of its own is closed, the others are fractional or open."""
    structure = family_of(model.config.model_type).structure(model.config)
    layout = build_layout(pattern.layout, structure, residual_map(model, structure) if pattern.width else None)
    generator = np.random.default_rng([pattern.seed, 1])
    vectors = {}
    for gate in layout.gates:
        dice = generator.random()
        share = 0.0 if dice < ALL_OPEN else 1.0 if dice < ALL_OPEN + ALL_CLOSED else generator.random()
        closed = generator.random(gate.size) < share
        open_mu = generator.uniform(-0.45, 0.7, gate.size)
        mu = np.where(closed, generator.uniform(-1.5, -0.5, gate.size), open_mu)
        vectors[gate.name] = torch.from_numpy(mu.astype(np.float32))
    return vectors


def base_folder(pattern: Pattern, root: Path) -> Path:
    """Where the pattern's base lies below `root`."""
    return root / "-".join(str(value) for value in pattern.base.values())
