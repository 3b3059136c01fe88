"""Everything a run needs before its first step, built from the options; errors in the input surface here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finegates_export.errors import InputError, UnsupportedError
from finegates_export.families.base import BaseModel, find_base
from finegates_export.families.family import Family
from finegates_export.families.structure import Structure
from finegates_export.gates.adapter import LoraSettings, add_lora, load_adapter, read_adapter
from finegates_export.gates.assemble import load_head
from finegates_export.gates.gated_model import GatedModel, plain_model
from finegates_trainer.batches import Tokenized, tokenize
from finegates_trainer.data import DataSource, LabelledData, encode_labels, label_names, limit_rows, read_data
from finegates_trainer.options import TrainOptions

HUB_LABEL = "LABEL_"
"""transformers names labels LABEL_0, LABEL_1 where nobody named them."""


@dataclass
class Training:
    """A run ready to start."""

    options: TrainOptions
    base: BaseModel
    family: Family
    structure: Structure
    tokenizer: Any
    labels: tuple[str, ...]
    gated: GatedModel
    data: LabelledData
    train_rows: Tokenized
    eval_rows: Tokenized
    max_length: int

    def parameters(self) -> dict[str, list[tuple[str, Tensor]]]:
        """Trained parameters by kind: gates, lora, head, biases."""
        heads = self.family.head_modules(plain_model(self.gated.model))
        kinds: dict[str, list[tuple[str, Tensor]]] = {"gates": [], "lora": [], "head": [], "biases": []}
        if len(self.gated.gates):
            kinds["gates"].append(("gates.mu", self.gated.gates.mu))
        for name, parameter in plain_model(self.gated.model).named_parameters():
            if not parameter.requires_grad:
                continue
            is_head = any(name.startswith(f"{head}.") for head in heads)
            kind = "lora" if "lora_" in name else "head" if is_head else "biases"
            kinds[kind].append((name, parameter))
        return kinds

    def head_state(self) -> dict[str, Tensor]:
        """Head and trained biases by the plain model's names, copies."""
        kinds = self.parameters()
        return {
            name.replace(".base_layer.", "."): parameter.detach().clone()
            for name, parameter in (*kinds["head"], *kinds["biases"])
        }


def prepare(options: TrainOptions) -> Training:
    """Read base and data and build the gated model, all from the seed.

    Raises:
        InputError: base, data or adapter cannot be used.
        UnsupportedError: a family that is not supported.
    """
    base = find_base(options.base)
    config = base.config()
    family = base.family()
    structure = family.structure(config)
    refusal = family.width_refusal(config) if options.width_gate else None
    if refusal:
        raise UnsupportedError(f"{base.id}: the residual width of this model cannot be gated: {refusal}")
    data = read_data(
        DataSource(options.data, options.eval_data, options.text_column, options.pair_column, options.label_column)
    )
    data = LabelledData(limit_rows(data.train, options.max_train_rows, options.seed), data.evaluation)
    labels = label_names(data.train, _base_labels(config)) if options.task == "classification" else ()
    if options.task == "classification" and not 1 < len(labels) <= len(data.train):
        raise InputError(f"{len(data.train)} training rows with {len(labels)} labels; classification needs two or more")
    train_labels = encode_labels(data.train, options.task, labels, "training")
    eval_labels = encode_labels(data.evaluation, options.task, labels, "evaluation")
    tokenizer = base.tokenizer()
    max_length = min(options.max_length, config.max_position_embeddings)
    names = family.input_names(config)
    torch.manual_seed(options.seed)
    model = base.load(options.task, labels)
    gated = GatedModel(
        _trainable(model, family, structure, options),
        structure,
        options.layout,
        width=options.width_gate,
        noise_sigma=options.noise_sigma,
        seed=options.seed,
    )
    return Training(
        options=options,
        base=base,
        family=family,
        structure=structure,
        tokenizer=tokenizer,
        labels=labels,
        gated=gated,
        data=data,
        train_rows=tokenize(tokenizer, data.train, train_labels, max_length, names),
        eval_rows=tokenize(tokenizer, data.evaluation, eval_labels, max_length, names),
        max_length=max_length,
    )


def _trainable(model: Any, family: Family, structure: Structure, options: TrainOptions) -> Any:
    """Freeze the base; open the head, LoRA and, by option, the gated biases."""
    heads = family.head_modules(model)
    wrapped = model.requires_grad_(False)
    if options.adapter is not None:
        stored = read_adapter(Path(options.adapter))
        load_head(model, stored.other)
        wrapped = load_adapter(model, stored, trainable=True)
    elif options.lora_rank:
        linears = tuple(name for layer in structure.layers for name in _lora_linears(layer, options))
        settings = LoraSettings(
            options.lora_rank, options.lora_alpha, options.lora_dropout, rslora=options.rslora, dora=options.dora
        )
        wrapped = add_lora(model, linears, settings)
    plain: nn.Module = plain_model(wrapped)
    for head in heads:
        plain.get_submodule(head).requires_grad_(True)
    if options.train_biases:
        for name in structure.linears():
            linear: Any = plain.get_submodule(name)
            bias = getattr(linear, "base_layer", linear).bias
            if bias is not None:
                bias.requires_grad_(True)
    return wrapped


def _lora_linears(layer: Any, options: TrainOptions) -> list[str]:
    roles = layer.roles()
    return list(dict.fromkeys(roles[name] for name in options.lora_on))


def _base_labels(config: Any) -> tuple[str, ...]:
    names = [config.id2label[i] for i in range(len(config.id2label or {}))]
    if all(name.startswith(HUB_LABEL) for name in names):
        return ()
    return tuple(names)
