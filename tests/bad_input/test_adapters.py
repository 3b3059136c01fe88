"""Adapters from strangers: each is the model that peft makes of it, or refused by what it is."""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from finegates_export import ExportOptions, export, load
from finegates_export.errors import FineGatesError, InputError, UnsupportedError
from finegates_export.gates.adapter import check_as_peft, load_adapter
from finegates_export.gates.stored_adapter import KEEPS_BASE, read_adapter
from finegates_export.sources.assemble import load_head
from finegates_export.sources.base import find_base
from finegates_trainer import TrainOptions, train
from tests.tiers import tiered
from tests.tiny import LABELS, labelled_texts, tiny_base, tiny_tokenizer

TEXTS = [text for text, _ in labelled_texts(6)]


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its head has a linear named as those of its layers are: `dense`."""
    return tiny_base(tmp_path_factory.mktemp("roberta") / "base", "roberta")


def _inputs() -> dict[str, torch.Tensor]:
    batch = tiny_tokenizer()(TEXTS, padding=True, return_tensors="pt")
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def _model(base: Path) -> Any:
    return find_base(str(base)).load("classification", LABELS[:3])


def _saved(base: Path, folder: Path, **settings: Any) -> Any:
    """Save an adapter with random weights, made by peft; its model."""
    torch.manual_seed(1)
    asked = {"r": 4, "target_modules": ["query", "value"], "task_type": "SEQ_CLS", **settings}
    model = peft.get_peft_model(_model(base), peft.LoraConfig(**asked))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.normal_(0, 0.2)
    model.eval().save_pretrained(folder)
    return model


def _edit(folder: Path, **values: Any) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def _loaded(base: Path, folder: Path) -> torch.Tensor:
    """The logits of the model with the adapter, which was held against peft's own."""
    stored, plain, model = read_adapter(folder), _model(base), _model(base)
    load_head(model, stored.other)
    wrapped = load_adapter(model, stored)
    check_as_peft(plain, wrapped, folder, stored, _inputs())
    with torch.no_grad():
        return wrapped.eval()(**_inputs()).logits  # type: ignore[no-any-return]


TAKEN: dict[str, dict[str, Any]] = {
    "plain": {},
    "a name that the head has too": {"target_modules": ["query", "value", "dense"]},
    "all-linear": {"target_modules": "all-linear"},
    "a pattern": {"target_modules": r".*\.layer\.[01]\.attention\.self\.(query|key)"},
    "one layer": {"layers_to_transform": [1]},
    "excluded modules": {"exclude_modules": ["0.attention.self.query"]},
    "ranks and scales of their own": {
        "rank_pattern": {"query": 2, "1.attention.self.value": 3}, "alpha_pattern": {"value": 16},
    },
    "rank-stabilized": {"use_rslora": True},
    "DoRA": {"use_dora": True},
    "biases of LoRA": {"lora_bias": True},
    "orthogonal": {"init_lora_weights": "orthogonal"},
    "MiCA": {"init_lora_weights": "mica"},
    "without a task": {"task_type": None},
    "LoRA on the head": {"task_type": None, "target_modules": ["query", "out_proj"]},
    "the head's inner linear alone": {"modules_to_save": ["classifier"], "task_type": None},
}  # fmt: skip


@pytest.mark.parametrize("name", TAKEN)
def test_an_adapter_is_the_model_that_peft_makes_of_it(roberta: Path, tmp_path: Path, name: str) -> None:
    wanted = _saved(roberta, tmp_path, **TAKEN[name])
    with torch.no_grad():
        difference = (_loaded(roberta, tmp_path) - wanted(**_inputs()).logits).abs().max().item()
    assert difference < 1e-5
    file = tmp_path / "adapter_model.safetensors"
    tensors = load_file(file)
    save_file({key: value + 0.1 if "lora_B" in key else value for key, value in tensors.items()}, file)
    with torch.no_grad():
        assert (_loaded(roberta, tmp_path) - wanted(**_inputs()).logits).abs().max() > 1e-3


