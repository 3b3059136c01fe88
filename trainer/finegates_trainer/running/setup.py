"""Everything a run needs before its first step, built from the options; input errors surface here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from finegates_export.common.tasks import PIXELS, Task, task_of
from finegates_export.common.tasks.pooling import Pooling, find_pooling
from finegates_export.common.text_inputs import TextInputs
from finegates_export.errors import InputError, UnsupportedError
from finegates_export.families.family import Family
from finegates_export.families.model_config import ModelConfig, image_shape
from finegates_export.families.structure import Structure
from finegates_export.gates.gated_model import GatedModel, plain_model
from finegates_export.sources.base import BaseModel, find_base
from finegates_export.sources.run_folder import read_run
from finegates_export.sources.sample_texts import SampleText
from finegates_export.sources.tokenizer import text_inputs_of
from finegates_trainer.data import (
    LabelledData,
    Rows,
    encode_labels,
    label_name,
    label_names,
    limit_rows,
    read_data,
)
from finegates_trainer.data.examples import Examples
from finegates_trainer.data.reading_check import check_embeddings, check_reading
from finegates_trainer.data.sample_texts import sample_texts
from finegates_trainer.data.tokenizing import Reading, make_examples
from finegates_trainer.learning.distillation import DistillationWeights, Teacher, check_teacher
from finegates_trainer.learning.next_tokens import postpone_head
from finegates_trainer.options import TrainOptions
from finegates_trainer.running.contents import contents_read
from finegates_trainer.running.early import allowed_length, source_of
from finegates_trainer.running.start import check_kept, with_lora

HUB_LABEL = "LABEL_"
"""transformers' default label names, LABEL_0 and so on."""


@dataclass
class Training:
    """A run ready to start."""

    options: TrainOptions
    base: BaseModel
    family: Family
    structure: Structure
    preprocessor: Any
    """The base's tokenizer, or its image processor."""
    labels: tuple[str, ...]
    pooling: Pooling | None
    """How to pool the hidden state into an embedding; None for other tasks."""
    gated: GatedModel
    data: LabelledData
    train_rows: Examples
    eval_rows: Examples
    max_length: int
    text: TextInputs | None
    """How texts are read; None for images."""
    texts: list[SampleText]
    """Some of the evaluation texts, as they are read."""
    teacher: Teacher | None = None

    @cached_property
    def base_tensors(self) -> dict[str, str]:
        """The base's `tensor_hashes`, computed once."""
        return self.base.tensor_hashes()

    @cached_property
    def contents(self) -> dict[str, str]:
        """Hashes of what was read; see `contents_read`."""
        return contents_read(self.base, self.base_tensors, self.options)

    def parameters(self) -> dict[str, list[tuple[str, Tensor]]]:
        """Trained parameters by kind: gates, lora, head, biases, base."""
        heads = _trained_heads(plain_model(self.gated.model), self.family, self.options)
        kinds: dict[str, list[tuple[str, Tensor]]] = {"gates": [], "lora": [], "head": [], "biases": [], "base": []}
        if self.gated.gates.mu.requires_grad:
            kinds["gates"].append(("gates.mu", self.gated.gates.mu))
        for name, parameter in plain_model(self.gated.model).named_parameters():
            if not parameter.requires_grad:
                continue
            is_head = any(name.startswith(f"{head}.") for head in heads)
            rest = "base" if self.options.train_base else "biases"
            kind = "lora" if "lora_" in name else "head" if is_head else rest
            kinds[kind].append((name, parameter))
        return kinds

    def head_state(self) -> dict[str, Tensor]:
        """Head and trained biases by the plain model's names, copies."""
        kinds = self.parameters()
        return {
            name.replace(".base_layer.", "."): parameter.detach().clone()
            for name, parameter in (*kinds["head"], *kinds["biases"])
        }


def prepare(options: TrainOptions, base: BaseModel | None = None) -> Training:
    """Read the base, if not given, and the data, and build the gated model from the seed.

    Raises:
        InputError: base, data or adapter cannot be used.
        UnsupportedError: a family that is not supported.
    """
    base = base or find_base(options.base)
    config = base.config()
    family = base.family()
    structure = family.structure(config)
    refusal = family.width_refusal(config) if options.width_gate else None
    if refusal:
        raise UnsupportedError(
            f"{base.id}: the residual width of this model cannot be gated: {refusal}; omit --width-gate"
        )
    task = task_of(options.task)
    base.check_task(task.name)
    pooling = None
    if task.pools:
        pooling = find_pooling(options.pooling, options.normalize, base.id, base.folder)
    data = read_data(source_of(options))
    data = LabelledData(
        limit_rows(data.train, options.max_train_rows, options.seed, named_labels=task.named_labels), data.evaluation
    )
    labels = _labels(task, data, _base_labels(config))
    train_labels = encode_labels(data.train, options.task, labels, "training")
    eval_labels = encode_labels(data.evaluation, options.task, labels, "evaluation")
    preprocessor = base.preprocessor(task.name)
    max_length = allowed_length(options, base.id, family.max_length(config))
    names = family.input_names(config)
    text, texts = _texts(base, config, Reading(task, preprocessor, max_length, names), data.evaluation)
    train_rows = make_examples(task.name, preprocessor, data.train, train_labels, max_length, names)
    if task.images:
        _check_images(base, config, train_rows)
    if options.compares_rows:
        _check_groups(options, train_rows)
    torch.manual_seed(options.seed)
    model = base.load(task.name, labels, pooling)
    gated = GatedModel(
        _trainable(model, structure, base, labels, options, train_rows),
        structure,
        options.layout,
        width=options.width_gate,
        noise_sigma=options.noise_sigma if options.presses else 0.0,
        seed=options.seed,
    )
    if task.generates:
        postpone_head(gated)
    if options.objective == "magnitude":
        gated.gates.mu.requires_grad_(False)
    for parameter in gated.parameters():
        if parameter.requires_grad:  # trained tensors move out of a shared base's memory
            parameter.data = parameter.data.clone()
    return Training(
        options=options,
        base=base,
        family=family,
        structure=structure,
        preprocessor=preprocessor,
        labels=labels,
        pooling=pooling,
        gated=gated,
        data=data,
        train_rows=train_rows,
        eval_rows=make_examples(task.name, preprocessor, data.evaluation, eval_labels, max_length, names),
        max_length=max_length,
        text=text,
        texts=texts,
        teacher=_teacher(options, gated, labels, None if task.images else preprocessor.get_vocab()),
    )


