"""Where LoRA starts: from nothing, from a peft adapter, or from an unpruned run, whose head comes along."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from torch import nn

from finegates_export.errors import InputError
from finegates_export.families.structure import Structure
from finegates_export.gates.adapter import LoraSettings, add_lora, check_as_peft, load_adapter
from finegates_export.gates.stored_adapter import StoredAdapter, read_adapter
from finegates_export.sources.assemble import check_base, load_head
from finegates_export.sources.base import BaseModel
from finegates_export.sources.run_folder import RUN_JSON, Run, read_run
from finegates_trainer.data.examples import Examples
from finegates_trainer.options import TrainOptions

SHAPE_OPTIONS = {
    "lora_rank": "r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout", "rslora": "use_rslora",
    "dora": "use_dora",
}  # fmt: skip
"""Options that an adapter already fixes, and their names in peft's config."""


CHECKED_ROWS = 4
"""Training rows on which an adapter's answers are compared with those of peft's own model."""


def with_lora(
    model: Any,
    structure: Structure,
    base: BaseModel,
    labels: tuple[str, ...],
    options: TrainOptions,
    rows: Examples,
) -> tuple[Any, tuple[str, ...]]:
    """The frozen model with trainable LoRA, or unchanged if the options ask for none.

    Args:
        model: the plain model; it may be changed.
        structure: its gated linears.
        base: the base it was loaded from.
        labels: label names of the rows, in order.
        options: the run's options.
        rows: the training rows.

    Returns:
        The model, and the names of the plain model's tensors that came with the adapter; see `check_kept`.

    Raises:
        InputError: `options.adapter` does not fit the base, the task, the labels or other options.
        RunFolderError: it is a run on another base, or damaged.
        UnsupportedError: it is not plain LoRA.
    """
    if options.adapter is None:
        return _with_new_lora(model, structure, options), ()
    if (options.adapter / RUN_JSON).is_file():
        run = read_run(options.adapter)
        stored = read_adapter(_adapter_of(run, base, labels, options))
        _check_same_lora(stored, options)
        load_head(model, run.head)
        return load_adapter(model, stored, trainable=True), tuple(run.head)
    stored = read_adapter(options.adapter)
    _check_same_lora(stored, options)
    plain = copy.deepcopy(model)
    load_head(model, stored.other)
    wrapped = load_adapter(model, stored, trainable=True)
    inputs, _ = rows.collate(range(min(CHECKED_ROWS, len(rows))))
    check_as_peft(plain, wrapped, options.adapter, stored, inputs)
    return wrapped, tuple(stored.other)


def check_kept(model: nn.Module, brought: tuple[str, ...], options: TrainOptions) -> None:
    """Refuse to start from tensors that the run would not train: it would not write them either.

    Args:
        model: the plain model, with trained parameters unfrozen.
        brought: tensors that `with_lora` found besides LoRA.
        options: the run's options.

    Raises:
        InputError: something would be lost.
    """
    trained = {name.replace(".base_layer.", ".") for name, each in model.named_parameters() if each.requires_grad}
    lost = sorted(set(brought) - trained)
    if lost:
        raise InputError(
            f"adapter: {options.adapter} brings {len(lost)} tensors that this run neither trains nor keeps (first: "
            f"{lost[0]}); train them here too, biases with --train-biases, a language model's head with --train-head"
        )


def _check_same_lora(stored: StoredAdapter, options: TrainOptions) -> None:
    """Refuse LoRA options that contradict the adapter; defaults do not count."""
    for name, peft_name in SHAPE_OPTIONS.items():
        asked, own = getattr(options, name), stored.settings[peft_name]
        if asked not in (own, getattr(TrainOptions, name)):
            flag = name.replace("_", "-")
            raise InputError(
                f"{flag}: {asked} was requested, but the adapter {options.adapter} has {own}, which it keeps; omit "
                f"--{flag}, or start without --adapter"
            )


def _with_new_lora(model: Any, structure: Structure, options: TrainOptions) -> Any:
    if not options.lora_rank:
        return model
    linears = tuple(name for layer in structure.layers for name in _lora_linears(layer, options))
    settings = LoraSettings(
        options.lora_rank, options.lora_alpha, options.lora_dropout, rslora=options.rslora, dora=options.dora
    )
    return add_lora(model, linears, settings)


def _lora_linears(layer: Any, options: TrainOptions) -> list[str]:
    """A gated network's `up` are both linears that read its input."""
    roles, factor = layer.roles(), layer.feed_forward.factor
    beside_up = [factor.linear] if factor and "up" in options.lora_on else []
    return list(dict.fromkeys([*(roles[name] for name in options.lora_on), *beside_up]))


def _adapter_of(run: Run, base: BaseModel, labels: tuple[str, ...], options: TrainOptions) -> Path:
    """The adapter of a run that another run can start from."""
    if run.info.layout != "none":
        raise InputError(f"adapter: {run.folder} has gates, which would be lost; start from a run with --layout none")
    if run.adapter is None:
        raise InputError(f"adapter: {run.folder} was trained without LoRA; start from a run with LoRA")
    if (run.info.task, run.info.labels) != (options.task, labels):
        raise InputError(
            f"adapter: {run.folder} was trained for {run.info.task} with the labels {list(run.info.labels)}, these "
            f"rows are {options.task} with {list(labels)}; start from a run on the same task and labels, or from the "
            f"folder {run.adapter}, which holds no head"
        )
    check_base(run, base)
    return run.adapter