def _inits() -> Iterator[Any]:
    """Every initialisation in peft's own list."""
    (field,) = (one for one in dataclasses.fields(peft.LoraConfig) if one.name == "init_lora_weights")
    hints = typing.get_type_hints(peft.LoraConfig, include_extras=True)[field.name]
    for part in typing.get_args(hints):
        yield from (True, False) if part is bool else typing.get_args(part)
    yield "lora_ga"


@pytest.mark.parametrize("init", list(_inits()))
def test_an_initialisation_is_taken_only_if_it_leaves_the_base_as_it_was(base: Path, tmp_path: Path, init: Any) -> None:
    _saved(base, tmp_path)
    _edit(tmp_path, init_lora_weights="pissa_niter_4" if init == "pissa_niter_[number of iters]" else init)
    if init in KEEPS_BASE:
        before = {name: value.clone() for name, value in _model(base).state_dict().items()}
        model = _model(base)
        peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["query"], init_lora_weights=init))
        after = {name.replace(".base_layer", ""): value for name, value in model.state_dict().items()}
        assert all(torch.equal(after[name], value) for name, value in before.items())
        read_adapter(tmp_path)
    else:
        with pytest.raises(UnsupportedError, match="which changes the base; convert it to plain LoRA"):
            read_adapter(tmp_path)


def _tensors(change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def act(folder: Path) -> None:
        file = folder / "adapter_model.safetensors"
        save_file(change(load_file(file)), file)

    return act


def _several(folder: Path) -> None:
    for name in ("de", "en"):
        (folder / name).mkdir()
        (folder / name / "adapter_config.json").write_text("{}")
    (folder / "adapter_config.json").unlink()


CATASTROPHIC = "(([a-z.0-9]+)+)+Q"
REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a later initialisation": (lambda f: _edit(f, init_lora_weights="svd_next"), "svd_next, which changes the base"),
    "an initialisation of another type": (lambda f: _edit(f, init_lora_weights={"a": 1}), "which changes the base"),
    "a later field": (lambda f: _edit(f, use_next=True), "use_next is True, which makes the adapter more than plain"),
    "activated LoRA": (lambda f: _edit(f, alora_invocation_tokens=[1]), "alora_invocation_tokens is"),
    "trained tokens": (lambda f: _edit(f, trainable_token_indices=[1]), "trainable_token_indices is"),
    "layers twice": (lambda f: _edit(f, layer_replication=[[0, 2]]), "layer_replication is"),
    "KaSA": (lambda f: _edit(f, kasa_config={"beta": 1}), "kasa_config is"),
    "another method": (lambda f: _edit(f, peft_type="LOHA"), "is a LOHA adapter; only LoRA"),
    "a method of no name": (lambda f: _edit(f, peft_type=["LORA"]), "only LoRA can be folded"),
    "a rank in words": (lambda f: _edit(f, r="4"), "r is '4', not a whole number"),
    "a rank of none": (lambda f: _edit(f, r=0), "not a positive number"),
    "another rank": (lambda f: _edit(f, r=8), "the rank 8, but its tensors have 4"),
    "a scale in words": (lambda f: _edit(f, lora_alpha="8"), "lora_alpha is '8'"),
    "an endless scale": (lambda f: _edit(f, lora_alpha=float("inf")), "not a positive number"),
    "a scale by pattern": (lambda f: _edit(f, alpha_pattern={CATASTROPHIC: 2}), "patterns are not taken"),
    "a rank by pattern": (lambda f: _edit(f, rank_pattern={CATASTROPHIC: 2}), "patterns are not taken"),
    "ranks in a list": (lambda f: _edit(f, rank_pattern=[1]), r"rank_pattern is \[1\], not an object"),
    "saved modules by pattern": (lambda f: _edit(f, modules_to_save=[CATASTROPHIC]), "patterns are not taken"),
    "saved modules in words": (lambda f: _edit(f, modules_to_save="classifier"), "not a list of names"),
    "a saved head that is missing": (
        _tensors(lambda t: {name: value for name, value in t.items() if "lora_" in name}),
        "modules_to_save say that classifier.* was trained, but it holds no such tensor",
    ),
    "a module that is missing": (
        _tensors(lambda t: {name: value for name, value in t.items() if "1.attention.self.value" not in name}),
        "would load as zeros",
    ),
    "half of a module": (
        _tensors(lambda t: {name: value for name, value in t.items() if "1.attention.self.value.lora_B" not in name}),
        "would load as zeros",
    ),
    "another prefix": (
        _tensors(lambda t: {name.replace("model.roberta", "model.bert"): value for name, value in t.items()}),
        "would load as zeros",
    ),
    "no prefix": (
        _tensors(lambda t: {name.replace("model.roberta.", "model."): value for name, value in t.items()}),
        "would load as zeros",
    ),
    "names of a state_dict": (
        _tensors(lambda t: {name.replace(".weight", ".default.weight"): value for name, value in t.items()}),
        "peft saves no tensor .*default",
    ),
    "other shapes": (
        _tensors(lambda t: {name: value[:, :-1].clone() if "lora_A" in name else value for name, value in t.items()}),
        "does not fit the base model",
    ),
    "several adapters": (_several, "it holds the adapters de, en: give one of them"),
    "settings that are a list": (lambda f: _write(f, "[1]"), "holds a list, not an object"),
    "settings without end": (lambda f: _write(f, "[" * 100_000), "nested too deep"),
}  # fmt: skip