def _texts(
    base: BaseModel, config: ModelConfig, reading: Reading, rows: Rows
) -> tuple[TextInputs | None, list[SampleText]]:
    """How texts are read, and some of them; a tokenizer that a bundle could not follow is refused."""
    if reading.task.images:
        return None, []
    tokenizer = reading.preprocessor
    check_embeddings(base.id, tokenizer, config.vocab_size)
    how, texts = text_inputs_of(tokenizer, reading.max_length), sample_texts(reading, rows)
    check_reading(base.id, tokenizer, reading.task, reading.names, how, texts)
    return how, texts


def _teacher(
    options: TrainOptions, student: GatedModel, labels: tuple[str, ...], vocabulary: dict[str, int] | None
) -> Teacher | None:
    if options.teacher is None:
        return None
    run = read_run(options.teacher)
    check_teacher(run, task=options.task, labels=labels, vocabulary=vocabulary)
    weights = DistillationWeights(options.distill_logits, options.distill_hidden, options.distill_temperature)
    return Teacher(run, student, weights)


def _labels(task: Task, data: LabelledData, base_labels: tuple[str, ...]) -> tuple[str, ...]:
    """Label names; empty for tasks without."""
    if not task.named_labels:
        return ()
    labels = label_names(data.train, base_labels)
    if len(labels) < task.fewest_labels or (task.one_label and len(labels) > len(data.train)):
        raise InputError(
            f"{len(data.train)} training rows with {len(labels)} labels; {task.name} needs {task.fewest_labels} or "
            "more, each with rows of its own"
        )
    return labels


def _check_groups(options: TrainOptions, rows: Examples) -> None:
    if len(set(rows.groups or ())) == len(rows):
        raise InputError(
            f"{options.data}: no query has two passages among the {len(rows)} training rows, but --ranking-loss margin "
            "compares the passages of a query; give several rows with the same query, or use --ranking-loss mse"
        )


def _check_images(base: BaseModel, config: ModelConfig, rows: Examples) -> None:
    made = tuple(rows.collate([0])[0][PIXELS].shape[1:])
    if made != image_shape(config):
        raise InputError(
            f"{base.id}: the image processor makes images of shape {made}, but config.json asks for "
            f"{image_shape(config)}; restore the base's own preprocessor_config.json"
        )


def _trainable(
    model: Any,
    structure: Structure,
    base: BaseModel,
    labels: tuple[str, ...],
    options: TrainOptions,
    rows: Examples,
) -> Any:
    """Freeze the base; unfreeze the head, LoRA and, by option, the gated biases, or everything."""
    if options.train_base:
        return model.requires_grad_(True)
    heads = _trained_heads(model, base.family(), options)
    wrapped, brought = with_lora(model.requires_grad_(False), structure, base, labels, options, rows)
    plain: nn.Module = plain_model(wrapped)
    for head in heads:
        plain.get_submodule(head).requires_grad_(True)
    if options.train_biases:
        for name in structure.linears():
            linear: Any = plain.get_submodule(name)
            bias = getattr(linear, "base_layer", linear).bias
            if bias is not None:
                bias.requires_grad_(True)
    check_kept(plain, brought, options)
    return wrapped


def _trained_heads(model: Any, family: Family, options: TrainOptions) -> tuple[str, ...]:
    """A task's head is new and trains; a language model's belongs to the base and is frozen unless --train-head."""
    if task_of(options.task).generates:
        if not options.train_head:
            return ()
        head = model.get_output_embeddings()
        if head.weight is model.get_input_embeddings().weight:
            raise InputError(
                f"train-head: the head of {options.base} is its embeddings (tie_word_embeddings), which are frozen; "
                "omit --train-head"
            )
        return tuple(path for path, module in model.named_modules() if module is head)
    return family.head_modules(model)


def _base_labels(config: ModelConfig) -> tuple[str, ...]:
    """The base's labels in the order of its outputs; none if they have default names, or their number differs."""
    named = {int(output): label_name(label) for output, label in (config.id2label or {}).items()}
    unnamed = all(name.startswith(HUB_LABEL) for name in named.values())
    if unnamed or set(named) != set(range(len(named))):
        return ()
    return tuple(named[output] for output in range(len(named)))
