"""Tiny bases, runs and rows for tests; the models are those of `tests.tiny_models`.

base = tiny_base(folder / "base")                                  a BERT with a head and a tokenizer
run = tiny_run(folder / "run", base, "coupled", lora=LORA)         a run folder as training writes it, untrained
rows = tiny_rows(folder / "rows")                                  labelled text as TSV

"""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from finegates_export.common.tasks import NO_LABEL, Task, task_of
from finegates_export.common.tasks.pooling import Pooling
from finegates_export.common.text_inputs import TextInputs
from finegates_export.families.residual import ResidualMap, residual_map
from finegates_export.families.structure import Structure, UnitGroup
from finegates_export.gates.adapter import LoraSettings, add_lora, save_adapter
from finegates_export.gates.bank import GateBank
from finegates_export.gates.gated_model import plain_model
from finegates_export.gates.layout import WIDTH_GATE, build_layout
from finegates_export.sources.base import find_base
from finegates_export.sources.run_folder import ADAPTER_FOLDER, RunInfo, write_run
from finegates_export.sources.sample_texts import SampleText
from finegates_export.sources.tokenizer import text_inputs_of
from finegates_trainer.data.rows import Rows
from finegates_trainer.data.sample_texts import sample_texts
from finegates_trainer.data.tokenizing import Reading
from tests.tiny_models import IMAGE, IMAGE_VARIANTS, MAX_LENGTH, redraw, stored_model

LORA = LoraSettings(rank=3, alpha=6.0)
FRACTIONS = {"qk": 0.3, "vo": 0.3, "ffn": 0.4, "heads": 0.25, "residual": 0.2}
"""Closed shares by kind: Q/K dims, V/O dims, neurons, whole heads, and (matrix) dims of the residual sides."""

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
OPINIONS = (("awful", "poor", "sad"), ("plain", "usual", "so"), ("great", "lovely", "fine"), ("odd", "new", "blue"))
"""Words that carry a row's label, by label."""
LABELS = ("bad", "medium", "nice", "other")
FILLERS = ("the", "a", "film", "play", "song", "story", "was", "is", "very", "and", "rather", "told", "ending", ".")
QUERIES = tuple("abcdefghijklmnopqrstuvwx")
PIECES = ("##s", "##ed", "##ing", "##ly")
COMPANIONS = ("tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")
"""What a run folder keeps of its base: what reads the input."""
MEAN = Pooling("mean", normalize=True)


def hasten_measurements(monkeypatch: Any, folder: Path) -> None:
    """Let layers and whole models be timed for a moment only, results kept in `folder`: real files, vague figures."""
    from functools import partial

    from finegates_export.costs import int8_judge, layer_costs, speed_probe
    from finegates_export.costs.timing.block_times import Precision

    monkeypatch.setenv("FINEGATES_CACHE", str(folder / "cache"))
    brief = Precision(half_width=0.9, seconds=0.1)
    monkeypatch.setattr(layer_costs, "measure_layer_costs", partial(layer_costs.measure_layer_costs, precision=brief))
    monkeypatch.setattr(int8_judge, "PRECISION", brief)
    monkeypatch.setattr("finegates_trainer.objectives.speed_budget.MOST_TIMINGS", 2)
    monkeypatch.setattr(speed_probe, "SpeedProbe", partial(speed_probe.SpeedProbe, seconds=0.1, processes=2))


def tiny_base(
    folder: Path, variant: str = "bert", *, seed: int = 0, dtype: torch.dtype = torch.float32, **config: Any
) -> Path:
    """Write a base of one variant with a classification head (regression for one label) and what reads its input."""
    model = stored_model(variant, seed=seed, **config)
    model.to(dtype).save_pretrained(folder, safe_serialization=True)
    if variant in IMAGE_VARIANTS:
        tiny_image_processor().save_pretrained(folder)
    else:
        tiny_tokenizer().save_pretrained(folder)
    return folder


def tiny_image_processor() -> Any:
    """An image processor for the size of the tiny models' images."""
    from transformers import ViTImageProcessorPil

    return ViTImageProcessorPil(size={"height": IMAGE, "width": IMAGE})


def tiny_tokenizer() -> Any:
    """A lower-casing WordPiece tokenizer over the words of `tiny_rows`."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    letters = [chr(code) for code in range(ord("a"), ord("z") + 1)]
    words = [*SPECIAL, *FILLERS, *(word for group in OPINIONS for word in group), *PIECES]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys([*words, *letters]))}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106  # not a password
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")],
    )
    names = {f"{token[1:-1].lower()}_token": token for token in SPECIAL}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_max_length=2 * MAX_LENGTH,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **names,
    )


def tiny_rows(folder: Path, *, rows: int = 96, labels: int = 3) -> Path:
    """Write `rows.tsv` with the columns `text` and `label`, in which a word of the text tells the label."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.tsv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("text", "label"))
        writer.writerows((text, LABELS[label]) for text, label in labelled_texts(rows, labels))
    return path