def _write(folder: Path, text: str) -> None:
    (folder / "adapter_config.json").write_text(text)


@pytest.mark.parametrize("name", REFUSED)
def test_an_adapter_that_is_more_or_less_than_plain_lora_is_refused_in_one_line(
    roberta: Path, tmp_path: Path, name: str
) -> None:
    change, says = REFUSED[name]
    _saved(roberta, tmp_path)
    change(tmp_path)
    with pytest.raises(FineGatesError, match=says) as caught:
        _loaded(roberta, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


def test_a_model_other_than_peft_s_is_seen(roberta: Path, tmp_path: Path) -> None:
    _saved(roberta, tmp_path)
    stored, model = read_adapter(tmp_path), _model(roberta)
    load_head(model, stored.other)
    wrapped = load_adapter(model, stored)
    model.get_submodule("roberta.encoder.layer.0.attention.self.query").base_layer.weight.data += 0.1
    with pytest.raises(InputError, match=r"peft's own model answers otherwise .* \(by up to"):
        check_as_peft(_model(roberta), wrapped, tmp_path, stored, _inputs())


def test_a_pattern_that_never_ends_is_not_followed(base: Path, tmp_path: Path) -> None:
    _saved(base, tmp_path)
    _edit(tmp_path, target_modules=CATASTROPHIC, exclude_modules=CATASTROPHIC)
    assert _loaded(base, tmp_path).isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("name", tiered(["a name that the head has too", "LoRA on the head", "biases of LoRA"], fast=1))
def test_a_bundle_of_an_adapter_is_peft_s_model(roberta: Path, rows: Path, tmp_path: Path, name: str) -> None:
    wanted = _saved(roberta, tmp_path / "adapter", **TAKEN[name])
    settings: dict[str, Any] = {"max_steps": 1, "learning_rate": 1e-12, "weight_decay": 0.0, "threads": 1}
    train(
        TrainOptions(
            base=str(roberta),
            data=str(rows),
            out=tmp_path / "run",
            layout="none",
            adapter=tmp_path / "adapter",
            **settings,
        )
    )
    export(ExportOptions(ckpt=tmp_path / "run", out=tmp_path / "bundle", threads=1))
    with torch.no_grad():
        logits = wanted(**_inputs()).logits
    assert (torch.tensor(load(tmp_path / "bundle", threads=1).logits(TEXTS)) - logits).abs().max() < 1e-4