def write_pairs(path: Path) -> Path:
    """Write JSON lines with `query`, `passage` and `label`: three passages a query, one of them relevant."""
    rows = [
        {"query": f"film {query}", "passage": f"the play was {words[0]}", "label": int(words == OPINIONS[2])}
        for query in QUERIES
        for words in OPINIONS[:3]
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def labelled_texts(rows: int, labels: int = 3) -> list[tuple[str, int]]:
    """Texts of 1 to 13 words, no two alike in a row, and their labels; the same at every call."""
    generator = torch.Generator().manual_seed(11)
    texts = []
    for row in range(rows):
        label = row % labels
        length = int(torch.randint(0, 13, (), generator=generator))
        words = [FILLERS[int(i)] for i in torch.randint(len(FILLERS), (length,), generator=generator)]
        opinion = OPINIONS[label][int(torch.randint(3, (), generator=generator))]
        words.insert(int(torch.randint(length + 1, (), generator=generator)), opinion)
        texts.append((" ".join(words), label))
    return texts


def tiny_run(
    folder: Path,
    base: Path,
    layout: str,
    *,
    task: str | None = None,
    lora: LoraSettings | None = None,
    width: bool = False,
    gates: Mapping[str, float] | Mapping[str, Tensor] | None = None,
    samples: int = 24,
    seed: int = 1,
    pooling: Pooling = MEAN,
) -> Path:
    """Write a run folder without training: random head, random LoRA on every linear, random fractional gates.

    Args:
        folder: where the run goes.
        base: a folder of `tiny_base`.
        layout: matrix, coupled or none.
        task: what the run is for; classification, or regression for a base with one label, where None.
        lora: what adapter to make; none where None.
        width: gate the residual width too.
        gates: closed shares by kind (see `FRACTIONS`, the default), or the gate vectors themselves.
        samples: evaluation rows to keep in the run; none where 0.
        seed: of everything random.
        pooling: of an embedding.
    """
    folder.mkdir(parents=True)
    found = find_base(str(base))
    config, family = found.config(), found.family()
    structure = family.structure(config)
    kind = task_of(task or ("classification" if config.num_labels > 1 else "regression"))
    labels = LABELS[: max(2, config.num_labels)] if kind.named_labels else ()
    pooled = pooling if kind.pools else None
    model = found.load(kind.name, labels, pooled)
    for number, path in enumerate(family.head_modules(model)):
        redraw(model.get_submodule(path), seed + 100 + number)
    heads = tuple(f"{path}." for path in family.head_modules(model))
    head = {name: value.detach().clone() for name, value in model.named_parameters() if name.startswith(heads)}
    if lora is not None:
        save_adapter(tiny_lora(model, structure.linears(), lora, seed), folder / ADAPTER_FOLDER)
    residual = residual_map(model, structure) if width else None
    given = dict(FRACTIONS if gates is None else gates)
    drawn = all(isinstance(value, Tensor) for value in given.values()) and given
    vectors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
    if not drawn:
        shares = {kind: value for kind, value in given.items() if not isinstance(value, Tensor)}
        vectors = random_gates(structure, layout, shares, seed, residual)
    bank = GateBank(build_layout(layout, structure, residual), structure)
    bank.load_vectors(vectors)
    for name in COMPANIONS:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
    if not kind.images:
        found.preprocessor(kind.name).save_pretrained(
            folder
        )  # as training does: some families split words their own way
    metric = "accuracy" if kind.one_label else "pearson" if kind.name == "regression" else "agreement"
    info = RunInfo(
        base_id=str(base),
        base_revision=None,
        base_tensors=found.tensor_hashes(),
        family=family.name,
        layout=layout,
        task=kind.name,
        labels=labels,
        max_length=MAX_LENGTH,
        removed=bank.closed_share(),
        metric=metric,
        metrics={metric: 0.5},
        trained_parameters={"gates": len(bank)},
        data={},
        options={},
        command="tests/tiny.py",
        steps=0,
        pooling=pooled.mode if pooled else None,
        normalize=pooled is not None and pooled.normalize,
    )
    how, texts = (None, []) if kind.images else tiny_texts(kind, folder, family.input_names(config))
    info = replace(info, text=None if how is None else how.to_json())
    kept = tiny_samples(kind, samples) if samples else None
    write_run(folder, info, gates=vectors, head=head, samples=kept, texts=texts if samples else ())
    return folder


def tiny_texts(task: Task, folder: Path, names: tuple[str, ...]) -> tuple[TextInputs, list[SampleText]]:
    """How a run of the task reads texts with the tokenizer in a folder, and some of them; pairs where it may."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [text for text, _ in labelled_texts(12)]
    whole = [text.split() for text in texts] if task.reads_words else texts
    pairs = None if task.reads_words or task.generates else texts[::-1]
    rows = Rows(whole, pairs, [None] * len(texts))
    reading = Reading(task, tokenizer, MAX_LENGTH, names)
    return text_inputs_of(tokenizer, MAX_LENGTH), sample_texts(reading, rows)


def tiny_lora(model: Any, linears: tuple[str, ...], settings: LoraSettings, seed: int) -> Any:
    """Wrap a model with an adapter whose A and B are both random: peft starts B at 0."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        wrapped = add_lora(model, linears, settings)
    adapters = nn.Module()
    for name, parameter in plain_model(wrapped).named_parameters():
        if "lora_" in name:
            adapters.register_parameter(name.replace(".", "/"), parameter)
    redraw(adapters, seed)
    return wrapped


def tiny_samples(task: Task, rows: int) -> dict[str, Tensor]:
    """Evaluation rows as a run of the task keeps them: text tokenized and right-padded, labels in the task's form."""
    texts = labelled_texts(rows)
    truth = torch.tensor([label for _, label in texts])
    if task.images:
        generator = torch.Generator().manual_seed(7)
        return {"pixel_values": torch.randn(rows, 3, IMAGE, IMAGE, generator=generator), "labels": truth}
    encoded = tiny_tokenizer()([text for text, _ in texts], padding=True, return_tensors="pt")
    inputs = {name: encoded[name].contiguous() for name in encoded}
    lengths = inputs["attention_mask"].sum(1)
    labels = {
        "classification": truth,
        "multi-label": torch.nn.functional.one_hot(truth, 3).float(),
        "regression": truth.float(),
        "reranking": truth.clamp(max=1).float(),
        "token-classification": torch.where(inputs["attention_mask"].bool(), truth[:, None], NO_LABEL),
        "question-answering": torch.stack([torch.ones_like(lengths), lengths - 1], 1),
    }
    return {**inputs, "labels": labels[task.name]} if task.name in labels else inputs


def random_gates(
    structure: Structure,
    layout: str,
    closed: Mapping[str, float],
    seed: int,
    residual: ResidualMap | None = None,
) -> dict[str, Tensor]:
    """Random gate vectors: of every kind exactly the given share is closed, all others are fractional or open.

    Args:
        structure: the model's linears and units.
        layout: matrix, coupled or none.
        closed: share by kind; a kind that is not named is open. A matrix unit is closed on one side or the other.
        seed: of the draw.
        residual: where the residual width is, to gate it too; `closed["width"]` is its share.
    """
    bank = GateBank(build_layout(layout, structure, residual), structure)
    generator = torch.Generator().manual_seed(seed)
    vectors = {name: torch.rand(len(mu), generator=generator) - 0.3 for name, mu in bank.vectors().items()}
    if not vectors:
        return {}
    for group in structure.groups():
        units = group.width if group.tied else group.size
        for unit in _draw(units, closed.get(group.kind, 0.0), generator):
            _close_unit(vectors, layout, group, unit, generator)
        if group.kind == "vo":
            for number in _draw(group.heads, closed.get("heads", 0.0), generator):
                _close_head(vectors, layout, group, number, generator)
    for name in _residual_gates(vectors, layout, structure):
        vectors[name][_draw(structure.hidden_size, closed.get("residual", 0.0), generator)] = -0.8
    if residual is not None:
        vectors[WIDTH_GATE][_draw(structure.hidden_size, closed.get("width", 0.25), generator)] = -0.7
    return vectors


def _draw(size: int, share: float, generator: torch.Generator) -> list[int]:
    count = round(size * share)
    return [int(i) for i in torch.randperm(size, generator=generator)[:count]]


def _close_unit(
    vectors: dict[str, Tensor], layout: str, group: UnitGroup, unit: int, generator: torch.Generator
) -> None:
    if layout == "coupled":
        vectors[f"layers.{group.layer}.{group.kind}"][unit] = -0.5 - float(torch.rand((), generator=generator))
        return
    chosen = int(torch.randint(len(group.sides), (), generator=generator))
    head, dim = divmod(unit, group.width)
    heads = slice(None) if group.tied else slice(head, head + 1)
    for side in group.sides if group.needs_all else group.sides[chosen : chosen + 1]:
        rows = torch.arange(group.rows(side)).view(group.axes(side))[heads, ..., dim].flatten()
        vectors[side.name][rows] = -0.5 - float(torch.rand((), generator=generator))


def _close_head(
    vectors: dict[str, Tensor], layout: str, group: UnitGroup, head: int, generator: torch.Generator
) -> None:
    if layout == "coupled":
        vectors[f"layers.{group.layer}.heads"][head] = -0.9
        return
    for unit in range(head * group.width, (head + 1) * group.width):
        _close_unit(vectors, layout, group, unit, generator)


def _residual_gates(vectors: dict[str, Tensor], layout: str, structure: Structure) -> list[str]:
    if layout != "matrix":
        return []
    names = [side.other.name for group in structure.groups() for side in group.sides]
    return [name for name in dict.fromkeys(names) if name in vectors]
